//! A cluster of our programs: gateways, verifiers and workers as processes, on a database of its own and an object
//! store whose PUTs are counted. It starts only the roles that a section asks for.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_broker::{Broker as _, topology};
use infera_broker_rabbitmq::{Config as BrokerConfig, RabbitBroker};
use infera_engine::stub::StubConfig;
use infera_ledger::{CatalogueEntry, NetworkBook as _};
use infera_types::ids::{Digest, ModelName};
use infera_types::secret::Secret;
use infera_types::service::Lane;
use infera_types::time::Timestamp;
use tokio_postgres::Client;

use crate::databases;
use crate::settings::{Settings, told};
use crate::store::Store;
use infera_bench::client::Ask;
use infera_bench::fixtures::{MODEL, body, streamed_body};
use infera_bench::process::{Process, free_address, generous, run};
use infera_bench::puts::Puts;
use infera_bench::{Fault, root};

/// How long it takes until all know each other: a node's first heartbeat reaches a new verifier within ten seconds,
/// and a verifier's summary reaches its gateways within one more.
const KNOWN_WITHIN: Duration = Duration::from_secs(12);
/// The pause between checks of an awaited event.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Finds the verifiers that have started: each has a lease under its own name, and a new name at each start.
const LEASES: &str = "SELECT name FROM leases WHERE name = holder";
/// The time of a token of a stub without service time, in microseconds.
const TOKEN_US: u64 = 150;
/// Accounts that workers run under: three make a group.
const OWNERS: usize = 3;

/// A gateway and its address.
struct Gateway {
    process: Process,
    address: SocketAddr,
}

/// The programs that run.
pub(crate) struct Network {
    settings: Common,
    gateways: Vec<Gateway>,
    verifiers: Vec<Process>,
    workers: Vec<Process>,
    /// Where verifiers show their metrics.
    metrics: Vec<SocketAddr>,
    /// The keys: first the asking account's, then the owners'.
    keys: Vec<String>,
    puts: Arc<Puts>,
    database: Client,
    broker: Arc<RabbitBroker>,
}

/// The settings of all programs.
struct Common {
    programs: [PathBuf; 3],
    logs: PathBuf,
    common: Vec<(&'static str, String)>,
    archive: Vec<(&'static str, String)>,
    /// The additional settings of a gateway that admits nodes.
    nodes: Vec<(&'static str, String)>,
    special: Special,
}

/// What one section sets beside what all do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Special {
    /// The settings of gateways, verifiers and workers.
    pub(crate) settings: [Vec<(&'static str, String)>; 3],
    /// The time of a token; a stub has no weights that it could be reckoned from. 0 stands for what stubs without service time have.
    pub(crate) token_us: u64,
    /// Whether gateways and verifiers show their metrics.
    pub(crate) has_metrics: bool,
}

impl Network {
    /// Makes empty tables and empty queues; nothing runs yet.
    pub(crate) async fn prepare(settings: &Settings, name: &str) -> Result<Self, Fault> {
        let url = databases::make(settings, name).await?;
        databases::open(&url).await?.list_model(&listed()).await?;
        let broker_url = settings.broker()?;
        let config = BrokerConfig { url: Secret::new(&broker_url), ..BrokerConfig::default() };
        let broker = RabbitBroker::start(&config)?;
        for lane in Lane::ALL {
            let jobs = topology::jobs_in(&ModelName::new(MODEL), *lane);
            broker.delete(&jobs.name).await?;
            broker.declare(&jobs).await?;
        }
        let store = Store::told()?;
        let (puts, address) = Puts::in_front_of(store.address).await?;
        let archive = vec![
            ("archive.endpoint", format!("http://{address}")),
            ("archive.bucket", store.bucket),
            ("archive.access_key_id", store.access_key_id),
            ("archive.secret_access_key", store.secret_access_key),
        ];
        let programs =
            ["infera-gateway", "infera-verifier", "infera-worker"].map(|name| settings.program(name));
        let common = vec![("broker.url", broker_url), ("ledger.url", url.clone())];
        Ok(Self {
            settings: Common {
                programs,
                logs: settings.scratch().join(name),
                common,
                archive,
                nodes: Vec::new(),
                special: Special::default(),
            },
            gateways: Vec::new(),
            verifiers: Vec::new(),
            workers: Vec::new(),
            metrics: Vec::new(),
            keys: Vec::new(),
            puts,
            database: databases::connect(&url).await?,
            broker,
        })
    }

    /// Prepares the same, with one gateway and a key.
    pub(crate) async fn open(settings: &Settings, name: &str) -> Result<Self, Fault> {
        let mut network = Self::prepare(settings, name).await?;
        network.add_gateway().await?;
        network.sign_up("bench@example.com").await?;
        Ok(network)
    }

    /// Prepares the same, with a gateway that admits nodes, and owners whose nodes are admitted.
    pub(crate) async fn open_to_nodes(
        settings: &Settings,
        name: &str,
        special: Special,
    ) -> Result<Self, Fault> {
        let mut network = Self::prepare(settings, name).await?;
        network.settings.special = special;
        network.settings.nodes = vec![
            ("nodes.token_key_file", told("TEST_TOKEN_KEY")?),
            ("nodes.broker_url", address_of(&told("TEST_RABBITMQ_URL")?)),
        ];
        network.add_gateway().await?;
        network.sign_up("bench@example.com").await?;
        for owner in 1..=OWNERS {
            let email = format!("owner-{owner}@example.com");
            network.sign_up(&email).await?;
            network.let_in(&email)?;
        }
        Ok(network)
    }

    /// Starts a gateway, and returns it with its address.
    pub(crate) fn start_gateway(&self) -> Result<(Process, SocketAddr), Fault> {
        let listen = free_address()?;
        let mut settings = self.settings.common.clone();
        settings.push(("listen", listen.to_string()));
        settings.extend_from_slice(&self.settings.nodes);
        settings.extend(generous());
        settings.push(("gateway.signups_per_minute", "60".to_owned()));
        settings.extend_from_slice(&self.settings.special.settings[0]);
        let name = format!("gateway-{}", self.gateways.len() + 1);
        let Common { programs: [program, ..], logs, .. } = &self.settings;
        Ok((Process::start(program, &name, &settings, logs)?, listen))
    }

    pub(crate) async fn add_gateway(&mut self) -> Result<(), Fault> {
        let (mut process, address) = self.start_gateway()?;
        process.ready(address).await?;
        self.gateways.push(Gateway { process, address });
        Ok(())
    }

    async fn sign_up(&mut self, email: &str) -> Result<(), Fault> {
        let first = self.gateways.first().ok_or("no gateway runs")?;
        let body = format!(r#"{{"email":"{email}"}}"#);
        let reply = Ask::post(first.address, "/signup_user", "", &body, "\"api_key\":\"").once().await?;
        let reply: serde_json::Value = serde_json::from_str(&reply)?;
        self.keys.push(reply["api_key"].as_str().ok_or("no key in the reply")?.to_owned());
        Ok(())
    }

    /// Gives an account the scope `fleet`, as an operator does.
    fn let_in(&self, email: &str) -> Result<(), Fault> {
        let Common { programs: [program, ..], common, .. } = &self.settings;
        run(program, &["account", "fleet", email], common)
    }

    /// Starts or ends verifiers until `count` run. New ones know the nodes when this returns.
    pub(crate) async fn set_verifiers(&mut self, count: usize) -> Result<(), Fault> {
        while self.verifiers.len() > count {
            if let Some(last) = self.verifiers.pop() {
                last.end().await?;
            }
        }
        let more = count - self.verifiers.len();
        for _ in 0..more {
            let before = self.leases().await?;
            let name = format!("verifier-{}", self.verifiers.len() + 1);
            let more = if self.settings.special.has_metrics {
                let address = free_address()?;
                self.metrics.push(address);
                vec![("operations.listen", address.to_string())]
            } else {
                Vec::new()
            };
            let mut process = self.start_verifier(&name, &more)?;
            process.wait_until(async || Ok(!self.leases().await?.is_subset(&before))).await?;
            self.verifiers.push(process);
        }
        if more > 0 && !self.workers.is_empty() {
            tokio::time::sleep(KNOWN_WITHIN).await;
        }
        Ok(())
    }

    fn start_verifier(&self, name: &str, more: &[(&'static str, String)]) -> Result<Process, Fault> {
        let mut settings = [&self.settings.common[..], &self.settings.archive[..]].concat();
        let token_us = self.settings.special.token_us.max(TOKEN_US);
        let digest = stub_digest();
        let model = format!(
            r#"[{{ folder = "models/{MODEL}", variants = [], digests = ["{digest}"], reference_token_us = {token_us} }}]"#
        );
        settings.push(("models", model));
        settings.extend_from_slice(&self.settings.special.settings[1]);
        settings.extend_from_slice(more);
        let Common { programs: [_, program, _], logs, .. } = &self.settings;
        Process::start(program, name, &settings, logs)
    }

    /// Starts or ends workers of three owners until `count` run, and waits until all verifiers know them.
    pub(crate) async fn set_workers(&mut self, count: usize) -> Result<(), Fault> {
        let gateway = self.gateways.first().ok_or("no gateway runs")?.address;
        for index in self.workers.len()..count {
            let name = format!("worker-{}", index + 1);
            let mut settings = vec![
                ("gateway", format!(r#"["http://{gateway}"]"#)),
                ("node.name", name.clone()),
                ("node.secret", format!("bench secret {index}, long enough")),
                ("node.api_key", self.keys[1 + index % OWNERS].clone()),
                ("engine.kind", "stub".to_owned()),
                ("engine.folder", root().join("models/infera-tiny").display().to_string()),
            ];
            settings.extend_from_slice(&self.settings.special.settings[2]);
            let Common { programs: [.., program], logs, .. } = &self.settings;
            self.workers.push(Process::start(program, &name, &settings, logs)?);
        }
        let ask = self.chat(0);
        if let Some(last) = self.workers.last_mut() {
            last.wait_until(async || Ok(ask.once().await.is_ok())).await?;
        }
        tokio::time::sleep(KNOWN_WITHIN).await;
        Ok(())
    }

    /// Returns the request for a job without waiting for its end.
    pub(crate) fn submit(&self, gateway: usize) -> Ask {
        let body = body("max_output");
        Ask::post(self.gateways[gateway].address, "/submit_job", &self.keys[0], &body, "\"job_id\":\"job_")
    }

    /// Returns a request that waits for its verified answer.
    pub(crate) fn chat(&self, gateway: usize) -> Ask {
        let (address, body) = (self.gateways[gateway].address, body("max_tokens"));
        Ask::post(address, "/v1/chat/completions", &self.keys[0], &body, "\"status\":\"verified\"")
    }

    /// Returns a request whose answer is streamed.
    pub(crate) fn streamed(&self, gateway: usize, tokens_max: usize) -> Ask {
        let (address, body) =
            (self.gateways[gateway].address, streamed_body(r#""release":"agreed""#, tokens_max));
        Ask::post(address, "/v1/chat/completions", &self.keys[0], &body, "\"status\":\"verified\"")
    }

    /// Returns the sum of a metric's values over all verifiers, of those whose labels contain `label`.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> Result<f64, Fault> {
        let mut sum = 0.0;
        for address in &self.metrics {
            let text = Ask::request(*address, "GET /metrics", &[], "").once().await?;
            let ours = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
            for value in ours.filter_map(|line| line.rsplit_once(' ')) {
                sum += value.1.parse::<f64>()?;
            }
        }
        Ok(sum)
    }

    /// Returns every gateway and verifier with its process.
    pub(crate) fn roles(&self) -> Vec<(String, u32)> {
        let gateways = self.gateways.iter().map(|gateway| &gateway.process);
        let gateways =
            gateways.enumerate().map(|(index, process)| (format!("gateway {}", index + 1), process.pid()));
        let verifiers = self.verifiers.iter().enumerate();
        gateways
            .chain(verifiers.map(|(index, process)| (format!("verifier {}", index + 1), process.pid())))
            .collect()
    }

    /// Returns the processes whose CPU time is counted, in the table's order: broker, database, gateways, verifiers,
    /// workers, client.
    pub(crate) fn users(&self, settings: &Settings) -> Vec<Vec<u32>> {
        let pids = |processes: &[Process]| processes.iter().map(Process::pid).collect();
        vec![
            vec![settings.broker_pid],
            vec![settings.database_pid],
            self.gateways.iter().map(|gateway| gateway.process.pid()).collect(),
            pids(&self.verifiers),
            pids(&self.workers),
            vec![std::process::id()],
        ]
    }

    /// Returns how many jobs wait or run.
    pub(crate) async fn queued(&self) -> Result<usize, Fault> {
        self.count("SELECT count(*) FROM jobs WHERE state < 2").await
    }

    async fn leases(&self) -> Result<HashSet<String>, Fault> {
        let rows = self.database.query(LEASES, &[]).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    async fn count(&self, sql: &str) -> Result<usize, Fault> {
        let count: i64 = self.database.query_one(sql, &[]).await?.try_get(0)?;
        Ok(usize::try_from(count)?)
    }

    /// Waits until every ended job is archived, and returns their number.
    pub(crate) async fn wait_until_archived(&self, within: Duration) -> Result<usize, Fault> {
        let begun = Instant::now();
        loop {
            let ended = self.count("SELECT count(*) FROM settlements").await?;
            let archived = self.count("SELECT count(*) FROM records WHERE hash IS NOT NULL").await?;
            if archived == ended {
                return Ok(ended);
            }
            if begun.elapsed() > within {
                return Err(format!("{archived} of {ended} jobs are archived after {within:?}").into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Returns the number of PUTs and of their bytes up to now.
    pub(crate) fn puts(&self) -> (u64, u64) {
        self.puts.counts()
    }

    /// Ends all programs, those that depend on others first.
    pub(crate) async fn close(mut self) -> Result<(), Fault> {
        for worker in self.workers.drain(..) {
            worker.end().await?;
        }
        for verifier in self.verifiers.drain(..) {
            verifier.end().await?;
        }
        for gateway in self.gateways.drain(..) {
            gateway.process.end().await?;
        }
        for lane in Lane::ALL {
            self.broker.delete(&topology::jobs_in(&ModelName::new(MODEL), *lane).name).await?;
        }
        Ok(())
    }
}

/// Returns the digest that the stub engine announces by default.
fn stub_digest() -> Digest {
    StubConfig::default().model_digest
}

/// Returns a broker's URL as nodes are given it: without user and password.
fn address_of(url: &str) -> String {
    match url.split_once('@') {
        Some((_, place)) => format!("amqp://{place}"),
        None => url.to_owned(),
    }
}

/// Returns the model as the catalogue has it before a verifier lists it in full: enough for a gateway.
fn listed() -> CatalogueEntry {
    CatalogueEntry {
        name: ModelName::new(MODEL),
        digests: vec![stub_digest()],
        tokenizer: Digest::of(b"tokenizer"),
        context_max: 512,
        said_bytes_per_token: None,
        quantization: None,
        end_tokens: vec![2],
        reference_token_us: 150,
        bytes: None,
        created_ms: Timestamp::now(),
        removed_ms: None,
    }
}
