//! `GET` and `DELETE /v1/jobs/{id}`: shows a job, or cancels it. Jobs of other accounts are answered as unknown.

use infera_ledger::{Cancelled, LedgerError};
use infera_types::ids::JobId;
use infera_types::time::Timestamp;

use super::call::Call;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::objects;
use crate::api::reply::Reply;
use crate::jobs::Jobs;

/// Shows the job object.
///
/// # Errors
/// [`ApiError::NotFound`]; the ledger's error, or that the job's record is damaged.
pub(crate) async fn show(jobs: &Jobs, call: Call) -> Result<Reply, Failure> {
    let id = id(&call)?;
    let caller = call.caller()?;
    let view = jobs.reader.job(&caller.account, id).await.map_err(|error| failed(id, &error))?;
    let view = view.ok_or(ApiError::NotFound)?;
    Ok(Reply::json(&objects::job(&view))?.about(id))
}

/// Cancels the job unless it has ended, and shows the job object either way.
///
/// # Errors
/// As [`show`].
pub(crate) async fn cancel(jobs: &Jobs, call: Call) -> Result<Reply, Failure> {
    let id = id(&call)?;
    let caller = call.caller()?;
    let cancelled = jobs.intake.cancel(&caller.account, id, Timestamp::now()).await;
    match cancelled.map_err(|error| failed(id, &error))? {
        // A client that waits for this job is told at once, not at the next poll.
        Cancelled::Now(settlement) => jobs.waiters.complete(settlement),
        Cancelled::Before(_) => {}
        Cancelled::Unknown => return Err(ApiError::NotFound.into()),
    }
    show(jobs, call).await
}

/// Reads the id in the path. A malformed id is treated as an unknown one.
fn id(call: &Call) -> Result<JobId, ApiError> {
    call.id.parse().map_err(|_| ApiError::NotFound)
}

fn failed(job: JobId, error: &LedgerError) -> Failure {
    tracing::error!(%job, %error, "a job could not be read or cancelled");
    Failure::of_job(ApiError::of_job_record(error), job)
}
