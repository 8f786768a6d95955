//! Describes one verifier id's time: from its first lease to shutdown, or to the moment when its lease can't be renewed. This
//! room holds what all tasks of that time share, as data: nothing here runs but the task that parks messages, and nothing here
//! knows a job's life. Ids are new in each tenure, so that work of an earlier one is never mistaken for its own.
//!
//! `backoffs` says how far apart tries are. `chats` holds tokenizers and templates. `leases` keeps the leases, `in_flight` the jobs in hand, `held_notice` their
//! notices, `trials` which of them are tried beside which, and `turns` their order where room is scarce. `peers` counts the
//! other verifiers. `parking` moves unknown messages away. `counters`, `vitals` and `log_throttles` are what operators see.

mod backoffs;
mod chats;
mod counters;
mod held_notice;
mod in_flight;
mod leases;
mod log_throttles;
mod parking;
mod peers;
mod trials;
mod turns;
mod vitals;

use std::sync::Arc;
use std::time::Duration;

use infera_model::chat_source::ChatSource;
use infera_types::byte_budget::ByteBudget;
use infera_types::ids::{ModelName, VerifierId};
use infera_types::time::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use backoffs::{LEDGER_RETRY, SEARCH_RETRY};
pub(crate) use chats::Chats;
pub use counters::Counters;
pub(crate) use held_notice::{Counted, HeldNotice, Tally};
pub(crate) use in_flight::InFlight;
pub(crate) use leases::{LeaseName, Leases};
pub(crate) use log_throttles::LogThrottles;
pub(crate) use parking::Parking;
pub(crate) use peers::Peers;
pub(crate) use trials::{Suspect, TRIAL_MAX, Trial, Trials};
pub(crate) use turns::Turns;
pub use vitals::VerifierHandle;
pub(crate) use vitals::{Consuming, Vitals};

use crate::config::Config;
use crate::decisions::thresholds::Thresholds;
use crate::nodes::{Hearing, LedgerView, NodeTable, Routes, room};
use crate::seams::Seams;
use crate::streams::Streams;

/// How long a verifier counts as alive after its last summary, in summaries. Its nodes count as audible for as long after its
/// own.
const PEER_SUMMARIES: u64 = 4;

/// What outlives a tenure: all of a verifier but its id and the work in hand.
pub(crate) struct Lasting {
    /// The operator's settings.
    pub(crate) config: Arc<Config>,
    /// Ledger, archive and broker.
    pub(crate) seams: Seams,
    /// Tokenizers and templates.
    pub(crate) chats: Arc<Chats>,
    /// Where those of added models are found; none if the verifier has only those that it was started with.
    pub(crate) chat_source: Option<Arc<dyn ChatSource>>,
    /// The tolerances in force.
    pub(crate) thresholds: Arc<Thresholds>,
    /// Counts of what happened.
    pub(crate) counters: Arc<Counters>,
    /// How the verifier is, for operators.
    pub(crate) vitals: Arc<Vitals>,
    /// The live nodes. A new tenure need not wait for their next heartbeats.
    pub(crate) nodes: Arc<NodeTable>,
    /// Whether nodes run in this process, so that what ends them ends it.
    pub(crate) has_nodes_inside: bool,
    /// When the verifier began to listen to nodes, in whichever tenure.
    pub(crate) began: Instant,
}

/// What all tasks of one verifier id share.
pub(crate) struct Tenure {
    /// The owner of everything taken.
    pub(crate) id: VerifierId,
    /// The operator's settings.
    pub(crate) config: Arc<Config>,
    /// Ledger, archive and broker.
    pub(crate) seams: Seams,
    /// Tokenizers and templates.
    pub(crate) chats: Arc<Chats>,
    /// Where those of added models are found.
    pub(crate) chat_source: Option<Arc<dyn ChatSource>>,
    /// The tolerances in force.
    pub(crate) thresholds: Arc<Thresholds>,
    /// This id's leases.
    pub(crate) leases: Arc<Leases>,
    /// What the ledger says of the network.
    pub(crate) ledger_view: Arc<LedgerView>,
    /// The live nodes.
    pub(crate) nodes: Arc<NodeTable>,
    /// The open assignments' ways back to their jobs.
    pub(crate) routes: Arc<Routes>,
    /// The streams of jobs in progress.
    pub(crate) streams: Arc<Streams>,
    /// The other verifiers.
    pub(crate) peers: Peers,
    /// Whether nodes could be heard.
    pub(crate) hearing: Hearing,
    /// Bytes of requests and replies that are read, rendered or judged now.
    pub(crate) work: ByteBudget,
    /// Jobs that haven't shown yet that they don't end the process.
    pub(crate) trials: Trials,
    /// Whether nodes run in this process, so that what ends them ends it.
    pub(crate) has_nodes_inside: bool,
    /// The jobs in hand.
    pub(crate) in_flight: Arc<InFlight>,
    /// Counts of what happened.
    pub(crate) counters: Arc<Counters>,
    /// How the verifier is, for operators.
    pub(crate) vitals: Arc<Vitals>,
    /// Bounds what the log says of useless messages.
    pub(crate) throttles: Arc<LogThrottles>,
    /// Messages that this program doesn't know.
    pub(crate) parking: Arc<Parking>,
    /// The order of jobs that wait for room.
    pub(crate) turns: Turns,
    began: Instant,
    /// Told once the own queue is read: nothing may be dispatched before.
    pub(crate) listening: Notify,
    /// Every job's task.
    pub(crate) jobs: TaskTracker,
    /// Cancelled at shutdown: no new work, and jobs whose nodes weren't asked go back.
    pub(crate) draining: CancellationToken,
    /// Cancelled when the tenure is over: everything stops where it is.
    pub(crate) ended: CancellationToken,
}

impl Tenure {
    /// Makes a tenure under a fresh id. Nothing happens before its tasks are started.
    pub(crate) fn new(lasting: &Lasting) -> Self {
        let id = VerifierId::fresh();
        let config = Arc::clone(&lasting.config);
        let (seams, counters) = (lasting.seams.clone(), Arc::clone(&lasting.counters));
        let throttles = Arc::new(LogThrottles::default());
        let in_flight = Arc::default();
        lasting.vitals.watch(&in_flight);
        let peer_silence = Duration::from_millis(config.capacity_ms.saturating_mul(PEER_SUMMARIES));
        Self {
            peers: Peers::new(id.clone(), peer_silence),
            hearing: Hearing::new(peer_silence),
            work: ByteBudget::new(config.work_bytes_max),
            trials: Trials::default(),
            has_nodes_inside: lasting.has_nodes_inside,
            leases: Arc::new(Leases::new(Arc::clone(&seams.sweeping), id.clone())),
            parking: Arc::new(Parking::new(
                Arc::clone(&seams.broker),
                Arc::clone(&counters),
                Arc::clone(&throttles),
            )),
            id,
            config,
            seams,
            chats: Arc::clone(&lasting.chats),
            chat_source: lasting.chat_source.clone(),
            thresholds: Arc::clone(&lasting.thresholds),
            ledger_view: Arc::default(),
            nodes: Arc::clone(&lasting.nodes),
            routes: Arc::default(),
            streams: Arc::default(),
            in_flight,
            counters,
            vitals: Arc::clone(&lasting.vitals),
            throttles,
            turns: Turns::default(),
            began: lasting.began,
            listening: Notify::new(),
            jobs: TaskTracker::new(),
            draining: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    /// Returns the models that were removed from the catalogue and that no live node serves any more. Of a verifier that may not
    /// have heard all nodes it is none.
    pub(crate) fn unserved(&self) -> Vec<ModelName> {
        let now = Timestamp::now();
        let silence = u64::try_from(self.config.silence_max().as_millis()).unwrap_or(u64::MAX);
        let heard_since = Timestamp::from_millis(now.as_millis().saturating_sub(silence));
        if self.is_warming_up() || self.hearing.was_deaf_since(heard_since, now) {
            return Vec::new();
        }
        let snapshot = self.ledger_view.snapshot();
        let removed = snapshot.catalogue.values().filter(|entry| entry.is_removed());
        let unserved = removed.filter(|entry| !room::is_served(&snapshot, &self.nodes, entry));
        unserved.map(|entry| entry.name.clone()).collect()
    }

    /// Returns whether nodes may be alive that have not sent a heartbeat yet.
    pub(crate) fn is_warming_up(&self) -> bool {
        self.began.elapsed() < Duration::from_millis(self.config.warm_up_ms)
    }
}
