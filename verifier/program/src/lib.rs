//! The program `infera-verifier`: one verifier of a cluster, composed from settings, the library and the vendors, and an
//! operator's commands on the catalogue and the archive.

pub mod cli;
pub mod models;
pub mod records;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use infera_archive::ArchiveError;
use infera_archive_s3::{S3Archive, S3Config};
use infera_broker::measured::MeasuredBroker;
use infera_broker_rabbitmq::RabbitBroker;
use infera_broker_rabbitmq::management::{self, ManagementApi};
use infera_ledger::CatalogueEntry;
use infera_ledger_postgres::{PostgresConfig, PostgresLedger, waiting};
use infera_model::chat::ChatModel;
use infera_model_store::chats::ChatFinder;
use infera_model_store::folder::Store;
use infera_model_store::source::Waits;
use infera_operations::instruments::Instruments;
use infera_program::{Failure, descriptors};
use infera_telemetry::traces;
use infera_types::ids::ModelName;
use infera_types::retry::{Try, wait_for};
use infera_types::shutdown::Shutdown;
use infera_verifier::Gate;
use infera_verifier::catalogue::{self, ModelConfig};
use infera_verifier::{Seams, Verifier};
use serde::{Deserialize, Serialize};

/// The file that the program reads its settings from by default. Each role has one of its own.
pub const DEFAULT_FILE: &str = "infera-verifier.toml";

/// The whole configuration of `infera-verifier`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The models on offer; the bundled one unless others are named. All verifiers of a network name the same. Others come and go
    /// while verifiers run, by `infera-verifier model`.
    pub models: Vec<ModelConfig>,
    /// The folder of models' folders, in which the tokenizers of models are looked for that come into the catalogue later; then the
    /// archive is searched. It lies where `infera model fetch` puts models, and need not exist.
    pub model_folders: PathBuf,
    /// The broker, which carries messages.
    pub broker: infera_broker_rabbitmq::Config,
    /// The broker's management API. Without a URL, connections of nodes that were shut out are not closed.
    pub management: management::Config,
    /// The ledger.
    pub ledger: PostgresConfig,
    /// The archive.
    pub archive: S3Config,
    /// The verifier itself.
    pub verifier: infera_verifier::Config,
    /// Metrics and readiness, for operators.
    pub operations: infera_operations::Config,
    /// Logs.
    pub log: infera_telemetry::Config,
    /// Traces.
    pub traces: traces::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            models: vec![ModelConfig::default()],
            model_folders: PathBuf::from(".runtime/models"),
            broker: infera_broker_rabbitmq::Config::default(),
            management: management::Config::default(),
            ledger: PostgresConfig::default(),
            archive: S3Config::default(),
            verifier: infera_verifier::Config::default(),
            operations: infera_operations::Config::default(),
            log: infera_telemetry::Config::default(),
            traces: traces::Config::default(),
        }
    }
}

/// How long the archive may take at start to accept or refuse the credentials. Past that it counts as away.
const ARCHIVE_WAIT: Duration = Duration::from_secs(10);

/// How often an archive that was away at start is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Works until shutdown, and drains then. The ledger is waited for; broker and archive may be away: what needs them
/// waits for them, and says so.
///
/// # Errors
/// What can't be used; each says what to do.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Failure> {
    let Config { log, traces, operations, .. } = &config;
    let instruments = Instruments::start("infera-verifier", log, traces, operations).await?;
    descriptors::raise();
    let models = config.models.clone();
    let models = tokio::task::spawn_blocking(move || load(&models)).await??;
    let broker = RabbitBroker::start(&config.broker).map_err(Failure::settings)?;
    let connections = ManagementApi::open(&config.management).map_err(Failure::settings)?;
    let archive = archive(&config.archive, &shutdown).await?;
    let Some(ledger) = waiting::ledger(&config.ledger, &shutdown).await.map_err(Failure::refused)? else {
        return Ok(());
    };
    let mut chats = HashMap::new();
    for (entry, chat) in models {
        chats.insert(entry.name.clone(), chat);
        if listed(entry, &ledger, &shutdown).await?.is_none() {
            return Ok(());
        }
    }
    let folders = config.models.iter().map(|model| model.folder.clone()).collect();
    let finder = ChatFinder::new(folders, Store::new(&config.model_folders))
        .with_archive(archive.clone(), Waits::default());
    let seams = seams(ledger.clone(), archive, broker);
    let verifier = Verifier::new(config.verifier, seams, chats).map_err(Failure::settings)?;
    let mut verifier = verifier.finding(Arc::new(finder));
    if let Some(connections) = connections {
        verifier = verifier.guarding(Gate { connections, book: ledger });
    }
    instruments.watch(Arc::new(verifier.handle()), verifier.run(shutdown)).await;
    Ok(())
}

type Model = (CatalogueEntry, Arc<ChatModel>);

fn load(models: &[ModelConfig]) -> Result<Vec<Model>, Failure> {
    let load = |model: &ModelConfig| {
        let chat = ChatModel::load(&model.folder).map_err(Failure::refused)?;
        let entry = model.entry(&chat).map_err(Failure::refused)?;
        Ok((entry, Arc::new(chat)))
    };
    models.iter().map(load).collect()
}

/// Lists a model in the catalogue, however often the ledger goes away meanwhile; none if the shutdown came first.
async fn listed(
    entry: CatalogueEntry,
    ledger: &Arc<PostgresLedger>,
    shutdown: &Shutdown,
) -> Result<Option<ModelName>, Failure> {
    let list = async || match catalogue::list(ledger.as_ref(), entry.clone()).await {
        Ok(name) => Try::Done(name),
        Err(error) => Try::Away(error),
    };
    wait_for("the ledger, to list a model", shutdown, list).await.map_err(Failure::refused)
}

/// Opens the archive, which may be away but must not refuse the credentials. While it is away records wait in the ledger.
async fn archive(config: &S3Config, shutdown: &Shutdown) -> Result<Arc<S3Archive>, Failure> {
    match tokio::time::timeout(ARCHIVE_WAIT, S3Archive::open(config)).await {
        Ok(Ok(archive)) => return Ok(archive),
        Ok(Err(error @ ArchiveError::Refused(_))) => return Err(Failure::refused(error)),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the archive is away; records wait in the ledger until it is back")
        }
        Err(_) => tracing::warn!("the archive doesn't answer; records wait in the ledger until it does"),
    }
    let archive = S3Archive::new(config).map_err(Failure::refused)?;
    tokio::spawn(until_there(config.clone(), shutdown.clone()));
    Ok(archive)
}

/// Logs when the archive is there. Its bucket may still have to be made; a refusal is logged, and drops no work in hand.
async fn until_there(config: S3Config, shutdown: Shutdown) {
    loop {
        match S3Archive::open(&config).await {
            Ok(_) => return tracing::info!("the archive is there"),
            Err(error @ ArchiveError::Refused(_)) => {
                return tracing::error!(%error, "records wait in the ledger until that is changed");
            }
            Err(error) => tracing::debug!(%error, "the archive is still away"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Hands the verifier those parts of ledger, archive and broker that it may use.
fn seams(ledger: Arc<PostgresLedger>, archive: Arc<S3Archive>, broker: Arc<RabbitBroker>) -> Seams {
    Seams {
        owner: ledger.clone(),
        reader: ledger.clone(),
        standing: ledger.clone(),
        sweeping: ledger.clone(),
        feeding: ledger.clone(),
        network: ledger.clone(),
        nodes: ledger.clone(),
        index: ledger.clone(),
        pruning: ledger.clone(),
        erasing: ledger.clone(),
        segments: ledger,
        archive,
        broker: MeasuredBroker::new(broker),
    }
}
