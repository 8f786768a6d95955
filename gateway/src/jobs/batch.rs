//! Accepts several jobs together: all of them in one commit, or none. What refuses a single job refuses the batch, and
//! every job that could never be answered is named, with the error that it would get alone. A job whose idempotency key was used
//! before is the earlier one, also if none could be made of it now.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_ledger::{Accepted, BatchAccepted, Idempotency, LedgerError, NewJob, NodePool};
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, JobId};
use infera_types::time::Timestamp;

use super::accept::unanswerable;
use super::commit::commit_all;
use super::earlier::earlier;
use super::handle::Jobs;
use super::new_job::{NewJobs, new_jobs};
use super::pools::pool_of;
use super::pricing::affordable;
use super::standby::standby;
use crate::access::{Caller, JobShare};
use crate::api::chat_request::ChatRequest;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::group_refusal::GroupRefusal;
use crate::api::jobs_refusals::JobsRefusals;
use crate::api::objects;
use crate::api::too_many_requests::{Limit, STORED_WAIT, WAITING_WAIT};
use crate::memory::Reservation;

/// One job of a batch, which passed every check of its form.
#[derive(Debug)]
pub(crate) struct BatchJob {
    /// The conversation.
    pub(crate) ask: ChatRequest,
    /// The ids of its jobs, in the order of the answers.
    pub(crate) ids: Vec<JobId>,
    /// The client's key, if it sent one.
    pub(crate) idempotency: Option<Idempotency>,
}

/// Jobs that are to be accepted together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The caller that makes the request.
    pub(crate) caller: Arc<Caller>,
    /// What the jobs are counted under when the network is shared.
    pub(crate) counted: JobShare,
    /// The jobs.
    pub(crate) jobs: Vec<BatchJob>,
    /// When the jobs expire, if the client says so.
    pub(crate) cancel_after: Option<Duration>,
    /// The body's part of the memory budget, until the jobs are accepted or refused.
    pub(crate) reservation: Option<Reservation>,
}

/// One job of an accepted batch, or several for several answers.
#[derive(Clone, Debug)]
pub(crate) struct BatchReceipt {
    /// The first job: a new one, or an earlier one under the same idempotency key.
    pub(crate) job: JobId,
    /// All jobs of the request, in the order of its answers, if this batch made them.
    pub(crate) jobs: Vec<JobId>,
    /// The job's status, in the words of the job object.
    pub(crate) status: &'static str,
    /// Whether this batch made the job.
    pub(crate) is_new: bool,
}

/// Accepts a batch, and returns a receipt for each job in the order given.
///
/// # Errors
/// [`Failure`]; nothing was accepted.
pub(crate) async fn submit_all(jobs: &Jobs, batch: Batch) -> Result<Vec<BatchReceipt>, Failure> {
    let begun = Instant::now();
    let account = batch.caller.account.clone();
    // Before the first reading of the catalogue, it isn't known which models exist.
    let epoch = jobs.catalogue.epoch().ok_or(ApiError::LedgerAway)?;
    let planned = plan(jobs, &batch, begun).await?;
    let deadline = batch.cancel_after.unwrap_or(jobs.terms.submit_deadline);
    let accepted_ms = Timestamp::now();
    let (mut new, mut places) = (Vec::with_capacity(batch.jobs.len()), Vec::new());
    let mut receipts: Vec<Option<BatchReceipt>> = Vec::with_capacity(batch.jobs.len());
    for (BatchJob { ask, ids, idempotency }, planned) in batch.jobs.into_iter().zip(planned) {
        let pool = match planned {
            Planned::New(pool) => pool,
            Planned::Earlier(job) => {
                receipts.push(Some(BatchReceipt { job, jobs: vec![job], status: "unknown", is_new: false }));
                continue;
            }
        };
        places.extend(ids.iter().map(|_| receipts.len()));
        receipts.push(None);
        let entry = jobs.catalogue.model(ask.request.model.as_str());
        let entry = entry.ok_or_else(|| ApiError::ModelUnknown(ask.request.model.to_string()))?;
        // No client waits, so the ledger holds each until its turn, and no notice is published here.
        let standby = standby(&ask, &batch.counted, &entry, false, jobs.terms.offered_max).in_pool(&pool);
        let NewJobs { first, further_charge } =
            new_jobs(jobs, &batch.caller, ask, entry.context_max, standby)?;
        let deadline_ms = accepted_ms.after(deadline);
        let first = NewJob { idempotency, accepted_ms, deadline_ms, epoch, ..first };
        new.extend(NewJobs { first, further_charge }.with_ids(&ids));
    }
    let asked: Vec<_> = new.iter().map(|job| (job.id, job.choice, job.model.clone())).collect();
    let outcomes = if new.is_empty() { Vec::new() } else { stored(jobs, &account, new, &places).await? };
    let took = begun.elapsed();
    for ((place, (job, choice, model)), outcome) in places.into_iter().zip(asked).zip(outcomes) {
        if !matches!(outcome, Accepted::Existing(_)) {
            jobs.metrics.accepted(&model, took);
        }
        // A further answer is as new as the first.
        if choice.index > 0 {
            continue;
        }
        let receipt = match outcome {
            Accepted::Existing(job) => {
                BatchReceipt { job, jobs: vec![job], status: "unknown", is_new: false }
            }
            _ => BatchReceipt { job, jobs: choice.all(job), status: "queued", is_new: true },
        };
        if let Some(at) = receipts.get_mut(place) {
            *at = Some(receipt);
        }
    }
    drop(batch.reservation);
    with_statuses(jobs, &account, receipts.into_iter().flatten().collect()).await
}

/// What a job of a batch comes to before any is stored.
enum Planned {
    /// A new job, for these nodes, unless its key was used before.
    New(NodePool),
    /// The job that the same request made before. None could be made of it now.
    Earlier(JobId),
}

/// Finds out what each job of a batch comes to. A batch with jobs that the network could never answer, or only for more than the client
/// takes, is refused, and all of them are named; so is one with a job for a group that there is not.
async fn plan(jobs: &Jobs, batch: &Batch, now: Instant) -> Result<Vec<Planned>, ApiError> {
    let mut refused = JobsRefusals::default();
    let mut pools = HashMap::<String, Option<NodePool>>::new();
    let mut planned = Vec::with_capacity(batch.jobs.len());
    for (index, BatchJob { ask, idempotency, .. }) in batch.jobs.iter().enumerate() {
        let words = ask.nodes_words();
        let known = pools.get(&words).cloned();
        let pool = match known {
            Some(pool) => pool,
            None => match pool_of(jobs, &batch.caller, ask.nodes.as_ref()).await {
                Ok(pool) => Some(pool),
                Err(ApiError::Group(GroupRefusal::Unknown)) => None,
                Err(error) => return Err(error),
            },
        };
        pools.insert(words, pool.clone());
        let refusal = refusal(jobs, (ask, pool.as_ref()), now);
        if let (None, Some(pool)) = (&refusal, &pool) {
            planned.push(Planned::New(pool.clone()));
            continue;
        }
        match (earlier(jobs, &batch.caller.account, idempotency.as_ref()).await, refusal) {
            (Ok(Some(job)), _) => planned.push(Planned::Earlier(job)),
            (Err(error @ ApiError::KeyReused), _) | (Ok(None), Some(error)) => refused.add(index, error),
            (Err(error), _) => return Err(error),
            (Ok(None), None) => refused.add(index, ApiError::Group(GroupRefusal::Unknown)),
        }
    }
    refused.none_or(planned)
}

/// Returns the reason why no job can be made of a request, whatever room there is; none if one can.
fn refusal(jobs: &Jobs, (ask, pool): (&ChatRequest, Option<&NodePool>), now: Instant) -> Option<ApiError> {
    let model = ask.request.model.as_str();
    match jobs.catalogue.model(model) {
        None => Some(ApiError::ModelUnknown(model.to_owned())),
        Some(_) => unanswerable(jobs, ask, pool, now).or_else(|| too_dear(jobs, ask)),
    }
}

/// Returns the refusal of a job whose model costs more than its client takes.
fn too_dear(jobs: &Jobs, ask: &ChatRequest) -> Option<ApiError> {
    affordable(jobs.catalogue.price(&ask.request.model), ask.max_price).err()
}

/// Commits the jobs, which have these places in the batch, and returns the outcome of each.
async fn stored(
    jobs: &Jobs,
    account: &AccountId,
    new: Vec<NewJob>,
    places: &[usize],
) -> Result<Vec<Accepted>, ApiError> {
    // Of a request for several answers, all fit or none.
    let sent = new.iter().filter(|job| job.choice.index == 0).count();
    let choices: Vec<Choice> = new.iter().map(|job| job.choice).collect();
    let mut has_key = false;
    let mut unkeyed: Vec<JobId> = Vec::new();
    for job in &new {
        // Further answers are found again with the first.
        has_key = if job.choice.index == 0 { job.idempotency.is_some() } else { has_key };
        unkeyed.extend((!has_key).then_some(job.id));
    }
    let accepted = match commit_all(&*jobs.batches, &*jobs.lists, account, new).await {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::error!(%error, sent, "a batch of jobs was not accepted");
            if matches!(error, LedgerError::Unknown(_)) {
                jobs.canceller.cancel_all(Arc::clone(&jobs.batches), account.clone(), unkeyed);
            }
            return Err(ApiError::from(&error));
        }
    };
    let limited = |limit, fitting, wait| ApiError::LimitedBatch { limit, fitting, sent, wait };
    match accepted {
        BatchAccepted::Stored(outcomes) => Ok(outcomes),
        BatchAccepted::KeysReused(reused) => {
            let mut refused = JobsRefusals::default();
            for place in reused.into_iter().filter_map(|index| places.get(index).copied()) {
                refused.add(place, ApiError::KeyReused);
            }
            // The ledger named at least one.
            refused.none_or(()).and(Err(ApiError::KeyReused))
        }
        BatchAccepted::NoPlace { fitting, refusal } => {
            let fitting = choices.iter().take(fitting + 1).filter(|choice| choice.index == 0).count();
            let fitting = fitting.saturating_sub(1);
            Err(match refusal {
                Accepted::NoRoom { stored } => {
                    tracing::warn!(
                        stored,
                        "a batch was refused: requests take up all the room that they may (stored_max_bytes)"
                    );
                    ApiError::StorageFull
                }
                Accepted::OverLimit(over) => ApiError::OverSpend { over, of_batch: Some((fitting, sent)) },
                Accepted::NoRoomForAccount { .. } => limited(Limit::Stored, fitting, STORED_WAIT),
                _ => limited(Limit::Waiting, fitting, WAITING_WAIT),
            })
        }
    }
}

/// Adds the statuses of jobs that earlier requests made.
async fn with_statuses(
    jobs: &Jobs,
    account: &AccountId,
    mut receipts: Vec<BatchReceipt>,
) -> Result<Vec<BatchReceipt>, Failure> {
    let earlier: Vec<JobId> =
        receipts.iter().filter(|receipt| !receipt.is_new).map(|receipt| receipt.job).collect();
    if earlier.is_empty() {
        return Ok(receipts);
    }
    let listed = jobs.lists.listed(account, &earlier).await.map_err(|error| {
        tracing::error!(%error, "jobs under idempotency keys could not be read");
        ApiError::from(&error)
    })?;
    let statuses: HashMap<JobId, &'static str> =
        listed.iter().map(|job| (job.id, objects::listed_status(job))).collect();
    for receipt in receipts.iter_mut().filter(|receipt| !receipt.is_new) {
        receipt.status = statuses.get(&receipt.job).copied().unwrap_or("unknown");
    }
    Ok(receipts)
}
