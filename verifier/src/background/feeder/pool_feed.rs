//! Feeds the queue of one model's jobs that go to nodes of their own. Each pool of nodes is a queue by itself: what one can't take
//! now holds up no other. A job that asks for more machines than its pool has stays in the ledger until a look finds them. One that comes
//! back again and again, because its nodes can't do what it asks, waits until its deadline, leaves every other turn of its flow to the
//! others, and is offered ever more rarely the more of them there are.

use std::collections::HashMap;
use std::time::Duration;

use infera_ledger::{Feeding, Flow, FlowKey, HeldJob, HeldQuestion, LedgerError, NodePool, Share, Turn};
use infera_types::ids::{JobId, ModelName};
use infera_types::retry::Backoff;
use infera_types::service::Lane;
use infera_types::time::Timestamp;
use tokio::time::Instant;

use crate::decisions::fair_share::FairShare;
use crate::decisions::offers::PoolRoom;

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

/// How often a job comes back before it only gets every other turn of its flow: most of a second of rests, in which nodes that are busy
/// have room again.
const BACK_OFTEN: u32 = 3;

/// How much time each job takes of its pool's that is offered again though it came back often: ten in a second cost little, whatever
/// waits, and are as many as nodes that were just busy are likely to take.
const OFTEN_APART: Duration = Duration::from_millis(100);

/// The most jobs of one flow that are looked through for one that may be offered: all that an account may have waiting at the
/// default of `gateway.waiting_max`.
const SEARCHED_MAX: u32 = 16_384;

/// How many times as many jobs each further step of a search reads, so that all steps together cost little more than the last.
const SEARCHED_GROWTH: u32 = 8;

/// The most flows that are looked through in one reading: some tens of milliseconds. The next reading goes on behind them.
const SEARCHES_MAX: usize = 16;

/// How long an offered job is remembered that doesn't come back.
const REMEMBERED: Duration = Duration::from_secs(60);

/// How long a job is remembered that came back: longer than it takes to offer all that an account may have waiting.
const BACK_REMEMBERED: Duration = Duration::from_secs(600);

/// Bounds the offered jobs that are remembered; if there are more, all are forgotten, and come back once more in vain at most.
const REMEMBERED_MAX: usize = 50_000;

/// How often a job was offered, and when last.
#[derive(Clone, Copy, Debug)]
struct Offered {
    times: u32,
    at: Instant,
}

impl Offered {
    /// Returns whether the job, which is held again, came back a moment ago.
    fn rests(&self, now: Instant) -> bool {
        now < self.at + RESTS.wait(self.times)
    }

    /// Returns whether the job came back often, so that it leaves every other turn to others.
    const fn is_often(&self) -> bool {
        self.times >= BACK_OFTEN
    }

    fn is_remembered(&self, now: Instant) -> bool {
        let remembered = if self.times > 1 { BACK_REMEMBERED } else { REMEMBERED };
        now.duration_since(self.at) < remembered
    }
}

/// The order of one pool's jobs.
struct Order {
    fair: FairShare,
    /// When the pool had some last.
    seen: Instant,
    /// When those may be offered again that came back often.
    often_due: Instant,
}

impl Order {
    fn new(now: Instant) -> Self {
        Self { fair: FairShare::of_lists(JOBS_MAX as usize), seen: now, often_due: now }
    }
}

/// Returns the room of the pool that is counted under a share; none if it has no node.
fn room_of(rooms: &HashMap<NodePool, PoolRoom>, share: &Share) -> Option<PoolRoom> {
    rooms.get(&NodePool::of_share(share.as_str())).copied()
}

/// A flow as it was read, with the key of the one before it, behind which it is found again.
struct Read {
    before: Option<FlowKey>,
    flow: Flow,
}

/// The held jobs of one model that go to nodes of their own.
pub(super) struct PoolFeed {
    question: HeldQuestion,
    /// The order of each pool's jobs, among the accounts that share it.
    orders: HashMap<Share, Order>,
    offered: HashMap<JobId, Offered>,
    /// The last flow that was looked through.
    searched: Option<FlowKey>,
    readings: u64,
    /// Whether some of the pools with held jobs had the nodes for one of them, at the last reading.
    waits_for_room: bool,
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
            searched: None,
            readings: 0,
            waits_for_room: false,
            due: now,
            fed: now,
        }
    }

    /// Returns when the queue was fed last.
    pub(super) const fn fed(&self) -> Instant {
        self.fed
    }

    /// Returns whether some held job may be offered as soon as a node has room. Jobs whose pool has too few nodes wait for these.
    pub(super) const fn waits_for_room(&self) -> bool {
        self.waits_for_room
    }

    /// Offers to each pool as many of its jobs as it has room for (`rooms`), while fewer than the bound lie `untaken`, and hands those to
    /// `take` that were still held.
    pub(super) async fn offer(
        &mut self,
        feeding: &dyn Feeding,
        untaken: u64,
        rooms: &HashMap<NodePool, PoolRoom>,
        mut take: impl FnMut(Vec<JobId>) + Send,
    ) -> Result<(), LedgerError> {
        let began = Instant::now();
        self.fed = began;
        if began < self.due || untaken >= UNTAKEN_MAX {
            return Ok(());
        }
        let by_pool = self.read(feeding, rooms, began).await?;
        let mut turns = Vec::new();
        for (share, flows) in by_pool {
            let room = room_of(rooms, &share).map_or(0, |room| room.jobs);
            let order = self.orders.entry(share).or_insert_with(|| Order::new(began));
            order.fair.refresh(flows, began);
            order.seen = began;
            let next = order.fair.next(room);
            let is_often = |turn: &&Turn| self.offered.get(&turn.id).is_some_and(Offered::is_often);
            let often = u32::try_from(next.iter().filter(is_often).count()).unwrap_or(u32::MAX);
            order.often_due = order.often_due.max(began + OFTEN_APART.saturating_mul(often));
            turns.extend(next);
        }
        self.orders.retain(|_, order| began.duration_since(order.seen) < ORDERS_REMEMBERED);
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

    /// Reads what is held, by pools, without the jobs that came back a moment ago. Where none of a flow's oldest jobs goes first and
    /// its pool has room, it is looked through for one that does.
    async fn read(
        &mut self,
        feeding: &dyn Feeding,
        rooms: &HashMap<NodePool, PoolRoom>,
        began: Instant,
    ) -> Result<HashMap<Share, Vec<Flow>>, LedgerError> {
        if self.offered.len() > REMEMBERED_MAX {
            self.offered.clear();
        }
        self.offered.retain(|_, offered| offered.is_remembered(began));
        let mut found = self.read_pages(feeding).await?;
        let with_room = |read: &Read| {
            let room = room_of(rooms, &read.flow.key.share)?;
            (room.jobs > 0 && self.is_to_be_searched(&read.flow, room, began)).then_some(room)
        };
        let mut to_search: Vec<(usize, PoolRoom)> =
            found.iter().enumerate().filter_map(|(at, read)| Some((at, with_room(read)?))).collect();
        // Behind the last that was looked through, so that each has its turn.
        let is_before = |(at, _): &(usize, PoolRoom)| {
            found.get(*at).is_some_and(|read| Some(&read.flow.key) <= self.searched.as_ref())
        };
        to_search.sort_by_key(is_before);
        for (at, room) in to_search.into_iter().take(SEARCHES_MAX) {
            let Some(read) = found.get_mut(at) else { continue };
            self.searched = Some(read.flow.key.clone());
            if let Some(flow) = self.search(feeding, read, room, began).await? {
                read.flow = flow;
            }
        }
        self.readings += 1;
        self.waits_for_room = false;
        let mut by_pool: HashMap<Share, Vec<Flow>> = HashMap::new();
        for Read { mut flow, .. } in found {
            let share = &flow.key.share;
            let room = room_of(rooms, share);
            flow.jobs.retain(|job| room.is_some_and(|room| room.fits(job)));
            self.waits_for_room |= !flow.jobs.is_empty();
            let are_often_due = self.orders.get(share).is_none_or(|order| order.often_due <= began);
            flow.jobs = self.in_order(&flow.jobs, are_often_due, began);
            by_pool.entry(flow.key.share.clone()).or_default().push(flow);
        }
        let read = Instant::now();
        self.due = read + READ_APART.max(read.duration_since(began) * READING_SHARE);
        Ok(by_pool)
    }

    async fn read_pages(&mut self, feeding: &dyn Feeding) -> Result<Vec<Read>, LedgerError> {
        let mut found = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut before = self.question.after.clone();
            let page = feeding.held(&self.question, Timestamp::now()).await?;
            let is_last = page.len() < FLOWS_MAX as usize;
            self.question.after = page.last().filter(|_| !is_last).map(|flow| flow.key.clone());
            for flow in page {
                let key = flow.key.clone();
                found.push(Read { before: before.replace(key), flow });
            }
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    /// Returns whether a flow may have jobs behind those that were read, and none of these goes first.
    fn is_to_be_searched(&self, flow: &Flow, room: PoolRoom, now: Instant) -> bool {
        flow.jobs.len() >= JOBS_MAX as usize && !self.some_goes_first(flow, room, now)
    }

    /// Reads more and more jobs of a flow, until one of them goes first; none if the flow has no jobs any more.
    async fn search(
        &self,
        feeding: &dyn Feeding,
        read: &Read,
        room: PoolRoom,
        now: Instant,
    ) -> Result<Option<Flow>, LedgerError> {
        let mut jobs_max = JOBS_MAX;
        loop {
            jobs_max = jobs_max.saturating_mul(SEARCHED_GROWTH).min(SEARCHED_MAX);
            let (after, model) = (read.before.clone(), self.question.model.clone());
            let question = HeldQuestion { model, lane: Lane::Own, after, flows_max: 1, jobs_max };
            let flow = feeding.held(&question, Timestamp::now()).await?.pop();
            let Some(flow) = flow.filter(|flow| flow.key == read.flow.key) else { return Ok(None) };
            let is_whole = flow.jobs.len() < jobs_max as usize || jobs_max >= SEARCHED_MAX;
            if is_whole || self.some_goes_first(&flow, room, now) {
                return Ok(Some(flow));
            }
        }
    }

    fn some_goes_first(&self, flow: &Flow, room: PoolRoom, now: Instant) -> bool {
        flow.jobs.iter().any(|job| room.fits(job) && self.goes_first(job.id, now))
    }

    /// Returns whether a job neither rests nor came back often.
    fn goes_first(&self, job: JobId, now: Instant) -> bool {
        self.offered.get(&job).is_none_or(|offered| !offered.is_often() && !offered.rests(now))
    }

    /// Returns the jobs of a flow that don't rest, in the order of their turns: those that came back often, if it is their time, and the
    /// others in turns, each in the order of their acceptance. Which kind begins changes with each reading, because there may be room
    /// for one only.
    fn in_order(&self, jobs: &[HeldJob], are_often_due: bool, now: Instant) -> Vec<HeldJob> {
        let awake =
            jobs.iter().filter(|job| self.offered.get(&job.id).is_none_or(|offered| !offered.rests(now)));
        let (first, mut often): (Vec<HeldJob>, Vec<HeldJob>) =
            awake.partition(|job| self.goes_first(job.id, now));
        if !are_often_due {
            often.clear();
        }
        let (mut one, mut other) = (first.into_iter(), often.into_iter());
        if self.readings.is_multiple_of(2) {
            std::mem::swap(&mut one, &mut other);
        }
        let mut ordered = Vec::with_capacity(JOBS_MAX as usize);
        while ordered.len() < JOBS_MAX as usize {
            let pair = [one.next(), other.next()];
            if pair == [None, None] {
                break;
            }
            ordered.extend(pair.into_iter().flatten());
        }
        ordered.truncate(JOBS_MAX as usize);
        ordered
    }
}
