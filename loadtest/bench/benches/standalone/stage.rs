//! A whole network in this process: its three nodes answer at once, so that everything but the engine is measured, or each takes
//! its own time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use infera::config::Config;
use infera::network::{Network, NetworkError};
use infera::node::Node;
use infera::seams::Seams;
use infera_engine::stub::{StubConfig, StubEngine};
use infera_engine_onnx::config::EngineKind;
use infera_gateway::access::ApiKey;
use infera_model::chat::ChatModel;
use infera_types::shutdown::Shutdown;
use infera_worker::Model;
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

/// Returns the settings of a network on a free port, with the stub engine.
fn config(folder: &TempDir) -> Config {
    let mut config = Config { data: folder.path().to_owned(), gateway: generous(), ..Config::default() };
    config.listen = ([127, 0, 0, 1], 0).into();
    config.engine.kind = EngineKind::Stub;
    config.engine.folder = root().join(&config.engine.folder);
    config
}

impl Stage {
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Fault> {
        let folder = settings.scratch()?;
        let network = Network::start(config(&folder)).await?;
        Ok(Self::running(network, folder))
    }

    /// Opens a network with a node for each of these stubs, under an owner each. A token takes `token` in the mean, which nodes' time for
    /// an answer is reckoned by.
    pub(crate) async fn of_stubs(
        settings: &Settings,
        stubs: &[StubConfig],
        token: Duration,
    ) -> Result<Self, Fault> {
        let folder = settings.scratch()?;
        let mut config = config(&folder);
        config.nodes.count = 0;
        config.reference_token_us = Some(u64::try_from(token.as_micros())?);
        let (name, worker) = (config.engine.name(), config.worker.clone());
        let chat = Arc::new(ChatModel::load(&config.engine.folder)?);
        let mut network = Network::start(config).await?;
        for (index, stub) in stubs.iter().enumerate() {
            let id = network.register(&format!("stub-{index}")).await?.id;
            let engine = Box::new(StubEngine::new(stub.clone())?);
            let models = vec![Model { name: name.clone(), chat: Arc::clone(&chat), engine }];
            let node = Node { id, broker: Arc::clone(&network.seams.broker), models };
            network.add_node(worker.clone(), node).await?;
        }
        network.wait_for_owners(u32::try_from(stubs.len())?).await?;
        Ok(Self::running(network, folder))
    }

    fn running(network: Network, folder: TempDir) -> Self {
        let (address, key, seams) = (network.address, network.key.clone(), network.seams.clone());
        let shutdown = Shutdown::new();
        let running = tokio::spawn(network.run(shutdown.clone()));
        Self { address, key, seams, shutdown, running, _folder: folder }
    }

    /// Ends the network; every role must end without an error.
    pub(crate) async fn close(self) -> Result<(), Fault> {
        self.shutdown.cancel();
        Ok(self.running.await??)
    }
}
