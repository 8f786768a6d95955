//! Makes the end of a job final: the settlement commits first, then the gateway hears of it (which may be lost: it also
//! polls), and only then the notice is acked, by the task that holds it. What the end is was decided before.

use infera_broker::{Address, Published, topology};
use infera_ledger::{LedgerError, Settled};
use infera_telemetry::metrics::{VERIFIER_COMMIT, VERIFIER_SETTLED};
use infera_telemetry::trace;
use infera_types::job::{End, FailureReason, Rung, Settlement};
use infera_types::messages::{Completion, Version, Wire};
use metrics::{counter, histogram};
use tokio::time::Instant;
use tracing::{Instrument as _, info_span};

use crate::tenure::{LEDGER_RETRY, Tenure};

/// Commits `settlement`, and returns the one that counts: this, or the one that was there before. Tries until the
/// ledger answers, since nothing else may be done with the job; the tenure's end cuts it off.
///
/// # Errors
/// Only what retrying can't mend: the row is refused even without its content, or the ledger is damaged.
pub(crate) async fn settle(tenure: &Tenure, settlement: Settlement) -> Result<Settlement, LedgerError> {
    let span = info_span!(target: trace::TARGET, "settle", end = settlement.end.word());
    settle_in_ledger(tenure, settlement).instrument(span).await
}

async fn settle_in_ledger(tenure: &Tenure, settlement: Settlement) -> Result<Settlement, LedgerError> {
    let mut wanted = settlement;
    let mut reduced = false;
    let mut failures = 0_u32;
    loop {
        let begun = Instant::now();
        match tenure.seams.owner.settle(&wanted).await {
            Ok(Settled::Now) => {
                histogram!(VERIFIER_COMMIT).record(begun.elapsed());
                count_end(&wanted.end);
                return Ok(wanted);
            }
            // Also the answer to a second try of what did commit (rule 8).
            Ok(Settled::Before(before)) => return Ok(before),
            Err(error) if error.may_pass() => {
                tracing::warn!(job = %wanted.job_id, %error, "a job is not settled yet; trying again");
                failures = failures.saturating_add(1);
                tokio::time::sleep(LEDGER_RETRY.wait(failures)).await;
            }
            Err(LedgerError::Row(problem)) if !reduced => {
                tracing::error!(job = %wanted.job_id, problem, "the settlement's row is refused");
                reduced = true;
                wanted = without_content(wanted);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Counts a job by its end, and by what says more about it: a failure's reason, a success's rung.
fn count_end(end: &End) {
    let (reason, rung) = match end {
        End::Failed { reason, .. } => (reason.word(), ""),
        End::Succeeded { verification, .. } => ("", verification.rung.map_or("none", Rung::word)),
        End::Cancelled { .. } | End::Expired => ("", ""),
    };
    counter!(VERIFIER_SETTLED, "end" => end.word(), "reason" => reason, "rung" => rung).increment(1);
}

/// Turns a settlement into a failure without content: content that can't be stored must not keep the job from ending.
fn without_content(settlement: Settlement) -> Settlement {
    let end = End::Failed {
        reason: FailureReason::Unprocessable,
        message: "The answer could not be stored.".to_owned(),
    };
    Settlement { end, group: None, ..settlement }
}

/// Tells the gateway that accepted the job of its end, in a version that it reads. The message may be lost: gateways read the
/// ledger as well.
pub(crate) async fn publish_completion(tenure: &Tenure, settlement: &Settlement, speaks: Version) {
    let address = Address::Queue(topology::completions(&settlement.gateway).name);
    let completion = Completion { settlement: Settlement { group: None, ..settlement.clone() } };
    let message = completion.to_message_in(speaks, settlement.job_id.to_string());
    for _ in 0..tenure.config.publish_tries {
        if tenure.seams.broker.publish(&address, message.clone()).await != Published::Unknown {
            return;
        }
    }
    tracing::debug!(job = %settlement.job_id, "a completion may be lost");
}
