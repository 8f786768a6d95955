//! A network for each test: a fresh folder, port 0, the wanted number of honest nodes, and any other nodes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use infera::config::Config;
use infera::network::{Network, NetworkError};
use infera::node::Node;
use infera_engine::Engine;
use infera_engine_onnx::config::EngineConfig;
use infera_model::chat::ChatModel;
use infera_types::shutdown::Shutdown;
use infera_worker::Model;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::client::Client;

/// The repository's root, whatever folder the test runs in.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The settings that tests run with: everything waits less, nothing is judged otherwise.
pub(crate) fn config(data: &Path, nodes: u32) -> Config {
    let mut config = Config { data: data.to_owned(), ..Config::default() };
    config.listen = ([127, 0, 0, 1], 0).into();
    config.nodes.count = nodes;
    config.engine.folder = root().join(&config.engine.folder);
    config.engine.library = root().join(&config.engine.library);
    config.gateway.requests_per_minute = 0;
    config.gateway.tokens_per_minute = 0;
    config.gateway.looks_per_minute = 0;
    config.gateway.in_flight_max = 0;
    config.verifier.archive_ms = 200;
    config.verifier.archive_wait_ms = 0;
    config.verifier.rewrite_wait_ms = 0;
    config
}

/// A network under test.
pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) network: Option<Network>,
    pub(crate) config: Config,
    pub(crate) chat: Arc<ChatModel>,
    shutdown: Shutdown,
    running: Option<JoinHandle<Result<(), NetworkError>>>,
    pub(crate) folder: TempDir,
}

impl Stage {
    /// Starts a network with this many honest nodes.
    pub(crate) async fn open(nodes: u32) -> Self {
        Self::open_with(nodes, |_| {}).await
    }

    /// The same, with other settings.
    pub(crate) async fn open_with(nodes: u32, change: impl FnOnce(&mut Config)) -> Self {
        Self::open_prepared(nodes, |_| {}, change).await
    }

    /// The same, on a folder that is filled first.
    pub(crate) async fn open_prepared(
        nodes: u32,
        prepare: impl FnOnce(&Path),
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        prepare(folder.path());
        Self::open_in(folder, nodes, change).await
    }

    /// The same, on the folder of a network that ended.
    pub(crate) async fn reopen(folder: TempDir, nodes: u32) -> Self {
        Self::open_in(folder, nodes, |_| {}).await
    }

    async fn open_in(folder: TempDir, nodes: u32, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(folder.path(), nodes);
        change(&mut config);
        let network =
            Network::start(config.clone()).await.expect("the network starts; run `make setup` first");
        let chat = Arc::new(ChatModel::load(&config.engine.folder).expect("the bundled model"));
        let client = Client { address: network.address, key: network.key.expose().to_owned() };
        Self {
            client,
            network: Some(network),
            config,
            chat,
            shutdown: Shutdown::new(),
            running: None,
            folder,
        }
    }

    /// An engine for one more node.
    pub(crate) fn engine(&self, variant: &str) -> Box<dyn Engine> {
        let engine = EngineConfig { variant: variant.to_owned(), ..self.config.engine.clone() };
        engine.load().expect("the engine loads; run `make setup` first")
    }

    /// Adds a node under an owner of its own, as `shape` makes it from an honest one.
    pub(crate) async fn add(
        &mut self,
        name: &str,
        engine: Box<dyn Engine>,
        shape: impl FnOnce(Node) -> Node,
    ) {
        let network = self.network.as_mut().expect("nodes are added before the network runs");
        let record = network.register(name).await.expect("the node is registered");
        let broker = Arc::clone(&network.seams.broker);
        let (name, chat) = (self.config.engine.name(), Arc::clone(&self.chat));
        let models = vec![Model { name, chat, engine }];
        let node = shape(Node { id: record.id, broker, models });
        network.add_node(self.config.worker.clone(), node).await.expect("the node runs");
    }

    /// Lets it run, once nodes of `owners` owners are there.
    pub(crate) async fn run(&mut self, owners: u32) {
        let network = self.network.take().expect("a network runs once");
        network.wait_for_owners(owners).await.expect("enough owners");
        self.running = Some(tokio::spawn(network.run(self.shutdown.clone())));
    }

    /// Ends it and gives its folder back; every role must end well.
    pub(crate) async fn close(mut self) -> TempDir {
        self.shutdown.cancel();
        let running = self.running.take().expect("a network that runs");
        let ended = tokio::time::timeout(Duration::from_secs(60), running).await;
        ended.expect("it ends in time").expect("no panic").expect("every role ends well");
        self.folder
    }
}

/// Asks again until there is an answer; a minute is for a machine that does much else.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = tokio::time::Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The answer's text.
pub(crate) fn text(json: &Value) -> &str {
    json["choices"][0]["message"]["content"].as_str().unwrap_or_default()
}
