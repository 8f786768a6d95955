//! `GET` and `DELETE /v1/jobs/{id}`: where a job stands, and calling it off. Other accounts' jobs are not there.

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
/// [`ApiError::NotFound`]; the ledger is away, or the job's record is damaged.
pub(crate) async fn show(jobs: &Jobs, call: Call) -> Result<Reply, Failure> {
    let id = id(&call)?;
    let caller = call.caller()?;
    let view = jobs.reader.job(&caller.account, id).await.map_err(|error| failed(id, &error))?;
    let view = view.ok_or(ApiError::NotFound)?;
    Ok(Reply::json(&objects::job(&view))?.about(id))
}

/// Ends the job as cancelled unless it ended before, and shows the job object either way.
///
/// # Errors
/// As [`show`].
pub(crate) async fn cancel(jobs: &Jobs, call: Call) -> Result<Reply, Failure> {
    let id = id(&call)?;
    let caller = call.caller()?;
    let cancelled = jobs.intake.cancel(&caller.account, id, Timestamp::now()).await;
    match cancelled.map_err(|error| failed(id, &error))? {
        // A client that waits for the job's answer is told at once, not at the next poll.
        Cancelled::Now(settlement) => jobs.waiters.complete(settlement),
        Cancelled::Before(_) => {}
        Cancelled::Unknown => return Err(ApiError::NotFound.into()),
    }
    show(jobs, call).await
}

/// Reads the path's id. An id that isn't one is an id that isn't there.
fn id(call: &Call) -> Result<JobId, ApiError> {
    call.id.parse().map_err(|_| ApiError::NotFound)
}

fn failed(job: JobId, error: &LedgerError) -> Failure {
    tracing::error!(%job, %error, "a job could not be read or cancelled");
    Failure::of_job(ApiError::of_job_record(error), job)
}
