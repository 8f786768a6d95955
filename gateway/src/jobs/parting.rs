//! Ends the jobs of a streamed request whose client hung up after it had a part of the answer. Their owner is told what the client
//! had, and ends them with that part charged; a job that it doesn't end in time is cancelled here, which costs nothing.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use infera_types::frames::Watched;
use infera_types::ids::{AccountId, JobId};
use infera_types::job::Settlement;
use tokio::time::{Instant, MissedTickBehavior};

use super::abandonment::TakenOver;
use super::handle::Jobs;
use super::waiters::Wait;

/// How long an owner has to end a job: several losses of the message in a row, or another owner's beginning. Longer, the nodes
/// would work in vain.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How often owners that haven't ended their jobs are told again, since the message may be lost.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The jobs of a request whose client hung up, on their way to their ends.
pub(crate) struct Parting {
    jobs: Arc<Jobs>,
    account: AccountId,
    stops: Vec<Watched>,
    waits: Vec<Wait>,
    _taken: TakenOver,
}

impl Parting {
    /// Takes over the jobs of a request: from now on the guard of its future leaves them alone.
    pub(crate) fn begin(jobs: &Arc<Jobs>, account: AccountId, had: Vec<Watched>) -> Self {
        let ids: Vec<JobId> = had.iter().map(|watched| watched.job).collect();
        Self {
            // One for which there is no room is looked up at the end.
            waits: ids.iter().filter_map(|id| jobs.waiters.begin(*id)).collect(),
            _taken: jobs.canceller.take_over(&ids),
            stops: had.into_iter().map(|watched| Watched { stop: true, ..watched }).collect(),
            jobs: Arc::clone(jobs),
            account,
        }
    }

    /// Returns the ends of the jobs. Those that have none in time are being cancelled, and missing.
    pub(crate) async fn ends(mut self) -> Vec<Settlement> {
        let mut ends = self.until_ended().await;
        let mut left = open(&self.stops, &ends);
        if !left.is_empty() {
            let ids: Vec<JobId> = left.iter().map(|watched| watched.job).collect();
            match self.jobs.reader.settlements(&ids).await {
                Ok(found) => ends.extend(found),
                Err(error) => {
                    tracing::warn!(job = ?ids.first(), %error, "the ends of jobs whose client hung up could not be looked up");
                }
            }
            left = open(&self.stops, &ends);
        }
        if !left.is_empty() {
            // One that has ended meanwhile keeps its end.
            self.jobs.canceller.cancel(self.account, left.iter().map(|watched| watched.job).collect());
        }
        ends
    }

    async fn until_ended(&mut self) -> Vec<Settlement> {
        let deadline = Instant::now() + END_WITHIN;
        let mut ticks = tokio::time::interval(AGAIN_AFTER);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting: FuturesUnordered<_> = self.waits.iter_mut().map(Wait::end).collect();
        let mut ends = Vec::new();
        loop {
            let left = open(&self.stops, &ends);
            if left.is_empty() {
                return ends;
            }
            tokio::select! {
                // A damaged end is found again when it is looked up, and said by the log.
                Some(end) = waiting.next() => ends.extend(end),
                _ = ticks.tick() => self.jobs.streams.tell(&left),
                () = tokio::time::sleep_until(deadline) => return ends,
            }
        }
    }
}

/// Returns the jobs that have not ended.
fn open(stops: &[Watched], ends: &[Settlement]) -> Vec<Watched> {
    let is_open = |watched: &&Watched| !ends.iter().any(|end| end.job_id == watched.job);
    stops.iter().filter(is_open).copied().collect()
}
