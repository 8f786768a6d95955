//! The halves of the ledger for accounts with many jobs: the gateway's, which accepts and cancels several at once, and
//! the one that reads lists and ends.

use std::fmt;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::rows::{
    Accepted, BatchAccepted, BatchCancelled, EndsCursor, EndsQuestion, EndsReady, JobPage, JobsQuestion,
    ListedJob, NewJob, NumberedEnd,
};
use infera_types::ids::{AccountId, JobId};
use infera_types::time::Timestamp;

/// Accepts and cancels several jobs at once.
#[async_trait]
pub trait JobBatches: Send + Sync + fmt::Debug {
    /// Accepts at most [`MANY_MAX`](crate::rows::MANY_MAX) jobs in one commit. Each is decided in its order, as
    /// [`JobIntake::accept`](crate::JobIntake::accept) would; if one is refused, none is stored. The jobs of one request follow
    /// each other; where the first is [`Accepted::Existing`] under another id, the others are the same and aren't
    /// stored.
    ///
    /// # Errors
    /// [`LedgerError`]; after `Unknown`, accept the same jobs again: those that were stored are
    /// [`Accepted::Existing`](crate::rows::Accepted::Existing) under their own ids.
    async fn accept_all(&self, jobs: Vec<NewJob>) -> Result<BatchAccepted, LedgerError>;

    /// Ends those of the account's jobs as cancelled that have not ended, in one commit, and returns the outcome for
    /// each, in the order given. At most [`MANY_MAX`](crate::rows::MANY_MAX) jobs.
    ///
    /// # Errors
    /// [`LedgerError`]; after `Unknown`, cancel the same again.
    async fn cancel_all(
        &self,
        account: &AccountId,
        jobs: &[JobId],
        now: Timestamp,
    ) -> Result<Vec<BatchCancelled>, LedgerError>;
}

/// Reads lists of jobs, and their ends in order.
///
/// The ends of an account's jobs have numbers, by which a cursor neither skips an end nor returns one twice: once an
/// end can be read, every end with a smaller number can be read too. An end can be read at the latest after the next
/// [`Standing::project`](crate::Standing::project).
#[async_trait]
pub trait JobLists: Send + Sync + fmt::Debug {
    /// Returns a page of an account's jobs in the order of their ids, which is that of their acceptance but for the
    /// difference between the gateways' clocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn list(&self, question: &JobsQuestion) -> Result<JobPage, LedgerError>;

    /// Returns those of these jobs that the account has, in no particular order.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn listed(&self, account: &AccountId, jobs: &[JobId]) -> Result<Vec<ListedJob>, LedgerError>;

    /// Returns ends of an account's jobs, in the order of their numbers, whole answers included.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn ends(&self, question: &EndsQuestion) -> Result<Vec<NumberedEnd>, LedgerError>;

    /// Returns for each cursor, in the order given, what can be read behind it.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn ends_ready(&self, cursors: &[EndsCursor]) -> Result<Vec<EndsReady>, LedgerError>;
}

/// Joins the outcomes of several jobs, decided one after the other, into the outcome of all. It asks for no further one
/// once there is no place for a job, and not for further answers of a request that was accepted before.
///
/// # Errors
/// The first error of a decision.
pub fn decided_together<'a, T, E>(
    jobs: impl IntoIterator<Item = (&'a NewJob, T)>,
    mut decide: impl FnMut(&'a NewJob, T) -> Result<Accepted, E>,
) -> Result<BatchAccepted, E> {
    let (mut stored, mut reused) = (Vec::new(), Vec::new());
    let (mut no_place, mut accepted_before) = (None, None);
    for (place, (job, with)) in jobs.into_iter().enumerate() {
        let outcome = match accepted_before {
            Some(earlier) if job.choice.index > 0 => Accepted::Existing(earlier),
            _ => decide(job, with)?,
        };
        if job.choice.index == 0 {
            accepted_before = match outcome {
                Accepted::Existing(earlier) if earlier != job.id => Some(earlier),
                _ => None,
            };
        }
        match outcome {
            accepted @ (Accepted::New { .. } | Accepted::Existing(_)) => stored.push(accepted),
            Accepted::KeyReused => reused.push(place),
            refusal => {
                no_place = Some(BatchAccepted::NoPlace { fitting: place, refusal });
                break;
            }
        }
    }
    Ok(match no_place {
        _ if !reused.is_empty() => BatchAccepted::KeysReused(reused),
        Some(no_place) => no_place,
        None => BatchAccepted::Stored(stored),
    })
}
