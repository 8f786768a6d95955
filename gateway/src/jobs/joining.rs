//! Waits for the jobs that an earlier request made, in place of making new ones: a retry's whose client came back, or those under an
//! idempotency key that still run. A stream is told which these are, so that it follows them from their beginning.

use std::time::{Duration, Instant};

use infera_ledger::{JobState, JobView};
use infera_types::ids::{AccountId, JobId};
use tokio::sync::oneshot;

use super::ends::{Waits, has_ended};
use super::handle::Jobs;
use super::order::Outcome;
use super::reading::read_all;
use crate::api::error::ApiError;
use crate::api::failure::Failure;

/// The earlier jobs that a stream shows.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The jobs in the order of the answers.
    pub(crate) jobs: Vec<JobId>,
    /// Whether they were made under the request's idempotency key.
    pub(crate) replayed: bool,
}

/// Says whether a request may join an earlier one that still runs, and tells its stream of that.
#[derive(Debug)]
pub(crate) struct Joins(Option<oneshot::Sender<Joined>>);

impl Joins {
    /// Joins nothing that runs: a client that waits for a whole answer is told to ask again.
    pub(crate) const NONE: Self = Self(None);

    /// Joins what runs. The receiver gets the jobs, if there are any.
    pub(crate) fn of_stream() -> (Self, oneshot::Receiver<Joined>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }

    /// Returns whether the request may join an earlier one under its idempotency key.
    pub(super) const fn may_join(&self) -> bool {
        self.0.is_some()
    }

    /// Tells the stream which jobs it shows.
    pub(super) fn tell(self, jobs: &[JobId], replayed: bool) {
        if let Some(sender) = self.0 {
            // A stream that is over needs no jobs.
            let _ = sender.send(Joined { jobs: jobs.to_vec(), replayed });
        }
    }
}

/// The wait for the ends of an earlier request's jobs.
#[derive(Debug)]
pub(super) struct Joining {
    wait: Waits,
    begun: Instant,
    /// The jobs as their account sees them, in the order of the answers; none if their commit never came through.
    pub(super) views: Vec<JobView>,
    /// How long it took to find them.
    pub(super) accepting: Duration,
}

impl Joining {
    /// Begins to wait for these jobs, the first of which names the request.
    ///
    /// # Errors
    /// [`Failure`]: there is no room, or the jobs can't be read.
    pub(super) async fn begin(jobs: &Jobs, account: &AccountId, ids: &[JobId]) -> Result<Self, Failure> {
        let begun = Instant::now();
        let first = first_of(ids);
        // Begun before the jobs are read, so that no end in between is missed.
        let wait = Waits::begin(jobs, ids).ok_or_else(|| Failure::of_job(ApiError::Overloaded, first))?;
        let views = read_all(jobs, account, first).await?;
        Ok(Self { wait, begun, views, accepting: begun.elapsed() })
    }

    /// Waits for their ends for at most `patience`, and returns the jobs with these.
    ///
    /// # Errors
    /// [`Failure`]: there is no end yet, or it can't be read.
    pub(super) async fn ended(self, jobs: &Jobs, patience: Duration) -> Result<Outcome, Failure> {
        let Self { wait, begun, mut views, accepting } = self;
        let ids: Vec<JobId> = views.iter().map(|view| view.id).collect();
        let ends = if has_ended(&views) { Ok(Vec::new()) } else { wait.until(jobs, &ids, patience).await };
        let waiting = begun.elapsed().saturating_sub(accepting);
        let fail =
            |error| Failure::of_job(error, first_of(&ids)).timed("accept", accepting).timed("wait", waiting);
        for end in ends.map_err(fail)? {
            if let Some(view) = views.iter_mut().find(|view| view.id == end.job_id) {
                (view.state, view.settlement) = (JobState::Ended, Some(end));
            }
        }
        Ok(Outcome { views, replayed: false, accepting, waiting })
    }
}

fn first_of(ids: &[JobId]) -> JobId {
    ids.first().copied().unwrap_or_else(JobId::new)
}
