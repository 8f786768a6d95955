//! The program `infera-gateway`: one gateway of a cluster, and an operator's commands on its ledger. This crate only
//! assembles parts.

pub mod cli;
pub mod es256;
mod groups;
mod keys;
mod operator;
mod poison;
pub mod tls;

use std::sync::Arc;

use infera_broker::measured::MeasuredBroker;
use infera_broker_rabbitmq::RabbitBroker;
use infera_ledger_postgres::{PostgresConfig, PostgresLedger, waiting};
use infera_mail::MailConfig;
use infera_mail_smtp::SmtpMailer;
use infera_operations::instruments::Instruments;
use infera_program::listen::ListenAddress;
use infera_program::{Failure, descriptors};
use infera_telemetry::traces;
use infera_types::shutdown::Shutdown;
use serde::{Deserialize, Serialize};

use infera_gateway::{Gateway, Listener, Mail, Seams};
use tls::{Tls, TlsConfig};

/// The file in which the program looks for its settings if none is named. It is the gateway's own: settings of other
/// roles, such as the archive's credentials, are refused.
pub const DEFAULT_FILE: &str = "infera-gateway.toml";

/// The whole configuration of `infera-gateway`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address at which clients connect. The default is on loopback, so that nothing is open to a network before
    /// its operator says so.
    pub listen: ListenAddress,
    /// The settings of TLS at that address.
    pub tls: TlsConfig,
    /// The message broker.
    pub broker: infera_broker_rabbitmq::Config,
    /// The ledger.
    pub ledger: PostgresConfig,
    /// The settings for letting in nodes from outside.
    pub nodes: es256::Config,
    /// The gateway.
    pub gateway: infera_gateway::Config,
    /// Mail, which proves addresses and brings lost keys back. Without these settings none is sent.
    pub mail: MailConfig,
    /// Metrics and readiness for operators.
    pub operations: infera_operations::Config,
    /// Logs.
    pub log: infera_telemetry::Config,
    /// Traces.
    pub traces: traces::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: ListenAddress::from(([127, 0, 0, 1], 8710)),
            tls: TlsConfig::default(),
            broker: infera_broker_rabbitmq::Config::default(),
            ledger: PostgresConfig::default(),
            nodes: es256::Config::default(),
            gateway: infera_gateway::Config::default(),
            mail: MailConfig::default(),
            operations: infera_operations::Config::default(),
            log: infera_telemetry::Config::default(),
            traces: traces::Config::default(),
        }
    }
}

/// The error of a listening address that can't be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "listen: {address}: {source}; stop what listens there, or choose another: --set listen=127.0.0.1:8711"
)]
struct Listen {
    address: ListenAddress,
    source: std::io::Error,
}

/// Serves until `shutdown`, then drains. If the broker is away, the gateway waits for it and accepts jobs meanwhile.
/// Without the ledger it can accept nothing, so it takes connections only once the ledger is there.
///
/// # Errors
/// What can't be used, and what to do about it.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Failure> {
    let Config { log, traces, operations, .. } = &config;
    let instruments = Instruments::start("infera-gateway", log, traces, operations).await?;
    config.gateway.check().map_err(Failure::settings)?;
    let descriptors = descriptors::raise();
    let tls = Tls::load(&config.tls).map_err(Failure::settings)?;
    let mailer = SmtpMailer::open(&config.mail).map_err(Failure::settings)?;
    let broker = RabbitBroker::start(&config.broker).map_err(Failure::settings)?;
    let Some(ledger) = waiting::ledger(&config.ledger, &shutdown).await.map_err(Failure::refused)? else {
        return Ok(());
    };
    let address = config.listen;
    let socket = address.bind().await;
    let socket = socket.map_err(|source| Failure::refused(Listen { address, source }))?;
    let admission = es256::open(&config.nodes, ledger.clone()).map_err(Failure::settings)?;
    let mail = mailer.map(|mailer| Mail::new(&ledger, mailer, config.mail));
    let seams = seams(ledger, broker);
    let mut gateway = match admission {
        Some(admission) => Gateway::admitting(config.gateway, seams, admission),
        None => Gateway::new(config.gateway, seams),
    };
    if let Some(mail) = mail {
        gateway = gateway.sending_mail(mail);
    }
    tracing::info!(gateway = %gateway.id(), address = %socket.local_addr()?, tls = tls.is_some(), "serves");
    let served = Shutdown::new();
    if let Some(tls) = tls.clone() {
        tokio::spawn(tls.keep_fresh(served.clone()));
    }
    let listener =
        Listener::from(socket).within(descriptors).with_acceptor(tls.map(|tls| Arc::new(tls) as _));
    instruments.watch(Arc::new(gateway.handle()), gateway.run(listener, shutdown)).await;
    served.cancel();
    Ok(())
}

/// Makes the gateway's seams out of a ledger and a broker.
fn seams(ledger: Arc<PostgresLedger>, broker: Arc<RabbitBroker>) -> Seams {
    Seams {
        intake: ledger.clone(),
        reader: ledger.clone(),
        batches: ledger.clone(),
        lists: ledger.clone(),
        accounts: ledger.clone(),
        keys: ledger.clone(),
        erasures: ledger.clone(),
        network: ledger.clone(),
        roster: ledger.clone(),
        node_reader: ledger.clone(),
        groups: ledger,
        broker: MeasuredBroker::new(broker),
    }
}
