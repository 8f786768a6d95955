//! The half of the ledger that lets held jobs out, each in its turn.

use std::fmt;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::rows::{Flow, HeldQuestion, Turn, WaitingJobs};
use infera_types::ids::JobId;
use infera_types::time::Timestamp;

/// Offers held jobs to the broker, each in its turn. One feeder at a time does it, under a lease.
#[async_trait]
pub trait Feeding: Send + Sync + fmt::Debug {
    /// Counts the jobs that wait for a verifier, by model and lane, and cuts each count at `count_max`; kinds of which
    /// none waits are left out. A small `count_max` makes the question cheap, however many jobs wait.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn waiting(&self, count_max: u32) -> Result<Vec<WaitingJobs>, LedgerError>;

    /// Returns flows with held jobs, in the order of their keys, each with its oldest jobs. Jobs past their deadline
    /// are left out, because they are about to expire. Fewer flows than asked for are all that there are after
    /// [`HeldQuestion::after`].
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn held(&self, question: &HeldQuestion, now: Timestamp) -> Result<Vec<Flow>, LedgerError>;

    /// Makes held jobs offered and unconfirmed as of now, and returns those that were still held, in the order of
    /// `turns`. Their notices are the caller's to publish; the sweeper publishes those that are never confirmed. What a
    /// job's answer uses beyond what it is charged with here, its settlement adds to [`Flow::excess_tokens`]; a job that
    /// never was held is charged with nothing.
    ///
    /// # Errors
    /// [`LedgerError`]; after `Unknown`, the sweeper publishes what was offered.
    async fn offer(&self, turns: &[Turn], now: Timestamp) -> Result<Vec<JobId>, LedgerError>;
}
