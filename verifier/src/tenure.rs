//! One verifier id's time: from the first lease to shutdown, or to the moment when its lease can't be renewed. What
//! all its tasks share is here. Owner ids are new in each tenure, so that work of an earlier one is never mistaken
//! for its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use infera_model::chat::ChatModel;
use infera_types::byte_budget::ByteBudget;
use infera_types::ids::{ModelName, VerifierId};
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Verifier;
use crate::book::Book;
use crate::collector::Routes;
use crate::complaints::Complaints;
use crate::config::Config;
use crate::counters::{Counted, Counters};
use crate::hearing::Hearing;
use crate::in_flight::InFlight;
use crate::nodes::NodeTable;
use crate::parking::Parking;
use crate::peers::Peers;
use crate::thresholds::Thresholds;
use crate::trials::{self, Trials};
use crate::vitals::Vitals;
use crate::warden::{self, Gate};
use crate::{Seams, archiver, capacity, collector, consumer, in_flight, parking, projector, sweeper};

/// Between tries of what must work before anything is taken.
const RETRY: Duration = Duration::from_millis(250);

/// How long a verifier counts as alive after its last summary, in summaries. It hears its nodes as long as its own come back.
const PEER_SUMMARIES: u64 = 4;

/// A fair lock: tasks get it in the order in which they began to wait.
pub(crate) type Line = Arc<tokio::sync::Mutex<()>>;

/// What all tasks of one verifier id share.
pub(crate) struct Tenure {
    /// The owner of everything taken.
    pub(crate) id: VerifierId,
    pub(crate) config: Config,
    pub(crate) seams: Seams,
    /// Tokenizers and templates, by catalogue name.
    pub(crate) chats: Arc<HashMap<ModelName, Arc<ChatModel>>>,
    pub(crate) book: Book,
    pub(crate) nodes: Arc<NodeTable>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) peers: Peers,
    /// Whether nodes could be heard.
    pub(crate) hearing: Hearing,
    /// Bytes of requests and replies that are read, rendered or judged now.
    pub(crate) work: ByteBudget,
    /// Jobs that haven't shown yet that they don't end the process.
    pub(crate) trials: Trials,
    /// Whether nodes run in this process, so that what ends them ends it.
    pub(crate) has_nodes_inside: bool,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) vitals: Arc<Vitals>,
    /// The broker's door, if it is looked after here.
    gate: Option<Arc<Gate>>,
    /// The tolerances in force.
    pub(crate) thresholds: Arc<Thresholds>,
    /// Messages that this program doesn't know.
    pub(crate) parking: Parking,
    pub(crate) complaints: Complaints,
    /// An object is on its way to the archive, or was when its writer was cut off: it may still arrive.
    pub(crate) writing: AtomicBool,
    /// Jobs that wait for room, one line per model.
    lines: Mutex<HashMap<ModelName, Line>>,
    /// When the verifier began to listen to nodes, in whichever tenure.
    began: Instant,
    /// Told once the own queue is read: nothing may be dispatched before.
    pub(crate) listening: Notify,
    /// Every job's task.
    pub(crate) jobs: TaskTracker,
    /// No new work; undispatched jobs go back.
    pub(crate) draining: CancellationToken,
    /// Everything stops where it is: the tenure is over.
    pub(crate) ended: CancellationToken,
}

/// Why a tenure ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TenureEnd {
    /// Shut down.
    Shutdown,
    /// The lease could not be renewed in time: others may take its jobs, so it must not go on.
    LeaseLost,
    /// One of its tasks broke: it is deaf or blind somewhere, so it lets go of everything.
    TaskLost,
}

impl Tenure {
    /// A tenure of `verifier` under a fresh id. Nothing happens before [`Tenure::run`].
    pub(crate) fn new(verifier: &Verifier) -> Self {
        let id = VerifierId::fresh();
        let config = verifier.config.clone();
        let in_flight = Arc::default();
        verifier.vitals.watch(&in_flight);
        let peer_silence = Duration::from_millis(config.capacity_ms.saturating_mul(PEER_SUMMARIES));
        Self {
            peers: Peers::new(id.clone(), peer_silence),
            hearing: Hearing::new(peer_silence),
            work: ByteBudget::new(config.work_bytes_max),
            trials: Trials::default(),
            has_nodes_inside: verifier.has_nodes_inside,
            id,
            config,
            seams: verifier.seams.clone(),
            chats: Arc::clone(&verifier.chats),
            book: Book::default(),
            nodes: Arc::clone(&verifier.nodes),
            routes: Arc::default(),
            in_flight,
            counters: Arc::clone(&verifier.counters),
            vitals: Arc::clone(&verifier.vitals),
            gate: verifier.gate.clone(),
            thresholds: Arc::clone(&verifier.thresholds),
            parking: Parking::default(),
            complaints: Complaints::default(),
            writing: AtomicBool::new(false),
            lines: Mutex::default(),
            began: verifier.began,
            listening: Notify::new(),
            jobs: TaskTracker::new(),
            draining: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    /// The line that jobs of `model` stand in for room.
    pub(crate) fn line(&self, model: &ModelName) -> Line {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lines.entry(model.clone()).or_default())
    }

    /// Whether nodes may be alive that have not spoken yet.
    pub(crate) fn is_warming_up(&self) -> bool {
        self.began.elapsed() < Duration::from_millis(self.config.warm_up_ms)
    }

    /// Owns jobs until shut down or until the lease is lost.
    pub(crate) async fn run(self: Arc<Self>, shutdown: &Shutdown) -> TenureEnd {
        // However this future ends, the jobs' tasks end with it.
        let _ends = self.ended.clone().drop_guard();
        // Listening comes first: a heartbeat missed now would not come again for a while. The lease is taken last, because it
        // isn't renewed before there is work: while the broker is away it would run out.
        let mut tasks = JoinSet::new();
        tasks.spawn(collector::run(Arc::clone(&self)));
        tasks.spawn(parking::run(Arc::clone(&self)));
        let ready = async {
            // A word that came before this waits is kept for it.
            self.listening.notified().await;
            self.prepare().await
        };
        let renewed = tokio::select! {
            () = shutdown.cancelled() => return TenureEnd::Shutdown,
            renewed = ready => renewed,
            Some(ended) = tasks.join_next() => return self.lost(&ended),
        };
        self.start(&mut tasks);
        tracing::info!(verifier = %self.id, "owns jobs from now on");
        let end = tokio::select! {
            () = self.keep_lease(renewed) => TenureEnd::LeaseLost,
            () = self.serve(shutdown) => TenureEnd::Shutdown,
            Some(ended) = tasks.join_next() => self.lost(&ended),
        };
        self.ended.cancel();
        self.vitals.hold_lease(None);
        // Consumers go with their tasks, and what they held is given out again.
        tasks.shutdown().await;
        self.jobs.close();
        self.jobs.wait().await;
        if end == TenureEnd::LeaseLost {
            self.counters.count(Counted::LeaseLost);
        } else {
            self.end_leases().await;
        }
        end
    }

    /// None of the tasks ends by itself.
    fn lost(&self, ended: &Result<(), JoinError>) -> TenureEnd {
        self.counters.count(Counted::Panic);
        tracing::error!(verifier = %self.id, ?ended, "a task that never ends has ended");
        TenureEnd::TaskLost
    }

    fn start(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        tasks.spawn(collector::run_strays(Arc::clone(self)));
        tasks.spawn(Arc::clone(self).keep_fresh());
        tasks.spawn(capacity::run(Arc::clone(self)));
        tasks.spawn(in_flight::run(Arc::clone(self)));
        tasks.spawn(consumer::run(Arc::clone(self)));
        tasks.spawn(trials::run(Arc::clone(self)));
        tasks.spawn(sweeper::run(Arc::clone(self)));
        tasks.spawn(projector::run(Arc::clone(self)));
        tasks.spawn(archiver::run(Arc::clone(self)));
        if let Some(gate) = &self.gate {
            tasks.spawn(warden::run(Arc::clone(self), Arc::clone(gate)));
        }
    }

    /// Waits for shutdown, then for the jobs in hand, as long as draining may take.
    async fn serve(&self, shutdown: &Shutdown) {
        shutdown.cancelled().await;
        self.vitals.draining.store(true, Ordering::Relaxed);
        self.draining.cancel();
        self.jobs.close();
        let drain = Duration::from_millis(self.config.drain_ms);
        if tokio::time::timeout(drain, self.jobs.wait()).await.is_err() {
            let left = self.jobs.len();
            tracing::warn!(left, "jobs still in hand after draining; others will take them");
        }
    }

    /// The first lease and the first reading of the book; returns when the lease was taken.
    async fn prepare(&self) -> Instant {
        loop {
            let book = self.book.refresh(&self.seams).await;
            let began = Instant::now();
            match (book, self.renew().await) {
                (Ok(()), Ok(true)) => {
                    self.vitals.hold_lease(Some(began + Duration::from_millis(self.config.lease_ttl_ms)));
                    return began;
                }
                (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "the ledger is not ready"),
                (Ok(()), Ok(false)) => tracing::warn!("a fresh id's lease is taken"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn renew(&self) -> Result<bool, infera_ledger::LedgerError> {
        let ttl = Duration::from_millis(self.config.lease_ttl_ms);
        self.seams.sweeping.lease(self.id.as_str(), &self.id, Timestamp::now(), ttl).await
    }

    /// Renews the lease until it is lost: refused, or not renewed within its time. A renewal that hangs is cut off
    /// by the same clock.
    async fn keep_lease(&self, mut renewed: Instant) {
        let ttl = Duration::from_millis(self.config.lease_ttl_ms);
        let pause = Duration::from_millis(self.config.lease_renew_ms);
        loop {
            tokio::time::sleep(pause.min(ttl / 3)).await;
            let began = Instant::now();
            match tokio::time::timeout_at(renewed + ttl, self.renew()).await {
                Ok(Ok(true)) => {
                    renewed = began;
                    self.vitals.hold_lease(Some(renewed + ttl));
                }
                Ok(Ok(false)) => return tracing::error!(verifier = %self.id, "lease taken by another"),
                Ok(Err(error)) => tracing::warn!(%error, "lease not renewed"),
                Err(_) => {}
            }
            if renewed + ttl <= Instant::now() {
                return tracing::error!(verifier = %self.id, "lease lost: not renewed in time");
            }
        }
    }

    /// Lets go of the own lease and the shared ones at once, so that no verifier has to wait for them to run out. Those that
    /// another holds stay theirs.
    async fn end_leases(&self) {
        let mut names = vec![self.id.as_str(), sweeper::LEASE, projector::LEASE];
        if self.writing.load(Ordering::Relaxed) {
            tracing::warn!("a segment's write was cut off; others archive when the lease for it has run out");
        } else {
            names.push(archiver::LEASE);
        }
        for name in names {
            let ended = self.seams.sweeping.lease(name, &self.id, Timestamp::now(), Duration::ZERO);
            if let Err(error) = ended.await {
                return tracing::warn!(%error, "leases not ended; they run out by themselves");
            }
        }
    }

    /// Reads the book again and again, and forgets nodes that left.
    async fn keep_fresh(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.config.refresh_ms)).await;
            self.nodes.forget_silent(Instant::now());
            if let Err(error) = self.book.refresh(&self.seams).await {
                tracing::warn!(%error, "catalogue, nodes and standings can't be read; the last ones stay");
            }
        }
    }
}
