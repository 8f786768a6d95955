//! A gateway that runs in the test: real sockets, the SQLite ledger in a folder of its own, the broker in memory. A
//! task plays the verifier's part: it takes jobs and ends them as it is told. Another one offers held jobs.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use infera_broker::memory::MemoryBroker;
use infera_broker::{Address, Broker, topology};
use infera_gateway::access::{Admission, ApiKey};
use infera_gateway::config::HostName;
use infera_gateway::{Config, Gateway, Seams};
use infera_ledger::{AccountBook, CatalogueEntry, JobIntake, JobOwner, NetworkBook, Notice, Take, TakenJob};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{AccountId, Digest, ModelName, NodeId, VerifierId};
use infera_types::job::{
    Answer, End, FinishReason, Numbers, ReplicaCounts, Rung, Settlement, Verification, VerificationStatus,
};
use infera_types::messages::{CapacitySummary, Completion, JobNotice, ModelCapacity, Version, Wire};
use infera_types::service::Lane;
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::client::{self, Reply};
use super::feeding::feed;

/// The one model of the catalogue.
pub(crate) const MODEL: &str = "test-model";

/// A model that nodes serve too, and of which the verifier's part knows nothing. A test may list it.
pub(crate) const OTHER: &str = "other-model";

/// What the verifier's part does with a job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Play {
    /// It answers the job and sends the completion.
    Answer,
    /// It answers the job, but the completion is lost.
    Silently,
    /// It leaves the job alone.
    Leave,
    /// It ends the job in this way.
    End(End),
    /// It ends that answer of requests in this way, and takes the others without ending them.
    Only(u32, End),
}

/// A gateway, the parts behind it, and a key for it.
pub(crate) struct Rig {
    /// The address at which it listens.
    pub(crate) address: SocketAddr,
    /// A valid key.
    pub(crate) key: String,
    /// The gateway's own queue.
    pub(crate) completions: String,
    /// The ledger, for looking behind the scenes.
    pub(crate) ledger: Arc<SqliteLedger>,
    /// The broker, for the same.
    pub(crate) broker: Arc<MemoryBroker>,
    /// What the verifier's part does from now on.
    pub(crate) play: Arc<Mutex<Play>>,
    /// Whether held jobs are offered.
    pub(crate) is_feeding: Arc<AtomicBool>,
    /// Cancelling it drains the gateway.
    pub(crate) shutdown: Shutdown,
    /// The gateway's run.
    pub(crate) running: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// Settings for tests, without limits other than those that a test sets itself.
pub(crate) fn unlimited() -> Config {
    Config {
        requests_per_minute: 0,
        abandoned_ms: 0,
        in_flight_max: 0,
        signups_per_minute: 0,
        node_checks_per_minute: 0,
        offered_max: 0,
        ..Config::default()
    }
}

/// Adds the host names that the tests' requests carry, besides loopback's own.
fn named(mut config: Config) -> Config {
    let names = ["a", "test"].map(|name| HostName::try_from(name.to_owned()).expect("a name"));
    config.hosts.extend(names);
    config
}

/// Returns the answer that the verifier's part gives.
pub(crate) fn answered() -> End {
    let answer = Answer {
        text: "Paris.".to_owned(),
        tokens: vec![7, 8, 9],
        finish_reason: FinishReason::Stop,
        prompt_tokens: 12,
        cached_tokens: 5,
        numbers: Vec::new(),
        spelled: Vec::new(),
        node: NodeId::new("n1"),
        model: Some(Digest::of(b"model")),
    };
    let verification = Verification {
        status: VerificationStatus::Verified,
        replicas: ReplicaCounts { asked: 3, answered: 3, agreed: 3 },
        rung: Some(Rung::Identical),
        numbers: Some(Numbers::Inside),
        thresholds: "test".to_owned(),
        backstop: None,
    };
    End::Succeeded { answer, verification }
}

impl Rig {
    /// Starts a gateway with three owners' nodes behind it, where all jobs are answered.
    pub(crate) async fn start(config: Config) -> Self {
        Self::start_with(config, 3).await
    }

    /// Starts the same with the nodes of this many owners; 0 means that no verifier is heard.
    pub(crate) async fn start_with(config: Config, owners: u32) -> Self {
        Self::start_over(config, owners, |ledger| ledger).await
    }

    /// Starts the same with a wrapper around the ledger's part that accepts jobs.
    pub(crate) async fn start_over<I: JobIntake + 'static>(
        config: Config,
        owners: u32,
        intake: impl FnOnce(Arc<SqliteLedger>) -> Arc<I>,
    ) -> Self {
        Self::start_as(config, owners, intake, |_| None).await
    }

    /// Starts the same with an admission, which lets in nodes from outside.
    pub(crate) async fn start_as<I: JobIntake + 'static>(
        config: Config,
        owners: u32,
        intake: impl FnOnce(Arc<SqliteLedger>) -> Arc<I>,
        admission: impl FnOnce(&Arc<SqliteLedger>) -> Option<Admission>,
    ) -> Self {
        Self::start_between(config, owners, |ledger, broker| (intake(ledger), broker), admission).await
    }

    /// Starts the same with wrappers around the ledger's part that accepts jobs and around the broker.
    pub(crate) async fn start_between<I: JobIntake + 'static, B: Broker + 'static>(
        config: Config,
        owners: u32,
        between: impl FnOnce(Arc<SqliteLedger>, Arc<MemoryBroker>) -> (Arc<I>, Arc<B>),
        admission: impl FnOnce(&Arc<SqliteLedger>) -> Option<Admission>,
    ) -> Self {
        Self::start_made(config, owners, between, |config, seams, ledger| match admission(ledger) {
            Some(admission) => Gateway::admitting(config, seams, admission),
            None => Gateway::new(config, seams),
        })
        .await
    }

    /// Starts the gateway of a network in one process.
    pub(crate) async fn start_of_one_process(config: Config) -> Self {
        Self::start_of_one_process_with(config, 3).await
    }

    pub(crate) async fn start_of_one_process_with(config: Config, owners: u32) -> Self {
        let between = |ledger, broker| (ledger, broker);
        Self::start_made(config, owners, between, |config, seams, ledger| {
            Gateway::of_one_process(config, seams, Arc::clone(ledger) as _)
        })
        .await
    }

    /// Starts one that sends mail.
    pub(crate) async fn start_mailing(
        config: Config,
        mail: impl FnOnce(&Arc<SqliteLedger>) -> infera_gateway::Mail,
    ) -> Self {
        let between = |ledger, broker| (ledger, broker);
        Self::start_made(config, 3, between, |config, seams, ledger| {
            Gateway::new(config, seams).sending_mail(mail(ledger))
        })
        .await
    }

    async fn start_made<I: JobIntake + 'static, B: Broker + 'static>(
        config: Config,
        owners: u32,
        between: impl FnOnce(Arc<SqliteLedger>, Arc<MemoryBroker>) -> (Arc<I>, Arc<B>),
        make: impl FnOnce(Config, Seams, &Arc<SqliteLedger>) -> Gateway,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).expect("a fresh ledger");
        let broker = MemoryBroker::new();
        list_model(&ledger, MODEL).await;
        let (_, key) = new_key(&ledger, "ada@example.com").await;
        let (intake, gateways_broker) = between(Arc::clone(&ledger), Arc::clone(&broker));
        let seams = Seams {
            intake,
            reader: Arc::clone(&ledger) as _,
            batches: Arc::clone(&ledger) as _,
            lists: Arc::clone(&ledger) as _,
            accounts: Arc::clone(&ledger) as _,
            keys: Arc::clone(&ledger) as _,
            erasures: Arc::clone(&ledger) as _,
            network: Arc::clone(&ledger) as _,
            roster: Arc::clone(&ledger) as _,
            node_reader: Arc::clone(&ledger) as _,
            groups: Arc::clone(&ledger) as _,
            broker: gateways_broker,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (shutdown, play) = (Shutdown::new(), Arc::new(Mutex::new(Play::Answer)));
        let config = named(config);
        let gateway = make(config, seams, &ledger);
        let completions = topology::completions(gateway.id()).name;
        let running = tokio::spawn(gateway.run(listener, shutdown.clone()));
        for lane in [Lane::First, Lane::Own] {
            tokio::spawn(verify(Arc::clone(&ledger), Arc::clone(&broker), Arc::clone(&play), lane));
        }
        let is_feeding = Arc::new(AtomicBool::new(true));
        tokio::spawn(feed(Arc::clone(&ledger), Arc::clone(&broker), Arc::clone(&is_feeding)));
        if owners > 0 {
            tokio::spawn(announce(Arc::clone(&broker), owners));
        }
        let rig = Self {
            address,
            key,
            completions,
            ledger,
            broker,
            play,
            is_feeding,
            shutdown,
            running,
            _folder: folder,
        };
        rig.until_ready(owners).await;
        rig
    }

    async fn until_ready(&self, owners: u32) {
        for _ in 0..3_000 {
            let reply = self.send("GET", "/readyz", &[], b"").await;
            let seen = reply.json();
            let is_ready = reply.status == 200 || (owners == 0 && seen["checks"]["catalogue"] == true);
            if is_ready && seen["owners"][MODEL] == owners {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the gateway was never ready");
    }

    /// Makes the verifier's part do this from now on.
    pub(crate) fn play(&self, play: Play) {
        *self.play.lock().expect("no panic while playing") = play;
    }

    /// Sends a request unchanged.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        client::send(self.address, method, path, headers, body).await.expect("a reply")
    }

    /// Sends JSON with the key and more headers.
    pub(crate) async fn post(&self, path: &str, body: &Value, more: &[(&str, &str)]) -> Reply {
        let bearer = format!("Bearer {}", self.key);
        let mut headers = vec![("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        headers.extend(more);
        self.send("POST", path, &headers, body.to_string().as_bytes()).await
    }

    /// Sends a GET with the key.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[("api_key", &self.key)], b"").await
    }

    /// Sends the same request until the reply is as wanted.
    pub(crate) async fn get_until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Reply {
        for _ in 0..600 {
            let reply = self.get(path).await;
            if wanted(&reply.json()) {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{path} never was as wanted: {}", self.get(path).await.json())
    }
}

/// Makes an account with a key.
pub(crate) async fn new_key(ledger: &SqliteLedger, email: &str) -> (AccountId, String) {
    let now = Timestamp::now();
    let account = ledger.sign_up(email, None, now).await.expect("an account").account;
    let key = ApiKey::generate().expect("randomness");
    ledger.issue_key(&key.row(account.clone()), now).await.expect("a key");
    (account, key.expose().to_owned())
}

/// Puts a model into the catalogue.
pub(crate) async fn list_model(ledger: &SqliteLedger, name: &str) {
    let entry = CatalogueEntry {
        name: ModelName::new(name),
        digests: vec![Digest::of(b"model")],
        tokenizer: Digest::of(b"tokenizer"),
        context_max: 512,
        said_bytes_per_token: None,
        quantization: None,
        end_tokens: vec![0],
        reference_token_us: 1_000,
        bytes: None,
        created_ms: Timestamp::now(),
        removed_ms: None,
    };
    ledger.list_model(&entry).await.expect("a listed model");
}

/// Announces the capacity at intervals, as verifiers do.
async fn announce(broker: Arc<MemoryBroker>, owners: u32) {
    let of = |model| ModelCapacity {
        model: ModelName::new(model),
        nodes: owners,
        owners,
        free_slots: 8,
        features: None,
    };
    let models = vec![of(MODEL), of(OTHER)];
    let summary = CapacitySummary { verifier: VerifierId::fresh(), models, speaks: Version::NEWEST };
    loop {
        broker.publish(&topology::capacity(), summary.to_message("capacity")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Takes jobs and does with each what `play` says at that moment.
async fn verify(ledger: Arc<SqliteLedger>, broker: Arc<MemoryBroker>, play: Arc<Mutex<Play>>, lane: Lane) {
    let queue = topology::jobs_in(&ModelName::new(MODEL), lane);
    broker.declare(&queue).await.expect("the jobs' queue");
    let mut consumer = broker.consume(&queue.name, 64).await.expect("a consumer");
    let owner = VerifierId::fresh();
    while let Some(delivery) = consumer.next().await {
        let job = JobNotice::from_message(&delivery.message).expect("a notice").job_id;
        let wanted = play.lock().expect("no panic while playing").clone();
        if wanted != Play::Leave {
            let notices = [Notice::together(job, delivery.redelivered)];
            let taken = ledger.take(&owner, &notices, Timestamp::now()).await.expect("a ledger");
            for take in taken {
                if let Take::Taken(job) = take
                    && !matches!(wanted, Play::Only(index, _) if index != job.choice.index)
                {
                    end(&ledger, &broker, job, &wanted).await;
                }
            }
        }
        delivery.ack().await;
    }
}

async fn end(ledger: &SqliteLedger, broker: &MemoryBroker, job: TakenJob, wanted: &Play) {
    let settlement = Settlement {
        job_id: job.id,
        account: job.account,
        model: job.model,
        gateway: job.gateway.clone(),
        end: match wanted {
            Play::End(end) | Play::Only(_, end) => end.clone(),
            _ => answered(),
        },
        group: None,
        settled_ms: Timestamp::now(),
    };
    ledger.settle(&settlement).await.expect("a ledger");
    if *wanted != Play::Silently {
        let address = Address::Queue(topology::completions(&job.gateway).name);
        broker
            .publish(&address, Completion { settlement }.to_message_in(Version::NEWEST, job.id.to_string()))
            .await;
    }
}

/// Returns a good body of `POST /chat/completions`.
pub(crate) fn chat() -> Value {
    let messages = json!([{ "role": "user", "content": "What is the capital of France?" }]);
    json!({ "model": MODEL, "messages": messages, "max_tokens": 16, "temperature": 0.0 })
}

/// Returns a good body of `POST /submit_job`.
pub(crate) fn job() -> Value {
    let messages = json!([{ "role": "user", "content": "What is the capital of France?" }]);
    json!({ "model": MODEL, "messages": messages, "max_output": 16, "temperature": 0.0 })
}
