//! Tells the ledger of a job's handout: that it is given back untried, or that its verifier survived it.

use infera_ledger::{Handout, LedgerError, Notice};
use infera_types::ids::JobId;
use infera_types::retry::retry;
use infera_types::time::Timestamp;

use crate::tenure::{LEDGER_RETRY, Tenure, Trial};

/// Bounds the tries to give jobs back in the ledger. After that the broker gives them out again, and that counts as a lost
/// handout.
const RELEASE_TRIES: u32 = 4;

/// Gives jobs back in the ledger; false if it can't be done.
pub(crate) async fn release(tenure: &Tenure, jobs: &[JobId]) -> bool {
    let attempt = || tenure.seams.owner.release(&tenure.id, jobs, Timestamp::now());
    let again = |error: &LedgerError, failures| {
        tracing::warn!(jobs = jobs.len(), failures, %error, "jobs are not given back yet");
        failures < RELEASE_TRIES
    };
    retry(LEDGER_RETRY, attempt, again).await.is_ok()
}

/// Ends a job's trial: it has shown that it doesn't end the process. That is put on record where it was tried alone.
pub(super) async fn outlived(tenure: &Tenure, job: JobId, trial: &Trial) {
    if trial.is_alone() {
        let notice = Notice { job, redelivered: false, handout: Handout::Survived };
        if let Err(error) = tenure.seams.owner.take(&tenure.id, &[notice], Timestamp::now()).await {
            tracing::warn!(%job, %error, "the ledger was not told that a job's verifier survived it");
        }
    }
    trial.end();
}
