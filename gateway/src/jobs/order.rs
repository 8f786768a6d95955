//! A request that is to be accepted, and what comes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_ledger::{Idempotency, JobView, NodePool};
use infera_types::ids::{Digest, JobId};
use infera_types::money::Price;
use infera_types::time::Timestamp;

use super::abandonment::SameRequest;
use crate::access::{Caller, JobShare};
use crate::api::chat_request::ChatRequest;
use crate::memory::Reservation;

/// A request for a conversation that passed every check of its form.
#[derive(Debug)]
pub(crate) struct Order {
    /// The caller that makes the request.
    pub(crate) caller: Arc<Caller>,
    /// What its job is counted under.
    pub(crate) counted: JobShare,
    /// The conversation that it asks for.
    pub(crate) ask: ChatRequest,
    /// The ids of its jobs, in the order of the answers.
    pub(crate) ids: Vec<JobId>,
    /// The nodes that the job may go to, once they are known.
    pub(crate) pool: NodePool,
    /// The client's idempotency key, if it sent one.
    pub(crate) idempotency: Option<Idempotency>,
    /// When the job expires, if the client says so.
    pub(crate) cancel_after: Option<Duration>,
    /// SHA-256 of the route and the raw body, by which a retry without an idempotency key is found; none if there is none.
    pub(crate) fingerprint: Option<Digest>,
    /// Whether the client says that it sent the same before.
    pub(crate) is_retry: bool,
    /// The body's part of the memory budget, until the order is accepted or refused.
    pub(crate) reservation: Option<Reservation>,
}

impl Order {
    /// Returns what a retry of this request is found by; none if it has an idempotency key, which does that better.
    pub(super) fn same_request(&self) -> Option<SameRequest> {
        let fingerprint = self.fingerprint.filter(|_| self.idempotency.is_none())?;
        Some(SameRequest { key: self.caller.key, fingerprint })
    }
}

/// The result of accepting an order.
#[derive(Debug)]
pub(crate) struct Receipt {
    /// The request's jobs in the order of its answers: new ones, or earlier ones under the same idempotency key. There is one at
    /// least.
    pub(crate) jobs: Vec<JobId>,
    /// The time at which a new job was accepted; none for an earlier one.
    pub(crate) accepted_ms: Option<Timestamp>,
    /// The price at which this request made the job; none if its model is free, or for an earlier job.
    pub(crate) price: Option<Price>,
    /// The job's status, in the words of the job object.
    pub(crate) status: &'static str,
    /// How long the ledger took: to commit the job, or to find an earlier one.
    pub(crate) accepting: Duration,
}

impl Receipt {
    /// Makes the receipt of jobs that are assumed to be waiting, because their state was not read.
    pub(super) fn of(jobs: Vec<JobId>, begun: Instant) -> Self {
        Self { jobs, accepted_ms: None, price: None, status: "queued", accepting: begun.elapsed() }
    }

    /// Returns the first of the jobs, by which the request is known.
    pub(crate) fn job(&self) -> JobId {
        self.jobs.first().copied().unwrap_or_else(JobId::new)
    }
}

/// The answer to a client that waited.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The ends of the request's jobs in the order of its answers, as their account sees them; of a request that failed, the
    /// failure at least.
    pub(crate) views: Vec<JobView>,
    /// Whether the job had ended before this request came.
    pub(crate) replayed: bool,
    /// How long the ledger took: to commit the job, or to find an earlier one.
    pub(crate) accepting: Duration,
    /// How long the client waited for the job's end.
    pub(crate) waiting: Duration,
}

impl Outcome {
    /// Returns the first job of the request, by which that is known.
    pub(crate) fn job(&self) -> JobId {
        self.views.first().map_or_else(JobId::new, |view| view.choice.first(view.id))
    }
}
