//! THE LIFE OF A REQUEST, from a checked body to an answer. Top to bottom:
//!
//! 1. the model is in the catalogue and on offer, the messages can fit into its context, and a client that waits has
//!    nodes to wait for;
//! 2. a waiting client's place is taken, before anything can end;
//! 3. a place in the outbox is taken, and the ledger accepts: one row, one group commit. From here on the job ends
//!    exactly once, whatever happens to us;
//! 4. its notice goes to the broker in the background;
//! 5. a client that waits gets the job's end, from a completion or from the ledger, or an error that names the job.
//!
//! A request under an idempotency key that was used before makes no job: it gets the earlier one's answer, whether or
//! not there is room for a new one. Keys are remembered until their job's body is pruned, a day after its end by
//! default; a job that ends without saying anything about its request gives its key back at once
//! ([`infera_types::job::End::frees_key`]).
//!
//! A client that goes away while it waits has its job cancelled, unless it sent an idempotency key: then it means to
//! ask again, and a retry must find the answer and not a cancelled job.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_ledger::{Accepted, Idempotency, JobView, LedgerError, NewJob};
use infera_types::ids::{AccountId, JobId};
use infera_types::job::{JobRequest, Settlement};
use infera_types::time::Timestamp;
use tracing::{Span, field};

use super::commit::{Committed, commit};
use super::handle::Jobs;
use super::waiters::Wait;
use crate::access::Caller;
use crate::api::chat_request::ChatRequest;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::objects;
use crate::api::too_many_requests::{Limit, STORED_WAIT};
use crate::memory::Reservation;
use crate::network::OWNERS_NEEDED;

/// Holds a request that passed every check of its form.
#[derive(Debug)]
pub(crate) struct Order {
    /// Is the caller that asks.
    pub(crate) caller: Arc<Caller>,
    /// Is what it asks for.
    pub(crate) ask: ChatRequest,
    /// Is the client's idempotency key, if it sent one.
    pub(crate) idempotency: Option<Idempotency>,
    /// Holds the body's share of the memory budget until the order is accepted or refused.
    pub(crate) reservation: Option<Reservation>,
}

/// Says what became of an order.
#[derive(Debug)]
pub(crate) struct Receipt {
    /// Is the job, new or the one that the same idempotency key made before.
    pub(crate) job: JobId,
    /// Is when a new job was accepted; none for one made before.
    pub(crate) accepted_ms: Option<Timestamp>,
    /// Says how the job stands, in the words of the job object.
    pub(crate) status: &'static str,
    /// Is how long accepting took: the commit.
    pub(crate) accepting: Duration,
}

impl Receipt {
    /// Makes the receipt of a job that is taken to wait: its state was not read.
    fn of(job: JobId, begun: Instant) -> Self {
        Self { job, accepted_ms: None, status: "queued", accepting: begun.elapsed() }
    }
}

/// Answers a client that waited.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Shows how the job ended, as its account sees it.
    pub(crate) view: JobView,
    /// True if it had ended before this request came.
    pub(crate) replayed: bool,
    /// Is how long accepting took.
    pub(crate) accepting: Duration,
    /// Is how long waiting took.
    pub(crate) waiting: Duration,
}

/// Accepts a job without waiting for its end.
///
/// # Errors
/// [`Failure`]; with a job only where an earlier one can't be read. Nothing was accepted.
pub(crate) async fn submit(jobs: &Jobs, order: Order) -> Result<Receipt, Failure> {
    let (account, begun) = (order.caller.account.clone(), Instant::now());
    let receipt = match unanswerable(jobs, &order, begun) {
        None => {
            let deadline = jobs.terms.submit_deadline;
            accept(jobs, order, JobId::new(), false, deadline).await?
        }
        Some(error) => match earlier(jobs, &account, order.idempotency.as_ref()).await? {
            Some(job) => Receipt::of(job, begun),
            None => return Err(error.into()),
        },
    };
    if receipt.accepted_ms.is_some() {
        return Ok(receipt);
    }
    let status = read(jobs, &account, receipt.job).await?.as_ref().map_or("unknown", objects::status);
    Ok(Receipt { status, ..receipt })
}

/// Returns why no network could answer this order, whatever room there is; none if one could.
fn unanswerable(jobs: &Jobs, order: &Order, now: Instant) -> Option<ApiError> {
    let request = &order.ask.request;
    let entry = jobs.catalogue.model(request.model.as_str())?;
    if jobs.capacity.offers(&entry.name, now) == Some(false) {
        return Some(ApiError::ModelGone(entry.name.to_string()));
    }
    let (tokens_min, context_max) = (entry.tokens_min(&request.messages), entry.context_max);
    (tokens_min >= u64::from(context_max)).then_some(ApiError::ContextExceeded { tokens_min, context_max })
}

/// Accepts a job and waits for its end.
///
/// # Errors
/// [`Failure`]; with a job once it is accepted.
pub(crate) async fn answer(jobs: &Jobs, order: Order) -> Result<Outcome, Failure> {
    let now = Instant::now();
    if let Some(error) = unanswerable(jobs, &order, now) {
        return answer_earlier_or(jobs, &order, error).await;
    }
    let (job, timeout) = (JobId::new(), order.ask.timeout);
    let account = order.caller.account.clone();
    let owners_needed = if order.ask.policy.replicas == 1 { 1 } else { OWNERS_NEEDED };
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
    let mut guard = jobs.canceller.guard(account.clone(), cancelled_with_us);
    let receipt = accept(jobs, order, job, true, timeout).await;
    let receipt = match receipt {
        Ok(Receipt { accepted_ms: None, job, accepting, .. }) => {
            guard.disarm();
            return answer_earlier(jobs, &account, job, accepting).await;
        }
        Ok(receipt) => receipt,
        Err(failure) => {
            guard.disarm();
            return Err(failure);
        }
    };
    let accepted_ms = receipt.accepted_ms.unwrap_or_default();
    let begun = Instant::now();
    let end = wait_for(jobs, wait, job, timeout).await;
    guard.disarm();
    let settlement = end.map_err(|error| Failure::of_job(error, job))?;
    let view = JobView {
        id: job,
        model,
        state: infera_ledger::JobState::Ended,
        accepted_ms,
        deadline_ms: accepted_ms.after(timeout),
        settlement: Some(settlement),
        dispute: None,
    };
    Ok(Outcome { view, replayed: false, accepting: receipt.accepting, waiting: begun.elapsed() })
}

async fn accept(
    jobs: &Jobs,
    order: Order,
    job: JobId,
    synchronous: bool,
    deadline: Duration,
) -> Result<Receipt, Failure> {
    let begun = Instant::now();
    let Order {
        caller,
        ask: ChatRequest { mut request, policy, .. },
        idempotency,
        reservation: _reservation,
    } = order;
    // Before the first reading nothing is known to exist or not.
    let epoch = jobs.catalogue.epoch().ok_or(ApiError::LedgerAway)?;
    let Some(entry) = jobs.catalogue.model(request.model.as_str()) else {
        return Err(ApiError::ModelUnknown(request.model.as_str().to_owned()).into());
    };
    let Some(place) = jobs.outbox.reserve() else {
        let job = earlier(jobs, &caller.account, idempotency.as_ref()).await?;
        let job = job.ok_or_else(|| {
            jobs.outbox.refused();
            ApiError::OutboxFull
        })?;
        return Ok(Receipt::of(job, begun));
    };
    // More than the context holds can't be answered anyway, and a smaller number costs nodes a smaller reserve.
    request.max_tokens = request.max_tokens.min(entry.context_max);
    let accepted_ms = Timestamp::now();
    let new = NewJob {
        id: job,
        account: caller.account.clone(),
        model: request.model.clone(),
        request: stored(&request)?,
        policy,
        gateway: jobs.gateway.clone(),
        synchronous,
        accepted_ms,
        deadline_ms: accepted_ms.after(deadline),
        epoch,
        idempotency,
        waiting_max: jobs.terms.waiting_max,
        room: jobs.terms.room,
    };
    let (job, is_new) = match committed(jobs, new).await? {
        Committed::New => (job, true),
        Committed::Earlier(job) => (job, false),
        Committed::KeyReused => return Err(ApiError::KeyReused.into()),
        Committed::Full(_) => {
            /// Waiting jobs end in seconds when the network has room; asking more often only costs requests.
            const WAIT: Duration = Duration::from_secs(2);
            return Err(ApiError::Limited(Limit::Waiting, WAIT).into());
        }
        Committed::NoRoomForAccount(_) => return Err(ApiError::Limited(Limit::Stored, STORED_WAIT).into()),
        Committed::NoRoom(stored) => {
            tracing::warn!(
                stored,
                "a job was refused: requests take up all the room that they may (stored_max_bytes)"
            );
            return Err(ApiError::StorageFull.into());
        }
    };
    if is_new {
        jobs.metrics.accepted(&request.model, begun.elapsed());
        Span::current().record("job", field::display(job));
        jobs.outbox.put(place, job, request.model);
    }
    let accepted_ms = is_new.then_some(accepted_ms);
    Ok(Receipt { accepted_ms, ..Receipt::of(job, begun) })
}

fn stored(request: &JobRequest) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(request).map_err(|error| {
        tracing::error!(%error, "a checked request could not be written as JSON");
        ApiError::Internal
    })
}

/// Commits the row. A client that is told that its job was not accepted must not pay for it: where the commit may still
/// come, the job is cancelled as soon as it does. Not one under an idempotency key, by which the client finds it again.
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

/// Answers with the job that the same request made before, or else with the error: that there is no room for a new job is no
/// reason to keep back the answer of an earlier one.
async fn answer_earlier_or(jobs: &Jobs, order: &Order, no_room: ApiError) -> Result<Outcome, Failure> {
    let (account, begun) = (&order.caller.account, Instant::now());
    match earlier(jobs, account, order.idempotency.as_ref()).await? {
        Some(job) => answer_earlier(jobs, account, job, begun.elapsed()).await,
        None => Err(no_room.into()),
    }
}

/// Returns the job that the same request made before, if it came with an idempotency key and was accepted.
async fn earlier(
    jobs: &Jobs,
    account: &AccountId,
    idempotency: Option<&Idempotency>,
) -> Result<Option<JobId>, ApiError> {
    let Some(idempotency) = idempotency else { return Ok(None) };
    match jobs.reader.earlier_use(account, idempotency).await {
        Ok(Some(Accepted::Existing(job))) => Ok(Some(job)),
        Ok(Some(Accepted::KeyReused)) => Err(ApiError::KeyReused),
        Ok(_) => Ok(None),
        Err(error) => {
            tracing::error!(%error, "an idempotency key could not be looked up");
            Err(ApiError::of_job_record(&error))
        }
    }
}

/// Answers with the end of a job that the same request made before, or with 409 while it runs.
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

/// Reads a job that an idempotency key was used for before.
async fn read(jobs: &Jobs, account: &AccountId, job: JobId) -> Result<Option<JobView>, Failure> {
    jobs.reader.job(account, job).await.map_err(|error| {
        tracing::error!(%job, %error, "a job under an idempotency key could not be read");
        Failure::of_job(ApiError::of_job_record(&error), job)
    })
}

/// Waits for the job's end, whichever way it becomes known first, or until time is up.
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
    // The completion may be lost, and a second between two polls is long for someone who is out of time.
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
