//! The program `infera-worker`: one node on a machine of its own, which registers at a gateway and works for as long
//! as gateways let it. This crate only assembles parts: `registration` talks to gateways, and `infera_worker` answers
//! assignments.

mod machine;
pub mod registration;
mod watched;

use std::path::PathBuf;
use std::sync::Arc;

use infera_broker_rabbitmq::RabbitBroker;
use infera_engine::Engine;
use infera_engine_onnx::config::EngineConfig;
use infera_model::chat::ChatModel;
use infera_operations::instruments::Instruments;
use infera_program::Failure;
use infera_types::secret::Secret;
use infera_types::shutdown::Shutdown;
use infera_worker::{Seams, Worker, WorkerError};
use serde::{Deserialize, Serialize};

use registration::membership::{Membership, MembershipEnd};
use registration::readmitting::Readmitting;
use registration::{Admitted, NodeConfig, Registrar, RegistrationError};
use watched::Present;

/// The file in which the program looks for its settings if none is named.
pub const DEFAULT_FILE: &str = "infera-worker.toml";

/// The whole configuration of `infera-worker`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The URLs of gateways, such as `["https://gateway.example"]`. They are tried in turn.
    pub gateway: Vec<String>,
    /// The node's identity.
    pub node: NodeConfig,
    /// The settings of the connection to the broker, whose address a gateway tells.
    pub broker: BrokerConfig,
    /// The engine and the model that answer.
    pub engine: EngineConfig,
    /// The worker that answers assignments.
    pub worker: infera_worker::Config,
    /// Metrics and readiness.
    pub operations: infera_operations::Config,
    /// Logs.
    pub log: infera_telemetry::Config,
    /// Traces.
    pub traces: infera_telemetry::traces::Config,
}

/// The settings of a node's connection to the broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerConfig {
    /// The broker's address in place of the one that gateways tell, such as that of a tunnel:
    /// `amqps://host:port/vhost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// A PEM file of certificates that are trusted in addition to the system's, for `amqps://`. Without it, only the
    /// system's are trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The time after which a publish without an answer ends with an unknown outcome, in milliseconds. The default is
    /// that of all programs.
    pub publish_timeout_ms: u64,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        let publish_timeout_ms = infera_broker_rabbitmq::Config::default().publish_timeout_ms;
        Self { url: None, ca_file: None, publish_timeout_ms }
    }
}

/// How one stay in the network ended.
enum Stay {
    /// The program was told to end.
    Over,
    /// Gateways have another queue for the node, so the node has to be let in again.
    Moved,
}

/// Serves until `shutdown`, then drains. Operators can observe it all the time.
///
/// # Errors
/// What can't be used, who refuses the node, or what broke, and what to do about it.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Failure> {
    let Config { log, traces, operations, .. } = config.clone();
    let instruments = Instruments::start("infera-worker", &log, &traces, &operations).await?;
    let (present, mut worked) = (Present::default(), Ok(()));
    let watched = Arc::new(present.clone());
    let working = async { worked = Box::pin(serve(config, &present, &shutdown)).await };
    instruments.watch(watched, working).await;
    worked
}

async fn serve(config: Config, present: &Present, shutdown: &Shutdown) -> Result<(), Failure> {
    let registrar = Registrar::new(&config.gateway, config.node.clone()).map_err(Failure::settings)?;
    let mistakes = config.worker.mistakes();
    if !mistakes.is_empty() {
        return Err(Failure::settings(WorkerError::Config(mistakes)));
    }
    let chat = Arc::new(ChatModel::load(&config.engine.folder).map_err(Failure::refused)?);
    let node = Node { config, registrar, chat, present };
    loop {
        // The engine is loaded before the node is let in, because a node can't answer while it loads.
        let engine = load(&node.config.engine).await?;
        node.registrar.serves([engine.description().numeric_class.model_digest]);
        let Some(admitted) = node.registrar.until_admitted(shutdown).await.map_err(refused)? else {
            return Ok(());
        };
        tracing::info!(node = %admitted.node, queue = admitted.queue, broker = admitted.broker_url, "let in");
        match node.stay(admitted, engine, shutdown).await? {
            Stay::Over => return Ok(()),
            Stay::Moved => tracing::warn!("gateways have another queue for this node; beginning again"),
        }
    }
}

/// The parts that all stays of the node share.
struct Node<'a> {
    config: Config,
    registrar: Registrar,
    chat: Arc<ChatModel>,
    present: &'a Present,
}

impl Node<'_> {
    /// Works and renews the membership until one of the two ends, then ends the other one too.
    async fn stay(
        &self,
        admitted: Admitted,
        engine: Box<dyn Engine>,
        shutdown: &Shutdown,
    ) -> Result<Stay, Failure> {
        let BrokerConfig { url, ca_file, publish_timeout_ms } = self.config.broker.clone();
        let url = url.unwrap_or_else(|| Secret::new(admitted.broker_url.as_str()));
        let settings = infera_broker_rabbitmq::Config { url, ca_file, publish_timeout_ms };
        let (node, queue) = (admitted.node.clone(), admitted.queue.clone());
        let (membership, tokens, doorbell) = Membership::new(admitted);
        let broker = RabbitBroker::start_as_node(&settings, tokens.clone()).map_err(Failure::settings)?;
        let seams = Seams { broker: Readmitting::new(broker, doorbell), engine };
        let named = self.config.worker.machine.clone().or_else(machine::name);
        let config = infera_worker::Config { machine: named, ..self.config.worker.clone() };
        let worker = Worker::new(config, node, queue, Arc::clone(&self.chat), seams);
        self.present.begin(worker.handle(), tokens);
        let (working, member) = (shutdown.child_token(), Shutdown::new());
        let (worked, ended) = tokio::join!(
            async {
                let worked = worker.run(working.clone()).await;
                // The membership ends only now, because draining needs a valid token too.
                member.cancel();
                worked
            },
            async {
                let ended = membership.keep(&self.registrar, &member).await;
                working.cancel();
                ended
            },
        );
        worked?;
        match ended {
            MembershipEnd::Shutdown => Ok(Stay::Over),
            MembershipEnd::Moved if shutdown.is_cancelled() => Ok(Stay::Over),
            MembershipEnd::Moved => Ok(Stay::Moved),
            MembershipEnd::Lost(error) => Err(refused(error)),
        }
    }
}

async fn load(config: &EngineConfig) -> Result<Box<dyn Engine>, Failure> {
    let config = config.clone();
    let loaded = tokio::task::spawn_blocking(move || config.load()).await?;
    loaded.map_err(Failure::refused)
}

/// Maps a registration error to its exit code. A gateway that is away may be back at the next start, so its code
/// means that a retry may help.
fn refused(error: RegistrationError) -> Failure {
    match error {
        RegistrationError::Settings(_) => Failure::settings(error),
        RegistrationError::Refused { .. } => Failure::refused(error),
        RegistrationError::Away(_) => error.into(),
    }
}
