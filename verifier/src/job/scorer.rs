//! Posts what a group comes to, once per assignment, and opens disputes. The verdicts are those of `decisions`; this brings
//! them to the ledger, for groups of this verifier and for those whose owner is gone.

use std::collections::HashMap;

use infera_ledger::{Group, LedgerError, Posting, PostingEntry, Verdict};
use infera_telemetry::metrics::{VERIFIER_CLOSE_LAG, VERIFIER_VERDICTS};
use infera_types::ids::AssignmentId;
use infera_types::job::{AssignmentRecord, GroupRecord, Settlement};
use infera_types::retry::retry;
use infera_types::time::Timestamp;
use metrics::{counter, histogram};

use crate::decisions::earning::Demand;
use crate::decisions::misses::counts_reruns;
use crate::decisions::points::{Work, earns_bonus, millipoints};
use crate::decisions::verdicts::{self, Case, Judged, Witness};
use crate::tenure::{LEDGER_RETRY, Tenure};

/// Scores the group of a job that this verifier settled, or that ended under its hands, and closes it if it is the
/// one on record. `reruns` says how often nodes began an assignment again. Tries until the ledger answers; what is cut off is closed
/// later by the sweeper.
///
/// # Errors
/// What retrying can't mend.
pub(crate) async fn close_own(
    tenure: &Tenure,
    settlement: &Settlement,
    group: &GroupRecord,
    reruns: &HashMap<AssignmentId, usize>,
) -> Result<(), LedgerError> {
    // The group on record may be another verifier's, which settled the job while this one was at it too: that one
    // closes it, and this one only posts what its own nodes are owed.
    let is_on_record = settlement.group.as_ref().is_some_and(|stored| stored.verifier == group.verifier);
    let ended = Ended { settlement, group, reruns, witness: Witness::Owner, closes: is_on_record };
    let again = |error: &LedgerError, _| {
        let may_pass = error.may_pass();
        if may_pass {
            tracing::warn!(job = %settlement.job_id, %error, "a group is not closed yet; trying again");
        }
        may_pass
    };
    retry(LEDGER_RETRY, || close(tenure, &ended), again).await
}

/// Closes a group whose owner is gone. No node is blamed for what the owner didn't store.
///
/// # Errors
/// [`LedgerError`]; the sweeper finds the group again.
pub(crate) async fn close_stored(tenure: &Tenure, group: &Group) -> Result<(), LedgerError> {
    let Group { settlement, record, .. } = group;
    // What was begun again died with the owner that heard it.
    let reruns = &HashMap::new();
    let witness = Witness::Successor;
    close(tenure, &Ended { settlement, group: record, reruns, witness, closes: true }).await
}

/// A group whose job has ended.
struct Ended<'a> {
    settlement: &'a Settlement,
    group: &'a GroupRecord,
    /// The assignments that were begun again, and how often each.
    reruns: &'a HashMap<AssignmentId, usize>,
    /// Which verifier scores it.
    witness: Witness,
    /// Whether it is the group on record, which the postings close.
    closes: bool,
}

async fn close(tenure: &Tenure, ended: &Ended<'_>) -> Result<(), LedgerError> {
    let Ended { settlement, group, reruns, witness, closes } = *ended;
    let closing = verdicts::close(&case(tenure, settlement, group, witness));
    let postings: Vec<_> = closing
        .judged
        .iter()
        .zip(&group.assignments)
        .flat_map(|(judged, record)| {
            let verdict = posting(tenure, (settlement, group), judged, record);
            let again = reruns.get(&judged.assignment).copied().filter(|_| counts_reruns(judged.verdict));
            let misses = (1..=again.unwrap_or(0)).map(|number| miss_of_rerun(&verdict, judged, number));
            let misses: Vec<Posting> = misses.collect();
            std::iter::once(verdict).chain(misses)
        })
        .collect();
    // The dispute first: if this is cut off in between, the group is still open and comes up again.
    if let Some(detail) = closing.dispute {
        dispute(tenure, settlement, &detail).await?;
    }
    tenure.seams.owner.post(settlement.job_id, &postings, closes).await?;
    count_verdicts(settlement, closing.judged.iter());
    if closes {
        histogram!(VERIFIER_CLOSE_LAG).record(Timestamp::now().since(settlement.settled_ms));
        tenure.counters.groups_closed.add_one();
    }
    Ok(())
}

/// Counts verdicts as far as this verifier knows: the same postings after an unknown commit are counted again.
pub(super) fn count_verdicts<'a>(settlement: &Settlement, judged: impl Iterator<Item = &'a Judged>) {
    for judged in judged {
        let model = settlement.model.to_string();
        counter!(VERIFIER_VERDICTS, "model" => model, "verdict" => judged.verdict.word()).increment(1);
    }
}

/// Opens a dispute of the job's answer.
pub(super) async fn dispute(
    tenure: &Tenure,
    settlement: &Settlement,
    detail: &str,
) -> Result<(), LedgerError> {
    tracing::warn!(job = %settlement.job_id, detail, "the answer is disputed");
    tenure.counters.disputes.add_one();
    tenure.seams.standing.dispute(settlement.job_id, detail, Timestamp::now()).await
}

/// Puts together what a group is judged by.
pub(super) fn case<'a>(
    tenure: &'a Tenure,
    settlement: &'a Settlement,
    group: &'a GroupRecord,
    witness: Witness,
) -> Case<'a> {
    let distinct = tenure.config.distinct.of_group(&group.assignments);
    Case { settlement, group, witness, distinct, thresholds: &tenure.thresholds }
}

/// Makes the posting of a miss beside the verdict on an assignment that was begun again, for its `number`th time. It has an id of its
/// own: the answer that came after all has its verdict, and its pay, all the same.
fn miss_of_rerun(verdict: &Posting, judged: &Judged, number: usize) -> Posting {
    let mut entry = verdict.entry.clone();
    if let PostingEntry::Verdict {
        verdict, millipoints, elapsed_ms, tokens, on_time, numbers_outside, ..
    } = &mut entry
    {
        *verdict = Verdict::Missed;
        (*millipoints, *elapsed_ms, *tokens) = (0, 0, 0);
        (*on_time, *numbers_outside) = (false, false);
    }
    Posting { id: format!("rerun:{}:{number}", judged.assignment), entry, ..verdict.clone() }
}

/// Makes a posting of the verdict on one assignment of a group of a job.
pub(super) fn posting(
    tenure: &Tenure,
    (settlement, group): (&Settlement, &GroupRecord),
    judged: &Judged,
    record: &AssignmentRecord,
) -> Posting {
    let GroupRecord { payment, is_for_chosen_nodes, .. } = *group;
    let is_billed = settlement.end.owed().is_some();
    let demand = Demand { account: &settlement.account, payment, is_billed, is_for_chosen_nodes };
    let snapshot = tenure.ledger_view.snapshot();
    let standing = snapshot.standing(&judged.node, &settlement.model);
    let work = Work {
        is_paid: judged.is_paid,
        prompt_tokens: judged.prompt_tokens,
        own_tokens: judged.own_tokens,
        canonical_tokens: judged.canonical_tokens,
        // A model that left the catalogue has no price any more.
        reference_token_us: snapshot
            .catalogue
            .get(&settlement.model)
            .map_or(0, |entry| entry.reference_token_us),
        elapsed_ms: judged.elapsed_ms,
        budget_ms: record.budget_ms,
        bonus: earns_bonus(standing, judged.numbers_outside),
    };
    // The network owes itself nothing.
    let earns = demand.earns(&record.owner) && !snapshot.pools.is_backstop(&judged.node);
    Posting {
        id: format!("verdict:{}", judged.assignment),
        job_id: settlement.job_id,
        posted_ms: Timestamp::now(),
        entry: PostingEntry::Verdict {
            node: judged.node.clone(),
            model: settlement.model.clone(),
            verdict: judged.verdict,
            millipoints: if earns { millipoints(&work) } else { 0 },
            elapsed_ms: judged.elapsed_ms,
            tokens: judged.own_tokens,
            on_time: judged.on_time,
            numbers_outside: judged.numbers_outside,
            is_for_chosen_nodes,
        },
    }
}
