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

use crate::abandonment::{CancelGuard, cancel};
use crate::ask::Ask;
use crate::capacity::OWNERS_NEEDED;
use crate::commit::{Committed, commit};
use crate::completion;
use crate::error::{ApiError, Limit, STORED_WAIT};
use crate::keys::Caller;
use crate::memory::Reservation;
use crate::state::State;
use crate::waiters::Wait;

/// A request that passed every check of its form.
#[derive(Debug)]
pub struct Order {
    /// The caller that asks.
    pub caller: Arc<Caller>,
    /// What for.
    pub ask: Ask,
    /// The client's idempotency key, if it sent one.
    pub idempotency: Option<Idempotency>,
    /// The body's share of the room for large ones, until the order is accepted or refused.
    pub reservation: Option<Reservation>,
}

/// An error, and the job that it has to do with, if there is one by then.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: ApiError,
    /// Which job.
    pub job: Option<JobId>,
    /// Whether it is how an earlier request under the same idempotency key ended.
    pub replayed: bool,
}

impl Failure {
    /// An error that has to do with a job.
    #[must_use]
    pub const fn of_job(error: ApiError, job: JobId) -> Self {
        Self { error, job: Some(job), replayed: false }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { error, job: None, replayed: false }
    }
}

impl From<crate::validation::Unfit> for Failure {
    fn from(unfit: crate::validation::Unfit) -> Self {
        ApiError::Unfit(unfit).into()
    }
}

/// What became of an order.
#[derive(Debug)]
pub struct Receipt {
    /// The job, new or the one that the same idempotency key made before.
    pub job: JobId,
    /// When a new job was accepted; none for one made before.
    pub accepted_ms: Option<Timestamp>,
    /// How the job stands, in the words of the job object.
    pub status: &'static str,
    /// What accepting cost: the commit.
    pub accepting: Duration,
}

impl Receipt {
    /// Of a job that is waiting, as far as anybody has looked.
    fn of(job: JobId, begun: Instant) -> Self {
        Self { job, accepted_ms: None, status: "queued", accepting: begun.elapsed() }
    }
}

/// An answer to a client that waited.
#[derive(Debug)]
pub struct Outcome {
    /// How the job ended, as its account sees it.
    pub view: JobView,
    /// Whether it had ended before this request came.
    pub replayed: bool,
    /// What accepting cost.
    pub accepting: Duration,
    /// What waiting cost.
    pub waiting: Duration,
}

/// Accepts a job without waiting for its end.
///
/// # Errors
/// [`Failure`]; with a job only where an earlier one can't be read. Nothing was accepted.
pub async fn submit(state: &Arc<State>, order: Order) -> Result<Receipt, Failure> {
    let (account, begun) = (order.caller.account.clone(), Instant::now());
    let receipt = match unanswerable(state, &order, begun) {
        None => {
            let deadline = Duration::from_millis(state.config.submit_deadline_ms);
            accept(state, order, JobId::new(), false, deadline).await?
        }
        Some(error) => match earlier(state, &account, order.idempotency.as_ref()).await? {
            Some(job) => Receipt::of(job, begun),
            None => return Err(error.into()),
        },
    };
    if receipt.accepted_ms.is_some() {
        return Ok(receipt);
    }
    let status = read(state, &account, receipt.job).await?.as_ref().map_or("unknown", completion::status);
    Ok(Receipt { status, ..receipt })
}

/// Why no network could answer this order, whatever room there is.
fn unanswerable(state: &State, order: &Order, now: Instant) -> Option<ApiError> {
    let request = &order.ask.request;
    let entry = state.catalogue.model(request.model.as_str())?;
    if state.capacity.offers(&entry.name, now) == Some(false) {
        return Some(ApiError::ModelGone(entry.name.to_string()));
    }
    let (tokens_min, context_max) = (entry.tokens_min(&request.messages), entry.context_max);
    (tokens_min >= u64::from(context_max)).then_some(ApiError::ContextExceeded { tokens_min, context_max })
}

/// Accepts a job and waits for its end.
///
/// # Errors
/// [`Failure`]; with a job once it is accepted.
pub async fn answer(state: &Arc<State>, order: Order) -> Result<Outcome, Failure> {
    let now = Instant::now();
    if let Some(error) = unanswerable(state, &order, now) {
        return replay_or(state, &order, error).await;
    }
    let (job, timeout) = (JobId::new(), order.ask.timeout);
    let account = order.caller.account.clone();
    let owners_needed = if order.ask.policy.replicas == 1 { 1 } else { OWNERS_NEEDED };
    let model = order.ask.request.model.clone();
    let model_known = state.catalogue.model(model.as_str()).is_some();
    let wait = if model_known && state.capacity.owners(&model, now) < owners_needed {
        Err(ApiError::InsufficientNodes)
    } else {
        state.waiters.begin(job).ok_or(ApiError::Overloaded)
    };
    let wait = match wait {
        Ok(wait) => wait,
        Err(error) => return replay_or(state, &order, error).await,
    };
    let cancelled_with_us = order.idempotency.is_none().then_some(job);
    let mut guard =
        CancelGuard { state: Arc::clone(state), account: account.clone(), job: cancelled_with_us };
    let receipt = accept(state, order, job, true, timeout).await;
    let receipt = match receipt {
        Ok(Receipt { accepted_ms: None, job, accepting, .. }) => {
            guard.job = None;
            return replay(state, &account, job, accepting).await;
        }
        Ok(receipt) => receipt,
        Err(failure) => {
            guard.job = None;
            return Err(failure);
        }
    };
    let accepted_ms = receipt.accepted_ms.unwrap_or_default();
    let begun = Instant::now();
    let end = wait_for(state, wait, job, timeout).await;
    guard.job = None;
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
    state: &Arc<State>,
    order: Order,
    job: JobId,
    synchronous: bool,
    deadline: Duration,
) -> Result<Receipt, Failure> {
    let begun = Instant::now();
    let Order { caller, ask: Ask { mut request, policy, .. }, idempotency, reservation: _reservation } =
        order;
    // Before the first reading nothing is known to exist or not.
    let epoch = state.catalogue.epoch().ok_or(ApiError::LedgerAway)?;
    let Some(entry) = state.catalogue.model(request.model.as_str()) else {
        return Err(ApiError::ModelUnknown(request.model.as_str().to_owned()).into());
    };
    let Some(place) = state.outbox.reserve() else {
        let job = earlier(state, &caller.account, idempotency.as_ref()).await?;
        let job = job.ok_or_else(|| {
            state.meters.outbox_full();
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
        gateway: state.gateway.clone(),
        synchronous,
        accepted_ms,
        deadline_ms: accepted_ms.after(deadline),
        epoch,
        idempotency,
        waiting_max: state.config.waiting_limit(),
        room: state.config.room(),
    };
    let (job, is_new) = match committed(state, new).await? {
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
        state.meters.accepted(&request.model, begun.elapsed());
        Span::current().record("job", field::display(job));
        state.outbox.put(place, job, request.model);
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
async fn committed(state: &Arc<State>, new: NewJob) -> Result<Committed, ApiError> {
    let (job, account, has_key) = (new.id, new.account.clone(), new.idempotency.is_some());
    let error = match commit(&*state.seams.intake, &*state.seams.reader, new).await {
        Ok(committed) => return Ok(committed),
        Err(error) => error,
    };
    tracing::error!(%job, %error, "a job was not accepted");
    if matches!(error, LedgerError::Unknown(_)) && !has_key {
        cancel(Arc::clone(state), account, job);
    }
    Err(match error {
        LedgerError::Unavailable(_) | LedgerError::Refused(_) | LedgerError::Unknown(_) => {
            ApiError::LedgerAway
        }
        LedgerError::Row(_) | LedgerError::Damaged(_) => ApiError::Internal,
    })
}

/// There is no room for a new job, which is no reason to keep back the answer of an earlier one.
async fn replay_or(state: &Arc<State>, order: &Order, no_room: ApiError) -> Result<Outcome, Failure> {
    let (account, begun) = (&order.caller.account, Instant::now());
    match earlier(state, account, order.idempotency.as_ref()).await? {
        Some(job) => replay(state, account, job, begun.elapsed()).await,
        None => Err(no_room.into()),
    }
}

/// The job that the same request made before, if it came with an idempotency key and was accepted.
async fn earlier(
    state: &State,
    account: &AccountId,
    idempotency: Option<&Idempotency>,
) -> Result<Option<JobId>, ApiError> {
    let Some(idempotency) = idempotency else { return Ok(None) };
    match state.seams.reader.earlier_use(account, idempotency).await {
        Ok(Some(Accepted::Existing(job))) => Ok(Some(job)),
        Ok(Some(Accepted::KeyReused)) => Err(ApiError::KeyReused),
        Ok(_) => Ok(None),
        Err(error) => {
            tracing::error!(%error, "an idempotency key could not be looked up");
            Err(ApiError::of_reading(&error))
        }
    }
}

/// The same request was accepted before: its answer if there is one, 409 while it runs.
async fn replay(
    state: &Arc<State>,
    account: &AccountId,
    job: JobId,
    accepting: Duration,
) -> Result<Outcome, Failure> {
    match read(state, account, job).await? {
        Some(view) if view.settlement.is_some() => {
            Ok(Outcome { view, replayed: true, accepting, waiting: Duration::ZERO })
        }
        _ => Err(Failure::of_job(ApiError::InProgress, job)),
    }
}

/// A job that an idempotency key was used for before.
async fn read(state: &State, account: &AccountId, job: JobId) -> Result<Option<JobView>, Failure> {
    state.seams.reader.job(account, job).await.map_err(|error| {
        tracing::error!(%job, %error, "a job under an idempotency key could not be read");
        Failure::of_job(ApiError::of_reading(&error), job)
    })
}

/// The job's end, whichever way it becomes known first; or that time is up.
async fn wait_for(
    state: &Arc<State>,
    mut wait: Wait,
    job: JobId,
    timeout: Duration,
) -> Result<Settlement, ApiError> {
    let error = tokio::select! {
        end = wait.end() => return end.map_err(|_| ApiError::Damaged),
        () = tokio::time::sleep(timeout) => ApiError::Timeout,
        () = state.force.cancelled() => ApiError::Draining,
    };
    // The completion may be lost, and a second between two polls is long for someone who is out of time.
    match state.seams.reader.settlements(&[job]).await {
        Ok(ended) => ended.into_iter().next().ok_or(error),
        Err(ledger_error) => {
            tracing::warn!(%job, error = %ledger_error, "a job's end could not be looked up before giving up on it");
            Err(if ledger_error.may_pass() { error } else { ApiError::Damaged })
        }
    }
}
