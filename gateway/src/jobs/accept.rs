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

use std::time::{Duration, Instant};

use infera_ledger::{LedgerError, NewJob, NodePool};
use infera_types::ids::JobId;
use infera_types::time::Timestamp;
use tracing::{Span, field};

use super::commit::{Committed, commit, commit_together};
use super::earlier::{answer_earlier, answer_earlier_or, earlier_or};
use super::ends::Waits;
use super::handle::Jobs;
use super::joining::{Joining, Joins};
use super::new_job::{NewJobs, new_jobs};
pub(crate) use super::order::{Order, Outcome, Receipt};
use super::pools::pool_of;
use super::reading::read;
use super::shown::Shown;
use super::standby::standby;
use crate::api::chat_request::ChatRequest;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::needs::needs;
use crate::api::objects;
use crate::network::{OWNERS_NEEDED, not_served};
use crate::outbox::JobsQueue;

/// Accepts a job without waiting for its end.
///
/// # Errors
/// [`Failure`]; nothing was accepted. It names a job only if an earlier job can't be read.
pub(crate) async fn submit(jobs: &Jobs, mut order: Order) -> Result<Receipt, Failure> {
    let (account, begun) = (order.caller.account.clone(), Instant::now());
    let receipt = match refusal(jobs, &mut order, begun).await {
        None => {
            let deadline = order.cancel_after.unwrap_or(jobs.terms.submit_deadline);
            let receipt = accept(jobs, order, false, deadline).await;
            receipt.map_err(|failure| failure.timed("accept", begun.elapsed()))?
        }
        Some(error) => earlier_or(jobs, (&account, order.idempotency.as_ref()), error, begun).await?,
    };
    if receipt.accepted_ms.is_some() {
        return Ok(receipt);
    }
    let job = receipt.job();
    let view = read(jobs, &account, job).await?;
    let status = view.as_ref().map_or("unknown", objects::status);
    let ids = view.map_or_else(|| vec![job], |view| view.choice.all(job));
    Ok(Receipt { status, jobs: ids, ..receipt })
}

/// Finds the nodes that an order's job may go to. Returns the reason why no job can be made of it, whatever room there is; none if
/// one can.
async fn refusal(jobs: &Jobs, order: &mut Order, now: Instant) -> Option<ApiError> {
    match pool_of(jobs, &order.caller, order.ask.nodes.as_ref()).await {
        Ok(pool) => order.pool = pool,
        // The group may have been there when the same request came first.
        Err(error) => return Some(error),
    }
    unanswerable(jobs, &order.ask, Some(&order.pool), now)
}

/// Returns the reason why the network could never answer this request, however much room there is; none if it could.
pub(super) fn unanswerable(
    jobs: &Jobs,
    ask: &ChatRequest,
    pool: Option<&NodePool>,
    now: Instant,
) -> Option<ApiError> {
    let request = &ask.request;
    let entry = jobs.catalogue.model(request.model.as_str())?;
    if let Some(error) = not_served(&entry, &jobs.capacity, now) {
        return Some(error);
    }
    // What single nodes and chosen ones can do is known to verifiers only.
    if ask.policy.replicas > 1 && pool == Some(&NodePool::Open) {
        let lacking =
            needs(ask).into_iter().filter(|need| jobs.capacity.lacks(&request.model, need.feature, now));
        let parameters: Vec<&'static str> = lacking.map(|need| need.parameter).collect();
        if !parameters.is_empty() {
            return Some(ApiError::UnsupportedByModel { model: request.model.to_string(), parameters });
        }
    }
    let (tokens_min, context_max) = (entry.tokens_min(&request.messages), entry.context_max);
    (tokens_min >= u64::from(context_max)).then_some(ApiError::ContextExceeded { tokens_min, context_max })
}

/// Accepts a job and waits for its end. What becomes of the same request's earlier job, if that still runs, is for `joins` to say.
///
/// # Errors
/// [`Failure`]; it names the job once that is accepted.
pub(crate) async fn answer(jobs: &Jobs, mut order: Order, joins: Joins) -> Result<Outcome, Failure> {
    let now = Instant::now();
    let same = order.same_request();
    if let Some(same) = &same
        && let Some(left) = jobs.canceller.come_back(same, order.is_retry).await
    {
        return attach(jobs, order, left, joins).await;
    }
    if let Some(error) = refusal(jobs, &mut order, now).await {
        return answer_earlier_or(jobs, &order, error, joins).await;
    }
    let (ids, timeout) = (order.ids.clone(), order.ask.timeout);
    let mut shown = Shown::of(&order);
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
        Waits::begin(jobs, &ids).ok_or(ApiError::Overloaded)
    };
    let wait = match wait {
        Ok(wait) => wait,
        Err(error) => return answer_earlier_or(jobs, &order, error, joins).await,
    };
    let cancelled_with_us = if order.idempotency.is_none() { ids.clone() } else { Vec::new() };
    let mut guard = jobs.canceller.guard(account.clone(), cancelled_with_us, same);
    let deadline = order.cancel_after.map_or(timeout, |after| after.min(timeout));
    let begun = Instant::now();
    let receipt = accept(jobs, order, true, deadline).await;
    let receipt = match receipt {
        Ok(earlier) if earlier.accepted_ms.is_none() => {
            guard.disarm();
            drop(wait);
            let earlier = (earlier.job(), earlier.accepting);
            return answer_earlier(jobs, &account, earlier, (joins, timeout)).await;
        }
        Ok(receipt) => receipt,
        Err(failure) => {
            guard.disarm();
            return Err(failure.timed("accept", begun.elapsed()));
        }
    };
    shown.accepted_ms = receipt.accepted_ms.unwrap_or_default();
    (shown.deadline_ms, shown.price) = (shown.accepted_ms.after(deadline), receipt.price);
    let begun = Instant::now();
    let ends = wait.until(jobs, &ids, timeout).await;
    let (accepting, waiting) = (receipt.accepting, begun.elapsed());
    guard.disarm();
    let fail =
        |error| Failure::of_job(error, receipt.job()).timed("accept", accepting).timed("wait", waiting);
    let views = shown.views(&ids, ends.map_err(fail)?);
    Ok(Outcome { views, replayed: false, accepting, waiting })
}

/// Answers with the ends of the jobs that the same request left behind a moment ago. They keep their own deadline.
async fn attach(jobs: &Jobs, order: Order, left: Vec<JobId>, joins: Joins) -> Result<Outcome, Failure> {
    let account = order.caller.account.clone();
    let first = left.first().copied().unwrap_or_else(JobId::new);
    // If this client goes away, too, the next one may come back for the jobs.
    let mut guard = jobs.canceller.guard(account.clone(), left.clone(), order.same_request());
    let joining = Joining::begin(jobs, &account, &left).await?;
    if joining.views.is_empty() {
        // Its commit never came through, and it will be cancelled if it still does.
        return Err(Failure::of_job(ApiError::LedgerAway, first));
    }
    joins.tell(&left, false);
    let ended = joining.ended(jobs, order.ask.timeout).await;
    guard.disarm();
    ended
}

async fn accept(
    jobs: &Jobs,
    order: Order,
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
    let Order { caller, ask, ids, idempotency, reservation: _reservation, .. } = order;
    let wanted = if standby.is_always_held() { &[][..] } else { &ids[..] };
    let places: Option<Vec<_>> = wanted.iter().map(|_| jobs.outbox.reserve()).collect();
    let Some(places) = places else {
        let receipt =
            earlier_or(jobs, (&caller.account, idempotency.as_ref()), ApiError::OutboxFull, begun).await;
        if receipt.is_err() {
            jobs.outbox.refused();
        }
        return receipt;
    };
    let accepted_ms = Timestamp::now();
    let deadline_ms = accepted_ms.after(deadline);
    let new = match new_jobs(jobs, &caller, ask, entry.context_max, standby) {
        Ok(new) => new,
        // An earlier job keeps the price at which it was accepted.
        Err(error) => {
            return earlier_or(jobs, (&caller.account, idempotency.as_ref()), error, begun).await;
        }
    };
    let NewJobs { first, further_charge } = new;
    let price = first.charge.map(|charge| charge.price);
    let queue = JobsQueue { model: first.model.clone(), lane: first.standby.lane };
    let first = NewJob { synchronous, accepted_ms, deadline_ms, epoch, idempotency, ..first };
    let new = NewJobs { first, further_charge }.with_ids(&ids);
    let committing = Instant::now();
    let committed = committed(jobs, new).await;
    let accepting = committing.elapsed();
    let held = match committed? {
        Ok(held) => held,
        Err(refused_or_earlier) => return Ok(Receipt::of(vec![refused_or_earlier.earlier()?], begun)),
    };
    for _ in &ids {
        jobs.metrics.accepted(&queue.model, begun.elapsed());
    }
    let receipt = Receipt::of(ids, begun);
    Span::current().record("job", field::display(receipt.job()));
    for ((place, id), is_held) in places.into_iter().zip(&receipt.jobs).zip(held) {
        if !is_held {
            jobs.outbox.put(place, *id, queue.clone());
        }
    }
    Ok(Receipt { accepted_ms: Some(accepted_ms), price, accepting, ..receipt })
}

/// Commits the rows of a request's jobs, and returns for each whether it is held, or else why none of them is new. A client that is
/// told that its request was not accepted must not pay for it. So if the commit may still come through, the jobs are cancelled
/// once it does, except under an idempotency key, by which the client finds them again. Only a job whose turn comes before
/// that is answered.
async fn committed(jobs: &Jobs, mut new: Vec<NewJob>) -> Result<Result<Vec<bool>, Committed>, ApiError> {
    let ids: Vec<JobId> = new.iter().map(|job| job.id).collect();
    let account = new.first().map(|job| job.account.clone()).ok_or(ApiError::Internal)?;
    let has_key = new.iter().any(|job| job.idempotency.is_some());
    let committed = match (new.pop(), new.is_empty()) {
        (Some(only), true) => {
            commit(&*jobs.intake, &*jobs.reader, only).await.map(|committed| match committed {
                Committed::New { is_held } => Ok(vec![is_held]),
                other => Err(other),
            })
        }
        (last, _) => {
            new.extend(last);
            commit_together(&*jobs.batches, &*jobs.lists, new).await
        }
    };
    let error = match committed {
        Ok(committed) => return Ok(committed),
        Err(error) => error,
    };
    tracing::error!(job = ?ids.first(), %error, "a request was not accepted");
    if matches!(error, LedgerError::Unknown(_)) && !has_key {
        jobs.canceller.cancel(account, ids);
    }
    Err(ApiError::from(&error))
}
