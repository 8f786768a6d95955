//! A whole network in this process, whose three nodes answer at once, so that everything but the engine is measured.

use std::net::SocketAddr;

use infera::config::Config;
use infera::network::{Network, NetworkError};
use infera::seams::Seams;
use infera_engine_onnx::config::EngineKind;
use infera_gateway::access::ApiKey;
use infera_types::shutdown::Shutdown;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::settings::Settings;
use infera_bench::{Fault, root};

pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    pub(crate) key: ApiKey,
    pub(crate) seams: Seams,
    shutdown: Shutdown,
    running: JoinHandle<Result<(), NetworkError>>,
    _folder: TempDir,
}

/// Returns settings with every limit set and checked, and none reached.
pub(crate) fn generous() -> infera_gateway::Config {
    infera_gateway::Config {
        requests_per_minute: u32::MAX,
        tokens_per_minute: 0,
        looks_per_minute: 0,
        in_flight_max: u32::MAX,
        waiting_max: u32::MAX,
        // One account plays all clients.
        offered_max: 0,
        account_stored_max_bytes: u64::MAX,
        stored_max_bytes: u64::MAX,
        ..infera_gateway::Config::default()
    }
}

impl Stage {
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Fault> {
        let folder = settings.scratch()?;
        let mut config = Config { data: folder.path().to_owned(), gateway: generous(), ..Config::default() };
        config.listen = ([127, 0, 0, 1], 0).into();
        config.engine.kind = EngineKind::Stub;
        config.engine.folder = root().join(&config.engine.folder);
        let network = Network::start(config).await?;
        let (address, key, seams) = (network.address, network.key.clone(), network.seams.clone());
        let shutdown = Shutdown::new();
        let running = tokio::spawn(network.run(shutdown.clone()));
        Ok(Self { address, key, seams, shutdown, running, _folder: folder })
    }

    /// Ends the network; every role must end without an error.
    pub(crate) async fn close(self) -> Result<(), Fault> {
        self.shutdown.cancel();
        Ok(self.running.await??)
    }
}
