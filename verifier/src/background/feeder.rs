//! Offers held jobs to the broker, each in its turn, so that the broker's queues stay short and one account's backlog is
//! never ahead of another account's job. One verifier at a time does it, under a shared lease. Two that overlap for a moment
//! offer no job twice, and a few jobs more than they may.
//!
//! What a queue holds is read and put into order in `queue_feed`, and in `pool_feed` for jobs that go to nodes of their own. The order itself is a decision
//! ([`crate::decisions::fair_share`]), and so is how much may be offered.

mod pool_feed;
mod queue_feed;
mod shown;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use infera_broker::{Address, Broker, Published, topology};
use infera_ledger::{Feeding, LedgerError, NodePool, Sweeping, WaitingJobs};
use infera_types::ids::{AccountId, JobId, ModelName, NodeId};
use infera_types::messages::{JobNotice, Version, Wire};
use infera_types::service::Lane;
use infera_types::time::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::decisions::offers::{offered_max, pool_rooms};
use crate::nodes::{LedgerView, NodeTable, fleet};
use crate::tenure::{LeaseName, Leases};
use pool_feed::PoolFeed;
use queue_feed::QueueFeed;
use shown::Shown;

/// The shortest time between two looks. Nodes' room changes with every assignment, thousands of times a second.
const LOOKS_APART: Duration = Duration::from_millis(5);

/// How often the ledger is asked while nothing waits: a first job waits for a tenth of a second at most, and ten questions
/// a second about an empty index cost nothing that shows.
const IDLE: Duration = Duration::from_millis(100);

/// How long to wait after the ledger has failed.
const LEDGER_AWAY: Duration = Duration::from_secs(1);

/// How often all that waits is counted, for operators and for scaling.
const COUNTED_EACH: Duration = Duration::from_secs(1);

/// How many notices are published at once.
const AT_ONCE: usize = 64;

/// How long a publish may take before the job is left to the sweeper: a queue that says nothing must not hold up the others.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(1);

/// How long the order of a queue that holds nothing is remembered, with what its accounts were served.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What the task needs.
pub(crate) struct Feeder {
    /// The operator's settings.
    pub(crate) config: Arc<Config>,
    /// Finds held jobs and offers them.
    pub(crate) feeding: Arc<dyn Feeding>,
    /// Records that the broker has their notices.
    pub(crate) sweeping: Arc<dyn Sweeping>,
    /// Keeps the lease.
    pub(crate) leases: Arc<Leases>,
    /// What the ledger says of the network.
    pub(crate) ledger_view: Arc<LedgerView>,
    /// The live nodes.
    pub(crate) nodes: Arc<NodeTable>,
    /// Carries the notices.
    pub(crate) broker: Arc<dyn Broker>,
}

/// A job that was offered, with the queue that its notice belongs in.
struct Offer {
    job: JobId,
    model: ModelName,
    lane: Lane,
}

/// What one look has found, which says when to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing waits.
    Nothing,
    /// Jobs wait for a verifier, and none for its turn.
    Offered,
    /// Jobs wait for their turn, which comes when nodes have room.
    Held,
}

/// What the feeder knows from one look to the next, while it has the lease.
struct Feeds {
    queues: HashMap<(ModelName, Lane), QueueFeed>,
    pools: HashMap<ModelName, PoolFeed>,
    /// How far jobs are counted, unless all are: beyond what may be offered in any queue.
    count_max: u32,
    shown: Shown,
    /// When all were counted last.
    counted: Option<Instant>,
}

impl Default for Feeds {
    fn default() -> Self {
        let (queues, pools) = (HashMap::new(), HashMap::new());
        Self { queues, pools, count_max: 64, shown: Shown::default(), counted: None }
    }
}

impl Feeder {
    /// Feeds the queues until the tenure ends.
    pub(crate) async fn run(self) {
        let lease = Duration::from_millis(self.config.shared_lease_ms);
        let mut changes = self.nodes.changes();
        let mut feeds = Feeds::default();
        let mut renewed: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if renewed.is_none_or(|renewed| now.duration_since(renewed) >= lease / 3) {
                renewed = self.renew(lease).await.then_some(now);
                if renewed.is_none() {
                    // The order belongs to the verifier that has the lease now.
                    feeds = Feeds::default();
                    tokio::time::sleep(lease / 3).await;
                    continue;
                }
            }
            match self.look(&mut feeds).await {
                Ok(found) => self.pause(found, &mut changes).await,
                Err(error) => {
                    tracing::warn!(%error, "held jobs can't be offered now");
                    tokio::time::sleep(LEDGER_AWAY).await;
                }
            }
        }
    }

    async fn renew(&self, lease: Duration) -> bool {
        let held = self.leases.hold(LeaseName::Feeder, lease).await;
        held.unwrap_or_else(|error| {
            tracing::warn!(%error, "the feeder's lease can't be renewed");
            false
        })
    }

    /// Waits until it is time to look again.
    async fn pause(&self, found: Found, changes: &mut watch::Receiver<()>) {
        let pause = Duration::from_millis(self.config.feed_ms);
        match found {
            Found::Held => {
                let due = Instant::now() + pause;
                tokio::time::sleep(LOOKS_APART).await;
                let _ = tokio::time::timeout_at(due, changes.changed()).await;
            }
            Found::Offered => tokio::time::sleep(pause).await,
            Found::Nothing => tokio::time::sleep(pause.max(IDLE)).await,
        }
    }

    /// Looks at all queues once, and offers as much as there is room for.
    async fn look(&self, feeds: &mut Feeds) -> Result<Found, LedgerError> {
        let now = Instant::now();
        let counts_all = feeds.counted.is_none_or(|counted| now.duration_since(counted) >= COUNTED_EACH);
        let count_max = if counts_all { u32::MAX } else { feeds.count_max };
        let waiting = self.feeding.waiting(count_max).await?;
        if counts_all {
            feeds.counted = Some(now);
            feeds.shown.show(self.ledger_view.snapshot().catalogue.keys(), &waiting);
            feeds.queues.retain(|_, feed| now.duration_since(feed.fed()) < REMEMBERED);
            feeds.pools.retain(|_, feed| now.duration_since(feed.fed()) < REMEMBERED);
        }
        let mut offers = Vec::new();
        let offered = self.offer(feeds, count_max, &waiting, &mut offers).await;
        // A failure of one queue doesn't keep the notices of the others from their way.
        self.publish(offers).await?;
        offered?;
        let is_held = |kind: &WaitingJobs| {
            // What waits for a node that isn't there is offered once a look finds the node.
            let own = || feeds.pools.get(&kind.model).is_some_and(PoolFeed::waits_for_room);
            kind.held > 0 && (kind.lane != Lane::Own || own())
        };
        Ok(match waiting.iter().any(is_held) {
            true => Found::Held,
            false if waiting.is_empty() => Found::Nothing,
            false => Found::Offered,
        })
    }

    /// Offers held jobs of each queue that has room, and adds them to `offers`.
    async fn offer(
        &self,
        feeds: &mut Feeds,
        count_max: u32,
        waiting: &[WaitingJobs],
        offers: &mut Vec<Offer>,
    ) -> Result<(), LedgerError> {
        for WaitingJobs { model, lane, offered, held } in waiting {
            if *held == 0 {
                continue;
            }
            if *lane == Lane::Own {
                self.offer_own(feeds, model, *offered, offers).await?;
                continue;
            }
            let most = self.offered_max(model);
            feeds.count_max = feeds.count_max.max(most.saturating_add(1));
            // Of a count that was cut off it isn't known how much room is left; the next look counts further.
            let is_cut_off = *offered >= u64::from(count_max);
            let room = u64::from(most).saturating_sub(*offered);
            if room == 0 || is_cut_off {
                continue;
            }
            let feed = feeds.queues.entry((model.clone(), *lane));
            let feed = feed.or_insert_with(|| QueueFeed::new(model.clone(), *lane));
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let offer = |job| Offer { job, model: model.clone(), lane: *lane };
            feed.offer(&*self.feeding, room, |jobs| offers.extend(jobs.into_iter().map(offer))).await?;
        }
        Ok(())
    }

    /// Offers held jobs that go to nodes of their own, to each pool of nodes as many as it has room for now.
    async fn offer_own(
        &self,
        feeds: &mut Feeds,
        model: &ModelName,
        offered: u64,
        offers: &mut Vec<Offer>,
    ) -> Result<(), LedgerError> {
        let snapshot = self.ledger_view.snapshot();
        let Some(entry) = snapshot.catalogue.get(model) else { return Ok(()) };
        let views = self.nodes.views(&entry.digests, Instant::now());
        // In any pool but the open one nodes are their owners'.
        let any = NodePool::Account(AccountId::new(""));
        let candidates = fleet(&snapshot, model, &views, &any, None).candidates;
        let rooms = pool_rooms(&candidates, self.config.distinct);
        let feed = feeds.pools.entry(model.clone()).or_insert_with(|| PoolFeed::new(model.clone()));
        let offer = |job| Offer { job, model: model.clone(), lane: Lane::Own };
        feed.offer(&*self.feeding, offered, &rooms, |jobs| offers.extend(jobs.into_iter().map(offer))).await
    }

    /// Returns how many jobs of the model may lie in one of its queues.
    fn offered_max(&self, model: &ModelName) -> u32 {
        let snapshot = self.ledger_view.snapshot();
        let slots = snapshot
            .catalogue
            .get(model)
            .map(|entry| {
                let is_strangers = |node: &NodeId| !snapshot.pools.is_private(node);
                self.nodes.slots(&entry.digests, Instant::now(), is_strangers)
            })
            .unwrap_or_default();
        offered_max(slots.free, slots.all)
    }

    /// Publishes notices and marks those that the broker confirms. The sweeper publishes the others again.
    async fn publish(&self, offers: Vec<Offer>) -> Result<(), LedgerError> {
        for chunk in offers.chunks(AT_ONCE) {
            let publishing = chunk.iter().map(|Offer { job, model, lane }| async move {
                let address = Address::Queue(topology::jobs_in(model, *lane).name);
                let message = JobNotice { job_id: *job, speaks: Version::NEWEST }.to_message(job.to_string());
                let published = self.broker.publish(&address, message);
                let published = tokio::time::timeout(PUBLISHED_WITHIN, published).await;
                (*job, published.unwrap_or(Published::Unknown))
            });
            let outcomes = join_all(publishing).await;
            let is_confirmed = |published: &Published| *published == Published::Confirmed;
            let confirmed: Vec<JobId> = outcomes
                .iter()
                .filter(|(_, published)| is_confirmed(published))
                .map(|(job, _)| *job)
                .collect();
            if !confirmed.is_empty() {
                self.sweeping.handed_out(&confirmed, Timestamp::now()).await?;
            }
            if confirmed.len() < outcomes.len() {
                let unconfirmed = outcomes.len() - confirmed.len();
                tracing::warn!(
                    unconfirmed,
                    "the broker doesn't confirm notices; the sweeper publishes them again"
                );
                break;
            }
        }
        Ok(())
    }
}
