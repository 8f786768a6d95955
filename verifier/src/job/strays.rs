//! Scores replicas whose verifier is gone, from the group that it stored.

use infera_ledger::{CatalogueEntry, Group, LedgerError};
use infera_sampling::{Noise, Rules, Terms};
use infera_types::ids::{AssignmentId, NodeId};
use infera_types::job::{AssignmentState, End, FinishReason, GroupRecord, Settlement};
use infera_types::messages::Replica;
use infera_types::time::Timestamp;

use super::group::summarise;
use super::scorer::{case, count_verdicts, dispute, posting};
use crate::decisions::integrity::{self, Expected, Spelled};
use crate::decisions::verdicts::{self, Witness};
use crate::tenure::Tenure;

/// What became of a stray replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stray {
    /// This verifier's own: it may be for an open assignment here, or for a job that hasn't ended. The node has it in its
    /// result cache and answers the job's next owner with it.
    Ours,
    /// Its verdict is posted, unless its model has left the catalogue.
    Scored,
    /// The stored group doesn't wait for it.
    Unwanted,
}

/// Scores a replica that came back to its node because its verifier is gone, from the stored group.
///
/// # Errors
/// [`LedgerError`]; the replica stays in its queue.
pub(crate) async fn score_stray(
    tenure: &Tenure,
    sender: &NodeId,
    replica: &Replica,
    at: Timestamp,
) -> Result<Stray, LedgerError> {
    let group = tenure.seams.sweeping.groups(&[replica.job_id]).await?.into_iter().next();
    let Some(group) = group.filter(|group| group.record.verifier != tenure.id) else {
        return Ok(Stray::Ours);
    };
    if group.closed || !is_open(&group, replica.assignment_id, sender) {
        return Ok(Stray::Unwanted);
    }
    post_stray(tenure, group, replica, at).await?;
    Ok(Stray::Scored)
}

/// Returns whether the stored group still waits for this assignment's replica, and from this sender.
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
    let Some(entry) = tenure.ledger_view.snapshot().catalogue.get(&settlement.model).cloned() else {
        return Ok(());
    };
    let sound = is_sound(tenure, &settlement, &record, &entry, replica);
    let Some(one) = record.assignments.iter_mut().find(|one| one.id == replica.assignment_id) else {
        return Ok(());
    };
    one.state = AssignmentState::Answered;
    one.replica = Some(summarise(replica, at, sound));
    let asked = one.clone();
    let case = case(tenure, &settlement, &record, Witness::Successor);
    let Some((judged, disputed)) = verdicts::judge(&case, replica.assignment_id) else { return Ok(()) };
    if let Some(detail) = disputed {
        dispute(tenure, &settlement, &detail).await?;
    }
    let posting = posting(tenure, (&settlement, &record), &judged, &asked);
    tenure.seams.owner.post(settlement.job_id, &[posting], false).await?;
    count_verdicts(&settlement, [&judged].into_iter());
    Ok(())
}

/// Checks a replica by L0 as far as a stored group allows: the prompt, the request's bound and the number of its likeliest tokens
/// went with the owner, so those are taken as the replica says, unless the job's answer tells.
fn is_sound(
    tenure: &Tenure,
    settlement: &Settlement,
    group: &GroupRecord,
    entry: &CatalogueEntry,
    replica: &Replica,
) -> bool {
    let Some(chat) = tenure.chats.of(entry) else { return true };
    let (prompt_tokens, numbers) = match &settlement.end {
        End::Succeeded { answer, .. } => (answer.prompt_tokens, answer.numbers.first()),
        _ => (replica.prompt_tokens, None),
    };
    let likeliest = numbers.or(replica.numbers.first()).map(|row| row.likeliest.len());
    let rules = Rules::new(&Terms {
        temperature: group.temperature,
        knobs: &group.knobs,
        top_logprobs: likeliest.and_then(|count| u8::try_from(count).ok()),
        end_tokens: &entry.end_tokens,
        prompt: &group.prompt_tokens,
    });
    let own_length = u32::try_from(replica.tokens.len()).unwrap_or(u32::MAX);
    let announced = replica.numeric_class.model_digest;
    // More than fit into the context are too many whatever they spell.
    let is_short = own_length <= entry.context_max;
    let text = is_short.then(|| chat.answer_text(&replica.tokens, &group.knobs).ok()).flatten();
    let expected = Expected {
        assignment: replica.assignment_id,
        job: settlement.job_id,
        model_digest: &announced,
        prompt_hash: &replica.prompt_hash,
        prompt_tokens,
        max_tokens: if replica.finish_reason == FinishReason::Length { own_length } else { u32::MAX },
        context_max: entry.context_max,
        end_tokens: &entry.end_tokens,
        spelled: text.as_ref().map(|it| Spelled { text: &it.text, stopped_at: it.stopped_at }),
        rules: &rules,
        noise: Noise::new(&group.sample_key, group.choice),
        // Only nodes that announced it are asked what needs the second version of sampling.
        has_logit_max: !group.knobs.are_plain() || group.choice > 0,
    };
    let fault = integrity::check(replica, &expected).err();
    if let Some(fault) = fault {
        tracing::warn!(job = %settlement.job_id, assignment = %replica.assignment_id, %fault, "broken replica");
    }
    fault.is_none() && entry.digests.contains(&announced)
}
