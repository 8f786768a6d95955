//! What a group comes to: verdicts as postings, once per assignment, and disputes. It judges by `verdicts` and
//! `points`; this brings the result to the ledger, for groups of this verifier and for those whose owner is gone.

use std::time::Duration;

use infera_ledger::{CatalogueEntry, Group, LedgerError, Posting, PostingEntry};
use infera_telemetry::metrics::{VERIFIER_CLOSE_LAG, VERIFIER_VERDICTS};
use infera_types::ids::{AssignmentId, NodeId};
use infera_types::job::{AssignmentState, End, FinishReason, GroupRecord, Settlement};
use infera_types::messages::Replica;
use infera_types::time::Timestamp;
use metrics::{counter, histogram};

use crate::collector::{self, Arrival, Arrived};
use crate::counters::Counted;
use crate::group::summarise;
use crate::integrity::{self, Expected};
use crate::points::{Work, earns_bonus, millipoints};
use crate::tenure::Tenure;
use crate::verdicts::{self, Case, Judged, Witness};

/// Between tries while the ledger is away. The tenure's lease bounds how long that can go on.
const RETRY: Duration = Duration::from_millis(250);

/// Scores the group of a job that this verifier settled, or that ended under its hands, and closes it if it is the
/// one on record. Tries until the ledger answers; what is cut off is closed later by the sweeper.
///
/// # Errors
/// What retrying can't mend.
pub(crate) async fn close_own(
    tenure: &Tenure,
    settlement: &Settlement,
    group: &GroupRecord,
) -> Result<(), LedgerError> {
    // The group on record may be another verifier's, which settled the job while this one was at it too: that one
    // closes it, and this one only posts what its own nodes are owed.
    let is_on_record = settlement.group.as_ref().is_some_and(|stored| stored.verifier == group.verifier);
    loop {
        match close(tenure, settlement, group, (Witness::Owner, is_on_record)).await {
            Err(error) if error.may_pass() => {
                tracing::warn!(job = %settlement.job_id, %error, "group not closed yet; trying again");
                tokio::time::sleep(RETRY).await;
            }
            decided => return decided,
        }
    }
}

/// Closes a group whose owner is gone. No node is blamed for what the owner didn't store.
///
/// # Errors
/// [`LedgerError`]; the sweeper finds the group again.
pub(crate) async fn close_stored(tenure: &Tenure, group: &Group) -> Result<(), LedgerError> {
    close(tenure, &group.settlement, &group.record, (Witness::Successor, true)).await
}

async fn close(
    tenure: &Tenure,
    settlement: &Settlement,
    group: &GroupRecord,
    (witness, closes): (Witness, bool),
) -> Result<(), LedgerError> {
    let closing = verdicts::close(&case(tenure, settlement, group, witness));
    let postings: Vec<_> = closing
        .judged
        .iter()
        .zip(&group.assignments)
        .map(|(judged, record)| posting(tenure, settlement, judged, record.budget_ms))
        .collect();
    // The dispute first: if this is cut off in between, the group is still open and comes up again.
    if let Some(detail) = closing.dispute {
        dispute(tenure, settlement, &detail).await?;
    }
    tenure.seams.owner.post(settlement.job_id, &postings, closes).await?;
    count_verdicts(settlement, closing.judged.iter());
    if closes {
        histogram!(VERIFIER_CLOSE_LAG).record(Timestamp::now().since(settlement.settled_ms));
        tenure.counters.count(Counted::GroupClosed);
    }
    Ok(())
}

/// As far as this verifier knows: one that posts the same again after an unknown commit counts it again.
fn count_verdicts<'a>(settlement: &Settlement, judged: impl Iterator<Item = &'a Judged>) {
    for judged in judged {
        let model = settlement.model.to_string();
        counter!(VERIFIER_VERDICTS, "model" => model, "verdict" => judged.verdict.word()).increment(1);
    }
}

async fn dispute(tenure: &Tenure, settlement: &Settlement, detail: &str) -> Result<(), LedgerError> {
    tracing::warn!(job = %settlement.job_id, detail, "the answer is disputed");
    tenure.counters.count(Counted::Dispute);
    tenure.seams.standing.dispute(settlement.job_id, detail, Timestamp::now()).await
}

fn case<'a>(
    tenure: &'a Tenure,
    settlement: &'a Settlement,
    group: &'a GroupRecord,
    witness: Witness,
) -> Case<'a> {
    let distinct = tenure.config.distinct;
    Case { settlement, group, witness, distinct, thresholds: &tenure.thresholds }
}

/// One verdict as a line of the account book.
fn posting(tenure: &Tenure, settlement: &Settlement, judged: &Judged, budget_ms: u64) -> Posting {
    let page = tenure.book.page();
    let standing = page.standing(&judged.node, &settlement.model);
    let work = Work {
        verdict: judged.verdict,
        prompt_tokens: judged.prompt_tokens,
        own_tokens: judged.own_tokens,
        canonical_tokens: judged.canonical_tokens,
        // A model that left the catalogue has no price any more.
        reference_token_us: page.catalogue.get(&settlement.model).map_or(0, |entry| entry.reference_token_us),
        elapsed_ms: judged.elapsed_ms,
        budget_ms,
        bonus: earns_bonus(standing, judged.numbers_outside),
    };
    Posting {
        id: format!("verdict:{}", judged.assignment),
        job_id: settlement.job_id,
        posted_ms: Timestamp::now(),
        entry: PostingEntry::Verdict {
            node: judged.node.clone(),
            model: settlement.model.clone(),
            verdict: judged.verdict,
            millipoints: millipoints(&work),
            elapsed_ms: judged.elapsed_ms,
            tokens: judged.own_tokens,
            on_time: judged.on_time,
            numbers_outside: judged.numbers_outside,
        },
    }
}

/// Scores a replica that came back to its node because its verifier is gone, from the stored group. One of an open
/// assignment of ours goes to its job. One of a job that hasn't ended is left: the node has it in its result cache
/// and answers the job's next owner with it.
///
/// # Errors
/// [`LedgerError`]; the replica stays in its queue.
pub(crate) async fn score_stray(
    tenure: &Tenure,
    sender: &NodeId,
    (replica, bytes): (&Replica, usize),
) -> Result<(), LedgerError> {
    let (job, assignment, at) = (replica.job_id, replica.assignment_id, Timestamp::now());
    let group = tenure.seams.sweeping.groups(&[job]).await?.into_iter().next();
    let Some(group) = group.filter(|group| group.record.verifier != tenure.id) else {
        let what = Arrival::Replica(Box::new(replica.clone()));
        collector::route(tenure, sender.as_str(), Arrived { assignment, at, bytes, what, trace: None });
        return Ok(());
    };
    let open = is_open(&group, assignment, sender);
    if group.closed || !open {
        tenure.counters.count(Counted::ReplicaUnknown);
        return Ok(());
    }
    post_stray(tenure, group, replica, at).await
}

/// Whether the stored group still waits for this assignment's replica, and from this sender.
fn is_open(group: &Group, assignment: AssignmentId, sender: &NodeId) -> bool {
    group.record.assignments.iter().any(|record| {
        record.id == assignment && record.node == *sender && record.state == AssignmentState::Open
    })
}

async fn post_stray(
    tenure: &Tenure,
    group: Group,
    replica: &Replica,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let Group { settlement, mut record, .. } = group;
    let Some(entry) = tenure.book.page().catalogue.get(&settlement.model).cloned() else { return Ok(()) };
    let sound = is_sound(tenure, &settlement, &record, &entry, replica);
    let Some(one) = record.assignments.iter_mut().find(|one| one.id == replica.assignment_id) else {
        return Ok(());
    };
    one.state = AssignmentState::Answered;
    one.replica = Some(summarise(replica, at, sound));
    let budget_ms = one.budget_ms;
    let case = case(tenure, &settlement, &record, Witness::Successor);
    let Some((judged, disputed)) = verdicts::judge(&case, replica.assignment_id) else { return Ok(()) };
    if let Some(detail) = disputed {
        dispute(tenure, &settlement, &detail).await?;
    }
    let posting = posting(tenure, &settlement, &judged, budget_ms);
    tenure.seams.owner.post(settlement.job_id, &[posting], false).await?;
    count_verdicts(&settlement, [&judged].into_iter());
    Ok(())
}

/// L0 as far as a stored group allows: the prompt and the request's bound went with the owner, so those are taken as
/// the replica says, unless the job's answer tells.
fn is_sound(
    tenure: &Tenure,
    settlement: &Settlement,
    group: &GroupRecord,
    entry: &CatalogueEntry,
    replica: &Replica,
) -> bool {
    let Some(chat) = tenure.chats.get(&settlement.model) else { return true };
    let prompt_tokens = match &settlement.end {
        End::Succeeded { answer, .. } => answer.prompt_tokens,
        _ => replica.prompt_tokens,
    };
    let own_length = u32::try_from(replica.tokens.len()).unwrap_or(u32::MAX);
    let announced = replica.numeric_class.model_digest;
    // More than fit into the context are too many whatever they spell.
    let is_short = own_length <= entry.context_max;
    let decoded = is_short.then(|| chat.decode(&replica.tokens).ok()).flatten();
    let expected = Expected {
        assignment: replica.assignment_id,
        job: settlement.job_id,
        model_digest: &announced,
        prompt_hash: &replica.prompt_hash,
        prompt_tokens,
        max_tokens: if replica.finish_reason == FinishReason::Length { own_length } else { u32::MAX },
        context_max: entry.context_max,
        end_tokens: &entry.end_tokens,
        decoded: decoded.as_deref(),
        temperature: group.temperature,
        sample_key: &group.sample_key,
    };
    let fault = integrity::check(replica, &expected).err();
    if let Some(fault) = fault {
        tracing::warn!(job = %settlement.job_id, assignment = %replica.assignment_id, %fault, "broken replica");
    }
    fault.is_none() && entry.digests.contains(&announced)
}
