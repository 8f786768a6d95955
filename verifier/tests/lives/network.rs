//! A small network in this process: ledger, broker, archive, one model, and helpers to submit and to wait.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use infera_archive::local::LocalArchive;
use infera_broker::memory::MemoryBroker;
use infera_broker::{Address, Broker as _, Published, topology};
use infera_ledger::{
    Accepted, AccountBook as _, ArchiveIndex as _, Balance, CatalogueEntry, JobIntake as _, JobReader as _,
    Keeping, Metadata, NetworkBook as _, NewJob, Posting, PostingEntry, Room, SettledRecord, Standby,
    Standing as _, Sweeping as _, Verdict,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_model::chat::ChatModel;
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, Digest, GatewayId, JobId, ModelName, NodeId};
use infera_types::job::{
    ChatMessage, End, FailureReason, JobRequest, Settlement, Verification, VerificationPolicy,
};
use infera_types::knobs::Knobs;
use infera_types::messages::{JobNotice, Version, Wire as _};
use infera_types::service::Lane;
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use infera_verifier::Counters;
use infera_verifier::{Config, Seams, Verifier};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Long enough for a loaded machine; nothing here is about time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Network {
    pub(crate) ledger: Arc<SqliteLedger>,
    pub(crate) broker: Arc<MemoryBroker>,
    pub(crate) archive: Arc<LocalArchive>,
    pub(crate) chat: Arc<ChatModel>,
    pub(crate) model: ModelName,
    pub(crate) digest: Digest,
    pub(crate) gateway: GatewayId,
    pub(crate) account: AccountId,
    epoch: u64,
    pub(crate) folder: TempDir,
}

/// What a test asks for beside the question.
#[derive(Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) policy: VerificationPolicy,
    pub(crate) synchronous: bool,
    pub(crate) deadline: Duration,
    pub(crate) keeping: Keeping,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            policy: VerificationPolicy::default(),
            synchronous: false,
            deadline: Duration::from_secs(600),
            keeping: Keeping::default(),
        }
    }
}

impl Ask {
    pub(crate) fn quorum(quorum: u8) -> Self {
        Self { policy: VerificationPolicy { quorum, replicas: 3 }, ..Self::default() }
    }
}

impl Network {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).unwrap();
        let model_folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/infera-tiny");
        let chat = Arc::new(ChatModel::load(&model_folder).unwrap());
        let now = Timestamp::now();
        let model = ModelName::new("tiny");
        let digest = Digest::of(b"tiny's files");
        let entry = CatalogueEntry {
            name: model.clone(),
            digests: vec![digest],
            tokenizer: chat.tokenizer_digest(),
            context_max: 64,
            said_bytes_per_token: chat.said_bytes_per_token(),
            quantization: None,
            end_tokens: chat.end_tokens().to_vec(),
            reference_token_us: 1_000,
            bytes: None,
            created_ms: now,
            removed_ms: None,
        };
        ledger.list_model(&entry).await.unwrap();
        let epoch = ledger.epoch(None, Digest::of(b"the epoch's secret"), now).await.unwrap().number;
        let account = ledger.sign_up("client@example.org", None, now).await.unwrap().account;
        let broker = MemoryBroker::new();
        for lane in Lane::ALL {
            broker.declare(&topology::jobs_in(&model, *lane)).await.unwrap();
        }
        Self {
            archive: LocalArchive::open(folder.path().join("archive")).unwrap(),
            ledger,
            broker,
            chat,
            model,
            digest,
            gateway: GatewayId::fresh(),
            account,
            epoch,
            folder,
        }
    }

    /// An account that runs nodes.
    pub(crate) async fn runner(&self, name: &str) -> AccountId {
        self.ledger.sign_up(&format!("{name}@example.org"), None, Timestamp::now()).await.unwrap().account
    }

    pub(crate) fn seams(&self) -> Seams {
        Seams {
            owner: Arc::clone(&self.ledger) as _,
            reader: Arc::clone(&self.ledger) as _,
            standing: Arc::clone(&self.ledger) as _,
            sweeping: Arc::clone(&self.ledger) as _,
            feeding: Arc::clone(&self.ledger) as _,
            network: Arc::clone(&self.ledger) as _,
            nodes: Arc::clone(&self.ledger) as _,
            index: Arc::clone(&self.ledger) as _,
            pruning: Arc::clone(&self.ledger) as _,
            erasing: Arc::clone(&self.ledger) as _,
            segments: Arc::clone(&self.ledger) as _,
            archive: Arc::clone(&self.archive) as _,
            broker: Arc::clone(&self.broker) as _,
        }
    }

    pub(crate) fn verifier(&self, config: Config) -> Running {
        self.verifier_on(config, self.seams())
    }

    /// A verifier on these seams.
    pub(crate) fn verifier_on(&self, config: Config, seams: Seams) -> Running {
        self.verifier_as(config, seams, |verifier| verifier)
    }

    /// A verifier on these seams, changed before it runs.
    pub(crate) fn verifier_as(
        &self,
        config: Config,
        seams: Seams,
        change: impl FnOnce(Verifier) -> Verifier,
    ) -> Running {
        let chats = HashMap::from([(self.model.clone(), Arc::clone(&self.chat))]);
        let verifier = change(Verifier::new(config, seams, chats).unwrap());
        let (shutdown, counters) = (Shutdown::new(), verifier.counters());
        let task = tokio::spawn(verifier.run(shutdown.clone()));
        Running { task, shutdown, counters }
    }

    /// The request that tests send.
    pub(crate) fn request(&self, question: &str) -> JobRequest {
        JobRequest {
            model: self.model.clone(),
            messages: vec![ChatMessage { role: "user".to_owned(), content: question.to_owned() }],
            max_tokens: 8,
            temperature: 0.0,
            seed: None,
            knobs: Knobs::default(),
            top_logprobs: None,
            stream: None,
        }
    }

    /// A job that is not accepted yet.
    pub(crate) fn new_job(&self, request: &[u8], ask: Ask) -> NewJob {
        let now = Timestamp::now();
        NewJob {
            id: JobId::new(),
            choice: Choice::ONLY,
            shows_tokens: false,
            key: None,
            account: self.account.clone(),
            model: self.model.clone(),
            request: request.to_vec(),
            policy: ask.policy,
            gateway: self.gateway.clone(),
            synchronous: ask.synchronous,
            accepted_ms: now,
            deadline_ms: now.after(ask.deadline),
            epoch: self.epoch,
            idempotency: None,
            waiting_max: 1_000,
            room: Room::UNBOUNDED,
            standby: Standby::never_held(&self.account),
            metadata: Metadata::new(),
            keeping: ask.keeping,
            charge: None,
        }
    }

    /// Accepts a job; its notice is not published.
    pub(crate) async fn accept(&self, request: &[u8], ask: Ask) -> JobId {
        let job = self.new_job(request, ask);
        let id = job.id;
        assert_eq!(self.ledger.accept(job).await.unwrap(), Accepted::New { is_held: false });
        id
    }

    /// Publishes a job's notice.
    pub(crate) async fn notify(&self, job: JobId) {
        self.notify_as(job, Version::NEWEST).await;
    }

    /// Publishes a job's notice as a gateway does it that reads this version.
    pub(crate) async fn notify_as(&self, job: JobId, speaks: Version) {
        self.notify_in(job, Lane::First, speaks).await;
    }

    /// Publishes the notice of a job for nodes of its own.
    pub(crate) async fn notify_own(&self, job: JobId, speaks: Version) {
        self.notify_in(job, Lane::Own, speaks).await;
    }

    async fn notify_in(&self, job: JobId, lane: Lane, speaks: Version) {
        let address = Address::Queue(topology::jobs_in(&self.model, lane).name);
        let notice = JobNotice { job_id: job, speaks }.to_message(job.to_string());
        assert_eq!(self.broker.publish(&address, notice).await, Published::Confirmed);
    }

    /// As a gateway does it: accept, publish, confirm.
    pub(crate) async fn submit(&self, ask: Ask) -> JobId {
        self.submit_in(ask, Lane::First).await
    }

    /// The same, with the notice in this lane.
    pub(crate) async fn submit_in(&self, ask: Ask, lane: Lane) -> JobId {
        let request = serde_json::to_vec(&self.request("What is 2 plus 2?")).unwrap();
        let job = self.accept(&request, ask).await;
        self.notify_in(job, lane, Version::NEWEST).await;
        self.ledger.confirm(&[job], Timestamp::now()).await.unwrap();
        job
    }

    /// A job's end, once it has one.
    pub(crate) async fn end_of(&self, job: JobId) -> Settlement {
        eventually("the job ends", || async { self.ledger.settlements(&[job]).await.unwrap().pop() }).await
    }

    /// A job's end with its group.
    pub(crate) async fn end_of_with_group(&self, job: JobId) -> Settlement {
        let group = self.ledger.groups(&[job]).await.unwrap().pop().unwrap();
        group.settlement
    }

    /// The verdicts and the usage of a job, once its group is closed and its record archived.
    pub(crate) async fn archived(&self, job: JobId) -> SettledRecord {
        let place =
            eventually("the record is archived", || async { self.ledger.locate(job).await.unwrap() }).await;
        infera_archive::segment::read(&*self.archive, &place).await.unwrap()
    }

    /// The verdict on each node, from the archived record, in the order of posting.
    pub(crate) async fn verdicts(&self, job: JobId) -> Vec<(NodeId, Verdict)> {
        verdicts_in(&self.archived(job).await.postings)
    }

    pub(crate) async fn is_closed(&self, job: JobId) -> bool {
        self.ledger.groups(&[job]).await.unwrap().first().is_some_and(|group| group.closed)
    }

    pub(crate) async fn balance_of(&self, node: &NodeId) -> Balance {
        self.ledger.balance(node.as_str()).await.unwrap()
    }

    /// Whether a dispute is open.
    pub(crate) async fn is_disputed(&self, job: JobId) -> bool {
        self.ledger.job(&self.account, job).await.unwrap().unwrap().dispute.is_some()
    }

    /// Stored balances are what a replay of all postings gives.
    pub(crate) async fn assert_replays(&self) {
        eventually("everything is folded", || async {
            (self.ledger.project(1_000, Timestamp::now()).await.unwrap() == 0).then_some(())
        })
        .await;
        let replayed = self.ledger.replay().await.unwrap();
        assert!(!replayed.is_empty());
        for (subject, balance) in replayed {
            assert_eq!(self.ledger.balance(&subject).await.unwrap(), balance, "{subject}");
        }
    }
}

pub(crate) fn verdicts_in(postings: &[Posting]) -> Vec<(NodeId, Verdict)> {
    let verdict = |posting: &Posting| match &posting.entry {
        PostingEntry::Verdict { node, verdict, .. } => Some((node.clone(), *verdict)),
        PostingEntry::Usage { .. } => None,
    };
    postings.iter().filter_map(verdict).collect()
}

/// A verifier at work.
pub(crate) struct Running {
    task: JoinHandle<()>,
    pub(crate) shutdown: Shutdown,
    pub(crate) counters: Arc<Counters>,
}

impl Running {
    /// Ends it where it stands, as a killed process would end: no release, no lease given up.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err(), "it ended by itself before");
    }

    /// Asks it to drain, and waits.
    pub(crate) async fn drain(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

/// Settings that a test doesn't wait for, with budgets that no machine is too slow for.
pub(crate) fn quick() -> Config {
    Config {
        lease_ttl_ms: 3_000,
        lease_renew_ms: 500,
        refresh_ms: 50,
        look_again_ms: 50,
        assignment_base_ms: 120_000,
        rest_ms: 50,
        warm_up_ms: 0,
        sweep_ms: 100,
        unconfirmed_ms: 500,
        project_ms: 50,
        archive_ms: 100,
        archive_wait_ms: 0,
        archive_retry_ms: 2_000,
        rewrite_wait_ms: 0,
        capacity_ms: 100,
        ..Config::default()
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let asked = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(found) => found,
        Err(_) => panic!("in vain: {what}"),
    }
}

pub(crate) fn verification(settlement: &Settlement) -> &Verification {
    match &settlement.end {
        End::Succeeded { verification, .. } => verification,
        end => panic!("not succeeded: {end:?}"),
    }
}

pub(crate) fn tokens(settlement: &Settlement) -> &[u32] {
    match &settlement.end {
        End::Succeeded { answer, .. } => &answer.tokens,
        end => panic!("not succeeded: {end:?}"),
    }
}

pub(crate) fn failure(settlement: &Settlement) -> FailureReason {
    match &settlement.end {
        End::Failed { reason, .. } => *reason,
        end => panic!("not failed: {end:?}"),
    }
}
