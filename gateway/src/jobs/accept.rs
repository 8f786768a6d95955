//! THE LIFE OF A REQUEST, from a checked body to an answer, from top to bottom:
//!
//! 1. The model must be in the catalogue and on offer, the messages must be able to fit into its context, and for a
//!    client that waits there must be enough nodes, unless it asks for nodes of its own, which only verifiers know.
//! 2. A place is taken for the waiting client, before the job can end.
//! 3. It is decided how the job waits for its turn ([`standby`]). For a job that may go to the broker at once, a place in
//!    the outbox is taken. Then the ledger accepts the job: one row in one group commit. From here on the job ends
//!    exactly once, whatever happens to this gateway.
//! 4. The job's notice goes to the broker in the background, unless the ledger holds the job: then a verifier publishes
//!    the notice in the job's turn.
//! 5. A client that waits gets the job's end, from a completion or from the ledger, or an error that names the job.
//!
//! A request under an idempotency key that was used before makes no job. It gets the earlier job's answer, whether or
//! not there is room for a new job. A key is remembered until its job's body is pruned, by default a day after the
//! job's end. Some ends say nothing about the request; such a job gives its key back at once
//! ([`infera_types::job::End::frees_key`]).
//!
//! If a client goes away while it waits, its job is cancelled, unless the client sent an idempotency key: then it
//! means to ask again, and a retry must find the answer and not a cancelled job. Without a key the cancellation waits for
//! half a minute, and the same body under the same API key attaches to the job until then (`abandonment`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_ledger::{Idempotency, JobView, Kept, LedgerError, Metadata, NewJob, NodePool};
use infera_types::ids::{AccountId, Digest, JobId};
use infera_types::job::{JobRequest, Settlement};
use infera_types::money::Price;
use infera_types::time::Timestamp;
use tracing::{Span, field};

use super::abandonment::SameRequest;
use super::commit::{Committed, commit};
use super::earlier::{earlier, read};
use super::handle::Jobs;
use super::new_job::new_job;
use super::pools::pool_of;
use super::standby::standby;
use super::waiters::Wait;
use crate::access::{Caller, JobShare};
use crate::api::chat_request::ChatRequest;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::objects;
use crate::memory::Reservation;
use crate::network::{OWNERS_NEEDED, not_served};
use crate::outbox::JobsQueue;

/// A request for a conversation that passed every check of its form.
#[derive(Debug)]
pub(crate) struct Order {
    /// The caller that makes the request.
    pub(crate) caller: Arc<Caller>,
    /// What its job is counted under.
    pub(crate) counted: JobShare,
    /// The conversation that it asks for.
    pub(crate) ask: ChatRequest,
    /// The nodes that the job may go to, once they are known.
    pub(crate) pool: NodePool,
    /// The client's idempotency key, if it sent one.
    pub(crate) idempotency: Option<Idempotency>,
    /// The id that a new job gets, where it must be known before; any otherwise.
    pub(crate) job: Option<JobId>,
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
    fn same_request(&self) -> Option<SameRequest> {
        let fingerprint = self.fingerprint.filter(|_| self.idempotency.is_none())?;
        Some(SameRequest { key: self.caller.key, fingerprint })
    }
}

/// The result of accepting an order.
#[derive(Debug)]
pub(crate) struct Receipt {
    /// The job: a new one, or an earlier one under the same idempotency key.
    pub(crate) job: JobId,
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
    /// Makes the receipt of a job that is assumed to be waiting, because its state was not read.
    fn of(job: JobId, begun: Instant) -> Self {
        Self { job, accepted_ms: None, price: None, status: "queued", accepting: begun.elapsed() }
    }
}

/// The answer to a client that waited.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The job's end, as its account sees it.
    pub(crate) view: JobView,
    /// Whether the job had ended before this request came.
    pub(crate) replayed: bool,
    /// How long the ledger took: to commit the job, or to find an earlier one.
    pub(crate) accepting: Duration,
    /// How long the client waited for the job's end.
    pub(crate) waiting: Duration,
}

/// Accepts a job without waiting for its end.
///
/// # Errors
/// [`Failure`]; nothing was accepted. It names a job only if an earlier job can't be read.
pub(crate) async fn submit(jobs: &Jobs, mut order: Order) -> Result<Receipt, Failure> {
    let (account, begun) = (order.caller.account.clone(), Instant::now());
    let receipt = match refusal(jobs, &mut order, begun).await {
        None => {
            let deadline = order.cancel_after.unwrap_or(jobs.terms.submit_deadline);
            let receipt = accept(jobs, order, JobId::new(), false, deadline).await;
            receipt.map_err(|failure| failure.timed("accept", begun.elapsed()))?
        }
        Some(error) => earlier_or(jobs, (&account, order.idempotency.as_ref()), error, begun).await?,
    };
    if receipt.accepted_ms.is_some() {
        return Ok(receipt);
    }
    let status = read(jobs, &account, receipt.job).await?.as_ref().map_or("unknown", objects::status);
    Ok(Receipt { status, ..receipt })
}

/// Finds the nodes that an order's job may go to. Returns the reason why no job can be made of it, whatever room there is; none if
/// one can.
async fn refusal(jobs: &Jobs, order: &mut Order, now: Instant) -> Option<ApiError> {
    match pool_of(jobs, &order.caller, order.ask.nodes.as_ref()).await {
        Ok(pool) => order.pool = pool,
        // The group may have been there when the same request came first.
        Err(error) => return Some(error),
    }
    unanswerable(jobs, &order.ask.request, now)
}

/// Returns the reason why the network could never answer this request, however much room there is; none if it could.
pub(super) fn unanswerable(jobs: &Jobs, request: &JobRequest, now: Instant) -> Option<ApiError> {
    let entry = jobs.catalogue.model(request.model.as_str())?;
    if let Some(error) = not_served(&entry, &jobs.capacity, now) {
        return Some(error);
    }
    let (tokens_min, context_max) = (entry.tokens_min(&request.messages), entry.context_max);
    (tokens_min >= u64::from(context_max)).then_some(ApiError::ContextExceeded { tokens_min, context_max })
}

/// Accepts a job and waits for its end.
///
/// # Errors
/// [`Failure`]; it names the job once that is accepted.
pub(crate) async fn answer(jobs: &Jobs, mut order: Order) -> Result<Outcome, Failure> {
    let now = Instant::now();
    let same = order.same_request();
    if let Some(same) = &same
        && let Some(job) = jobs.canceller.come_back(same, order.is_retry).await
    {
        return attach(jobs, order, job).await;
    }
    if let Some(error) = refusal(jobs, &mut order, now).await {
        return answer_earlier_or(jobs, &order, error).await;
    }
    let (timeout, tier) = (order.ask.timeout, order.ask.tier);
    let job = order.job.unwrap_or_else(JobId::new);
    let is_stored = order.ask.store.unwrap_or(order.caller.privacy.stores);
    let account = order.caller.account.clone();
    let owners_needed = match (&order.pool, order.ask.policy.replicas) {
        // Only verifiers know what nodes of its own an account has.
        (NodePool::Account(_) | NodePool::Group(_), _) => 0,
        (NodePool::Open, 1) => 1,
        (NodePool::Open, _) => OWNERS_NEEDED,
    };
    let model = order.ask.request.model.clone();
    let model_known = jobs.catalogue.model(model.as_str()).is_some();
    let wait = if model_known && jobs.capacity.owners(&model, now) < owners_needed {
        Err(ApiError::InsufficientNodes)
    } else {
        jobs.waiters.begin(job).ok_or(ApiError::Overloaded)
    };
    let wait = match wait {
        Ok(wait) => wait,
        Err(error) => return answer_earlier_or(jobs, &order, error).await,
    };
    let cancelled_with_us = order.idempotency.is_none().then_some(job);
    let mut guard = jobs.canceller.guard(account.clone(), cancelled_with_us, same);
    let deadline = order.cancel_after.map_or(timeout, |after| after.min(timeout));
    let begun = Instant::now();
    let receipt = accept(jobs, order, job, true, deadline).await;
    let receipt = match receipt {
        Ok(Receipt { accepted_ms: None, job, accepting, .. }) => {
            guard.disarm();
            return answer_earlier(jobs, &account, job, accepting).await;
        }
        Ok(receipt) => receipt,
        Err(failure) => {
            guard.disarm();
            return Err(failure.timed("accept", begun.elapsed()));
        }
    };
    let accepted_ms = receipt.accepted_ms.unwrap_or_default();
    let begun = Instant::now();
    let end = wait_for(jobs, wait, job, timeout).await;
    let (accepting, waiting) = (receipt.accepting, begun.elapsed());
    guard.disarm();
    let settlement =
        end.map_err(|error| Failure::of_job(error, job).timed("accept", accepting).timed("wait", waiting))?;
    let view = JobView {
        id: job,
        model,
        tier,
        state: infera_ledger::JobState::Ended,
        accepted_ms,
        deadline_ms: accepted_ms.after(deadline),
        settlement: Some(settlement),
        dispute: None,
        metadata: Metadata::new(),
        kept: Kept { is_stored, erased_ms: None },
        price: receipt.price,
    };
    Ok(Outcome { view, replayed: false, accepting, waiting })
}

/// Answers with the end of a job that the same request left behind a moment ago. The job keeps its own deadline.
async fn attach(jobs: &Jobs, order: Order, job: JobId) -> Result<Outcome, Failure> {
    let (begun, account) = (Instant::now(), order.caller.account.clone());
    // If this client goes away, too, the next one may come back for the job.
    let mut guard = jobs.canceller.guard(account.clone(), Some(job), order.same_request());
    let wait = jobs.waiters.begin(job).ok_or_else(|| Failure::of_job(ApiError::Overloaded, job))?;
    let view = read(jobs, &account, job).await?;
    let Some(view) = view else {
        // Its commit never came through, and it will be cancelled if it still does.
        return Err(Failure::of_job(ApiError::LedgerAway, job));
    };
    let accepting = begun.elapsed();
    let settlement = match view.settlement {
        Some(settlement) => Ok(settlement),
        None => wait_for(jobs, wait, job, order.ask.timeout).await,
    };
    guard.disarm();
    let waiting = begun.elapsed().saturating_sub(accepting);
    let fail = |error| Failure::of_job(error, job).timed("accept", accepting).timed("wait", waiting);
    let settlement = settlement.map_err(fail)?;
    let view = JobView { state: infera_ledger::JobState::Ended, settlement: Some(settlement), ..view };
    Ok(Outcome { view, replayed: false, accepting, waiting })
}

async fn accept(
    jobs: &Jobs,
    order: Order,
    job: JobId,
    synchronous: bool,
    deadline: Duration,
) -> Result<Receipt, Failure> {
    let begun = Instant::now();
    // Before the first reading of the catalogue, it isn't known which models exist.
    let epoch = jobs.catalogue.epoch().ok_or(ApiError::LedgerAway)?;
    let Some(entry) = jobs.catalogue.model(order.ask.request.model.as_str()) else {
        let unknown = ApiError::ModelUnknown(order.ask.request.model.to_string());
        let same = (&order.caller.account, order.idempotency.as_ref());
        return earlier_or(jobs, same, unknown, begun).await;
    };
    let standby = standby(&order.ask, &order.counted, &entry, synchronous, jobs.terms.offered_max);
    let standby = standby.in_pool(&order.pool);
    let Order { caller, ask, idempotency, reservation: _reservation, .. } = order;
    let place = if standby.is_always_held() { None } else { jobs.outbox.reserve() };
    if place.is_none() && !standby.is_always_held() {
        let receipt =
            earlier_or(jobs, (&caller.account, idempotency.as_ref()), ApiError::OutboxFull, begun).await;
        if receipt.is_err() {
            jobs.outbox.refused();
        }
        return receipt;
    }
    let accepted_ms = Timestamp::now();
    let deadline_ms = accepted_ms.after(deadline);
    let new = match new_job(jobs, &caller, ask, entry.context_max, standby) {
        Ok(new) => new,
        // An earlier job keeps the price at which it was accepted.
        Err(error) => {
            return earlier_or(jobs, (&caller.account, idempotency.as_ref()), error, begun).await;
        }
    };
    let price = new.charge.map(|charge| charge.price);
    let queue = JobsQueue { model: new.model.clone(), lane: new.standby.lane };
    let new = NewJob { id: job, synchronous, accepted_ms, deadline_ms, epoch, idempotency, ..new };
    let committing = Instant::now();
    let committed = committed(jobs, new).await;
    let accepting = committing.elapsed();
    let is_held = match committed? {
        Committed::New { is_held } => is_held,
        refused_or_earlier => return Ok(Receipt::of(refused_or_earlier.earlier()?, begun)),
    };
    jobs.metrics.accepted(&queue.model, begun.elapsed());
    Span::current().record("job", field::display(job));
    if let Some(place) = place
        && !is_held
    {
        jobs.outbox.put(place, job, queue);
    }
    Ok(Receipt { accepted_ms: Some(accepted_ms), price, accepting, ..Receipt::of(job, begun) })
}

/// Commits the job's row. A client that is told that its job was not accepted must not pay for it. So if the commit
/// may still come through, the job is cancelled once it does, except under an idempotency key, by which the client
/// finds the job again. Only a job whose turn comes before that is answered.
async fn committed(jobs: &Jobs, new: NewJob) -> Result<Committed, ApiError> {
    let (job, account, has_key) = (new.id, new.account.clone(), new.idempotency.is_some());
    let error = match commit(&*jobs.intake, &*jobs.reader, new).await {
        Ok(committed) => return Ok(committed),
        Err(error) => error,
    };
    tracing::error!(%job, %error, "a job was not accepted");
    if matches!(error, LedgerError::Unknown(_)) && !has_key {
        jobs.canceller.cancel(account, job);
    }
    Err(ApiError::from(&error))
}

/// Returns the receipt of the job that the same request of an account, with its key, made before, or else the error for which there
/// is no new job.
async fn earlier_or(
    jobs: &Jobs,
    (account, idempotency): (&AccountId, Option<&Idempotency>),
    no_job: ApiError,
    begun: Instant,
) -> Result<Receipt, Failure> {
    let job = earlier(jobs, account, idempotency).await?.ok_or(no_job)?;
    Ok(Receipt::of(job, begun))
}

/// Answers with the job that the same request made before, or else with the error `no_room`. A lack of room for a new
/// job is no reason to withhold the answer of an earlier one.
async fn answer_earlier_or(jobs: &Jobs, order: &Order, no_room: ApiError) -> Result<Outcome, Failure> {
    let (account, begun) = (&order.caller.account, Instant::now());
    match earlier(jobs, account, order.idempotency.as_ref()).await? {
        Some(job) => answer_earlier(jobs, account, job, begun.elapsed()).await,
        None => Err(no_room.into()),
    }
}

/// Answers with the end of a job that the same request made before, or with 409 while that job runs.
async fn answer_earlier(
    jobs: &Jobs,
    account: &AccountId,
    job: JobId,
    accepting: Duration,
) -> Result<Outcome, Failure> {
    match read(jobs, account, job).await? {
        Some(view) if view.settlement.is_some() => {
            Ok(Outcome { view, replayed: true, accepting, waiting: Duration::ZERO })
        }
        _ => Err(Failure::of_job(ApiError::InProgress, job)),
    }
}

/// Waits for the job's end, by whichever way it becomes known first, or until the time is over.
async fn wait_for(
    jobs: &Jobs,
    mut wait: Wait,
    job: JobId,
    timeout: Duration,
) -> Result<Settlement, ApiError> {
    let error = tokio::select! {
        end = wait.end() => return end.map_err(|_| ApiError::Damaged),
        () = tokio::time::sleep(timeout) => ApiError::Timeout,
        () = jobs.answer_now.cancelled() => ApiError::Draining,
    };
    // The completion may be lost, and a client whose time is over can't wait for the next poll.
    match jobs.reader.settlements(&[job]).await {
        Ok(ended) => ended.into_iter().next().ok_or(error),
        Err(ledger_error) => {
            tracing::warn!(%job, error = %ledger_error, "a job's end could not be looked up before giving up on it");
            Err(match ApiError::of_job_record(&ledger_error) {
                ApiError::Damaged => ApiError::Damaged,
                _ => error,
            })
        }
    }
}
