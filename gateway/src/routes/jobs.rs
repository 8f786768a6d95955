//! `GET` and `DELETE /v1/jobs/{id}`: where a job stands, and calling it off. Other accounts' jobs are not there.

use infera_ledger::{Cancelled, LedgerError};
use infera_types::ids::JobId;
use infera_types::time::Timestamp;

use crate::accept::Failure;
use crate::completion;
use crate::error::ApiError;
use crate::layers::Call;
use crate::reply::Reply;

/// The job object.
///
/// # Errors
/// [`ApiError::NotFound`], or the ledger being away.
pub async fn show(call: Call) -> Result<Reply, Failure> {
    let id = id(&call)?;
    let caller = call.caller()?;
    let view = call.state.seams.reader.job(&caller.account, id).await.map_err(|error| away(id, &error))?;
    let view = view.ok_or(ApiError::NotFound)?;
    Ok(Reply::json(&completion::job(&view))?.about(id))
}

/// Ends the job as cancelled unless it ended before, and gives the job object either way.
///
/// # Errors
/// [`ApiError::NotFound`], or the ledger being away.
pub async fn cancel(call: Call) -> Result<Reply, Failure> {
    let id = id(&call)?;
    let caller = call.caller()?;
    let cancelled = call.state.seams.intake.cancel(&caller.account, id, Timestamp::now()).await;
    match cancelled.map_err(|error| away(id, &error))? {
        // A client that waits for the job's answer is told at once, not at the next poll.
        Cancelled::Now(settlement) => call.state.waiters.complete(settlement),
        Cancelled::Before(_) => {}
        Cancelled::Unknown => return Err(ApiError::NotFound.into()),
    }
    show(call).await
}

/// An id that isn't one is an id that isn't there.
fn id(call: &Call) -> Result<JobId, ApiError> {
    call.id.parse().map_err(|_| ApiError::NotFound)
}

fn away(job: JobId, error: &LedgerError) -> Failure {
    tracing::error!(%job, %error, "a job could not be read or cancelled");
    Failure::of_job(ApiError::of_reading(error), job)
}
