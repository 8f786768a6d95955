//! Feeds the queue of one model's jobs that go to nodes of their own. Each pool of nodes is a queue by itself: what one can't take
//! now holds up no other.

use std::collections::HashMap;
use std::time::Duration;

use infera_ledger::{Feeding, Flow, HeldQuestion, LedgerError, NodePool, Share};
use infera_types::ids::{JobId, ModelName};
use infera_types::retry::Backoff;
use infera_types::service::Lane;
use infera_types::time::Timestamp;
use tokio::time::Instant;

use crate::decisions::fair_share::FairShare;

/// The most jobs of one flow in one reading.
const JOBS_MAX: u32 = 32;

/// The most flows in one page: some milliseconds of reading.
const FLOWS_MAX: u32 = 500;

/// The most pages in one reading. Where there are more flows, the next reading begins behind the last.
const PAGES_MAX: usize = 4;

/// The shortest time between two readings.
const READ_APART: Duration = Duration::from_millis(25);

/// How many times as long as a reading took the next is waited for at least: of the time, a twentieth goes into reading at most.
const READING_SHARE: u32 = 20;

/// The most jobs that lie in the queue untaken. Verifiers take them within milliseconds; where none does, because all are of the
/// version before, no more are offered.
const UNTAKEN_MAX: u64 = 256;

/// How long a job that came back is left alone, twice as long each time: nodes that looked free were not, or can't do what the job
/// asks. Ten seconds at most, which is a heartbeat.
const RESTS: Backoff = Backoff::doubling(Duration::from_millis(100), Duration::from_secs(10));

/// How long the order of a pool that holds nothing is remembered.
const ORDERS_REMEMBERED: Duration = Duration::from_secs(600);

/// How long an offered job is remembered that doesn't come back.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Bounds the offered jobs that are remembered; if there are more, all are forgotten, and come back once more in vain at most.
const REMEMBERED_MAX: usize = 50_000;

/// How often a job was offered, and when last.
#[derive(Clone, Copy, Debug)]
struct Offered {
    times: u32,
    at: Instant,
}

/// The held jobs of one model that go to nodes of their own.
pub(super) struct PoolFeed {
    question: HeldQuestion,
    /// The order of each pool's jobs, among the accounts that share it, and when it had some last.
    orders: HashMap<Share, (FairShare, Instant)>,
    offered: HashMap<JobId, Offered>,
    /// When to read again.
    due: Instant,
    fed: Instant,
}

impl PoolFeed {
    /// Begins with nothing read.
    pub(super) fn new(model: ModelName) -> Self {
        let now = Instant::now();
        let lane = Lane::Own;
        Self {
            question: HeldQuestion { model, lane, after: None, flows_max: FLOWS_MAX, jobs_max: JOBS_MAX },
            orders: HashMap::new(),
            offered: HashMap::new(),
            due: now,
            fed: now,
        }
    }

    /// Returns when the queue was fed last.
    pub(super) const fn fed(&self) -> Instant {
        self.fed
    }

    /// Offers to each pool as many of its jobs as it has room for (`rooms`), while fewer than the bound lie `untaken`, and hands those to
    /// `take` that were still held.
    pub(super) async fn offer(
        &mut self,
        feeding: &dyn Feeding,
        untaken: u64,
        rooms: &HashMap<NodePool, usize>,
        mut take: impl FnMut(Vec<JobId>) + Send,
    ) -> Result<(), LedgerError> {
        let began = Instant::now();
        self.fed = began;
        if began < self.due || untaken >= UNTAKEN_MAX {
            return Ok(());
        }
        let by_pool = self.read(feeding, began).await?;
        let mut turns = Vec::new();
        for (share, flows) in by_pool {
            let room = rooms.get(&NodePool::of_share(share.as_str())).copied().unwrap_or(0);
            let (order, seen) =
                self.orders.entry(share).or_insert_with(|| (FairShare::of_lists(JOBS_MAX as usize), began));
            order.refresh(flows, began);
            *seen = began;
            turns.extend(order.next(room));
        }
        self.orders.retain(|_, (_, seen)| began.duration_since(*seen) < ORDERS_REMEMBERED);
        let most = usize::try_from(UNTAKEN_MAX - untaken).unwrap_or(usize::MAX);
        turns.truncate(most);
        if turns.is_empty() {
            return Ok(());
        }
        let offered = feeding.offer(&turns, Timestamp::now()).await?;
        for job in &offered {
            let times = self.offered.get(job).map_or(0, |before| before.times);
            self.offered.insert(*job, Offered { times: times.saturating_add(1), at: began });
        }
        take(offered);
        Ok(())
    }

    /// Reads what is held, by pools, without the jobs that came back a moment ago.
    async fn read(
        &mut self,
        feeding: &dyn Feeding,
        began: Instant,
    ) -> Result<HashMap<Share, Vec<Flow>>, LedgerError> {
        if self.offered.len() > REMEMBERED_MAX {
            self.offered.clear();
        }
        self.offered.retain(|_, offered| began.duration_since(offered.at) < REMEMBERED);
        let mut by_pool: HashMap<Share, Vec<Flow>> = HashMap::new();
        for _ in 0..PAGES_MAX {
            let page = feeding.held(&self.question, Timestamp::now()).await?;
            let is_last = page.len() < FLOWS_MAX as usize;
            self.question.after = page.last().filter(|_| !is_last).map(|flow| flow.key.clone());
            for mut flow in page {
                flow.jobs.retain(|job| !self.rests(job.id, began));
                by_pool.entry(flow.key.share.clone()).or_default().push(flow);
            }
            if is_last {
                break;
            }
        }
        let read = Instant::now();
        self.due = read + READ_APART.max(read.duration_since(began) * READING_SHARE);
        Ok(by_pool)
    }

    /// Returns whether a job came back a moment ago: it was offered, and is held again.
    fn rests(&self, job: JobId, now: Instant) -> bool {
        self.offered.get(&job).is_some_and(|offered| now < offered.at + RESTS.wait(offered.times))
    }
}
