//! Says what each node of a group is owed when the group closes, and whether the job's answer is disputed. A pure function
//! of the settlement and its group; it posts nothing. `points` says what a verdict is worth.
//!
//! Only a fault of L0 makes a node INVALID: a majority alone doesn't prove a lie.

use infera_ledger::Verdict;
use infera_sampling::{Noise, Rules, Terms};
use infera_types::ids::{AssignmentId, NodeId};
use infera_types::job::{
    Answer, AssignmentRecord, AssignmentState, Delivered, End, FailureReason, GroupRecord, Numbers,
    ReplicaSummary, Settlement, VerificationStatus,
};
use infera_types::time::Timestamp;

use crate::decisions::compare::{Agreement, Comparison, Context, compare};
use crate::decisions::group_draw::Distinct;
use crate::decisions::thresholds::Thresholds;

/// Says which verifier closes the group, which decides what silence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// The verifier that sent the assignments and listened all the time: what it didn't hear wasn't said.
    Owner,
    /// Another one, after the owner died: an answer may have been lost with it, so silence is no node's fault.
    Successor,
}

/// An ended job and its group, as far as they are known.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// How the job ended, and when.
    pub settlement: &'a Settlement,
    /// The group with all that has come in since; newer than the settlement's own.
    pub group: &'a GroupRecord,
    /// Which verifier closes it.
    pub witness: Witness,
    /// What makes two members different.
    pub distinct: Distinct,
    /// The tolerances in force.
    pub thresholds: &'a Thresholds,
}

/// The verdict on one assignment, with what a posting needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The assignment.
    pub assignment: AssignmentId,
    /// Its node.
    pub node: NodeId,
    /// The verdict.
    pub verdict: Verdict,
    /// How its tokens compare with the answer's; `None` where there is no answer or no sound replica.
    pub agreement: Option<Agreement>,
    /// Whether its numbers are outside against every sound replica that they were compared with, of at least one.
    pub numbers_outside: bool,
    /// Whether it is paid: its work is VALID, or it told what a client had that hung up.
    pub is_paid: bool,
    /// Whether its replica, or what it told, came within its budget.
    pub on_time: bool,
    /// From sending to arrival, or to the end of what it told; 0 where nothing arrived.
    pub elapsed_ms: u64,
    /// Tokens of its replica, or those that it told; 0 where nothing arrived.
    pub own_tokens: u64,
    /// Tokens of the job's answer, or those that are paid for where its client hung up; its own where the job has neither.
    pub canonical_tokens: u64,
    /// Tokens of the prompt that its replica names, which L0 compared with the verifier's; the verifier's where it only told tokens,
    /// and 0 where nothing arrived.
    pub prompt_tokens: u32,
}

/// A group's verdicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closing {
    /// One per assignment, in the group's order.
    pub judged: Vec<Judged>,
    /// One sentence if the answer is disputed: the first conflict, in the group's order.
    pub dispute: Option<String>,
}

/// Closes a group: all are in, or their deadlines have passed.
///
/// | the job | sound replica | L0 fault | missed | open | neutral |
/// |---|---|---|---|---|---|
/// | succeeded | identical to the answer: VALID; benign: INCONCLUSIVE; conflict: INCONCLUSIVE, disputed | INVALID | MISSED | MISSED | NEUTRAL |
/// | succeeded, and the client is given numbers | as above, but INCONCLUSIVE where they are outside: no such answer was agreed on | as above | as above | as above | as above |
/// | succeeded unverified | INCONCLUSIVE | INVALID | MISSED | MISSED | NEUTRAL |
/// | failed, `no_consensus` | INCONCLUSIVE | INVALID | MISSED | MISSED | NEUTRAL |
/// | failed, for want of answers or nodes | identical to another's: VALID, else INCONCLUSIVE | INVALID | MISSED, but NEUTRAL if no node answered | as missed | NEUTRAL |
/// | failed, the request's or the network's fault | INCONCLUSIVE | INVALID | NEUTRAL | NEUTRAL | NEUTRAL |
/// | cancelled or expired | in before the end: identical to another's that was: VALID, else INCONCLUSIVE; after: NEUTRAL | INVALID | MISSED | NEUTRAL, but MISSED if its time was up before the end | NEUTRAL |
///
/// An open one is NEUTRAL where a successor closes: its answer may have died with the owner.
///
/// Where a client hung up that had a part of the answer, a node that told this part and is open is INCONCLUSIVE and paid for the part:
/// nothing but its tokens was checked, so it earns no trust. The whole answer of one, in before the end, is judged as above, and paid
/// for the part.
#[must_use]
pub fn close(case: &Case<'_>) -> Closing {
    let mut closing = Closing::default();
    let rules = rules(case.group);
    let context = context(case, &rules);
    for record in &case.group.assignments {
        let (judged, dispute) = judge_record(case, &context, record);
        closing.judged.push(judged);
        closing.dispute = closing.dispute.or(dispute);
    }
    closing
}

/// Judges one assignment alone: a replica that came after the group was closed, or to a verifier that isn't the
/// owner. The second value is the dispute that it opens. `None`: the assignment isn't of this group.
#[must_use]
pub fn judge(case: &Case<'_>, assignment: AssignmentId) -> Option<(Judged, Option<String>)> {
    let record = case.group.assignments.iter().find(|record| record.id == assignment)?;
    let rules = rules(case.group);
    Some(judge_record(case, &context(case, &rules), record))
}

fn judge_record(
    case: &Case<'_>,
    context: &Context<'_>,
    record: &AssignmentRecord,
) -> (Judged, Option<String>) {
    let answer = match &case.settlement.end {
        End::Succeeded { answer, .. } => canonical(case, answer),
        _ => None,
    };
    let replica = record.replica.as_ref();
    let sound = sound(record);
    let delivered = delivered(case);
    let told = delivered.filter(|it| has_told(record, it));
    let compared = sound.zip(answer).map(|(own, answer)| compare(own, answer, context));
    let verdict = match verdict(case, context, record, compared.as_ref()) {
        Verdict::Neutral | Verdict::Missed if told.is_some() => Verdict::Inconclusive,
        verdict => verdict,
    };
    let elapsed_ms = elapsed_ms(case, record, told.is_some());
    let own_tokens = match (replica, told) {
        (Some(replica), _) => replica.tokens.len() as u64,
        (None, told) => told.map_or(0, |it| it.agreed_tokens.into()),
    };
    let agreed_tokens = delivered.map(|it| u64::from(it.agreed_tokens));
    let answer_tokens = answer.map(|one| one.tokens.len() as u64).or(agreed_tokens);
    let judged = Judged {
        assignment: record.id,
        node: record.node.clone(),
        verdict,
        agreement: compared.as_ref().map(|comparison| comparison.agreement),
        numbers_outside: is_outside(case, context, record),
        is_paid: verdict == Verdict::Valid || told.is_some(),
        on_time: (replica.is_some() || told.is_some()) && elapsed_ms <= record.budget_ms,
        elapsed_ms,
        own_tokens,
        canonical_tokens: answer_tokens.unwrap_or(own_tokens),
        prompt_tokens: match (replica, told) {
            (Some(replica), _) => replica.prompt_tokens,
            (None, told) => told.map_or(0, |it| it.prompt_tokens),
        },
    };
    let dispute = compared.and_then(|comparison| dispute(case, record, &comparison));
    (judged, dispute)
}

/// Returns the part of an answer that the job's client had when it hung up, if it had one.
const fn delivered<'a>(case: &Case<'a>) -> Option<&'a Delivered> {
    match &case.settlement.end {
        End::Cancelled { delivered } => delivered.as_ref(),
        _ => None,
    }
}

/// Returns whether an assignment's node told what the job's client had. A miss stands, and so does a fault of L0. One that was named
/// is neutral only because this verifier may have missed its answer, which takes nothing from what it told.
fn has_told(record: &AssignmentRecord, delivered: &Delivered) -> bool {
    let is_open_or_sound = match record.state {
        AssignmentState::Open | AssignmentState::Neutral => true,
        AssignmentState::Answered => sound(record).is_some(),
        AssignmentState::Missed => false,
    };
    is_open_or_sound && delivered.agreed.contains(&record.id)
}

/// From sending to arrival; of one that told what the client had and whose replica wasn't in, to the job's end. Where a successor
/// closes, the time that its predecessor's death cost isn't the node's: such an answer counts as just in time.
fn elapsed_ms(case: &Case<'_>, record: &AssignmentRecord, has_told: bool) -> u64 {
    let ended_ms = has_told.then_some(case.settlement.settled_ms);
    let arrived_ms = record.replica.as_ref().map(|one| one.arrived_ms);
    let until_ms = match (arrived_ms, ended_ms) {
        // What came after the end was told before it.
        (Some(arrived), Some(ended)) => Some(arrived.min(ended)),
        (arrived, ended) => arrived.or(ended),
    };
    let seen = until_ms.map_or(0, |until| millis_between(record.sent_ms, until));
    match case.witness {
        Witness::Owner => seen,
        Witness::Successor => seen.min(record.budget_ms),
    }
}

fn verdict(
    case: &Case<'_>,
    context: &Context<'_>,
    record: &AssignmentRecord,
    compared: Option<&Comparison>,
) -> Verdict {
    if record.replica.as_ref().is_some_and(|replica| !replica.sound) {
        return Verdict::Invalid;
    }
    match (record.state, sound(record)) {
        (AssignmentState::Neutral, _) => Verdict::Neutral,
        // A miss stands, though an answer came later: its place was given to another node.
        (AssignmentState::Missed, _) => missed(case),
        (AssignmentState::Answered, Some(replica)) => answered(case, context, record, replica, compared),
        (AssignmentState::Open, _) | (AssignmentState::Answered, None) => silent(case, record),
    }
}

/// Returns a miss where the job could be done at all.
fn missed(case: &Case<'_>) -> Verdict {
    let at_fault = match &case.settlement.end {
        End::Succeeded { .. } | End::Cancelled { .. } | End::Expired => true,
        End::Failed { reason, .. } => match reason {
            FailureReason::NoConsensus => true,
            // If not one node could answer, the request may be what broke them.
            FailureReason::TooManyMisses | FailureReason::InsufficientNodes => {
                case.group.assignments.iter().any(|record| sound(record).is_some())
            }
            FailureReason::Poison
            | FailureReason::ContextLength
            | FailureReason::InvalidMessages
            | FailureReason::Unprocessable
            | FailureReason::ModelRemoved => false,
        },
    };
    if at_fault { Verdict::Missed } else { Verdict::Neutral }
}

fn silent(case: &Case<'_>, record: &AssignmentRecord) -> Verdict {
    if case.witness == Witness::Successor {
        return Verdict::Neutral;
    }
    let time_was_up = millis_between(record.sent_ms, case.settlement.settled_ms) > record.budget_ms;
    match &case.settlement.end {
        End::Cancelled { .. } | End::Expired if !time_was_up => Verdict::Neutral,
        _ => missed(case),
    }
}

fn answered(
    case: &Case<'_>,
    context: &Context<'_>,
    record: &AssignmentRecord,
    replica: &ReplicaSummary,
    compared: Option<&Comparison>,
) -> Verdict {
    let before_end = replica.arrived_ms <= case.settlement.settled_ms;
    match &case.settlement.end {
        End::Succeeded { verification, answer } => {
            let is_given = !answer.numbers.is_empty();
            let identical = compared.is_some_and(|comparison| {
                let is_inside = comparison.numbers == Numbers::Inside;
                comparison.agreement == Agreement::Identical && (is_inside || !is_given)
            });
            // Compared with itself alone an answer proves nothing.
            let vouched = match verification.status {
                VerificationStatus::Unverified => false,
                // Of one replica as of several.
                VerificationStatus::Disputed => verification.rung.is_some(),
                VerificationStatus::Verified
                | VerificationStatus::Upheld
                | VerificationStatus::Overturned => true,
            };
            if identical && vouched { Verdict::Valid } else { Verdict::Inconclusive }
        }
        End::Cancelled { .. } | End::Expired if !before_end => Verdict::Neutral,
        End::Cancelled { .. } | End::Expired => among_themselves(case, context, record, replica),
        End::Failed { reason: FailureReason::TooManyMisses | FailureReason::InsufficientNodes, .. } => {
            among_themselves(case, context, record, replica)
        }
        End::Failed { .. } => Verdict::Inconclusive,
    }
}

/// Without an answer of the job: valid by an identical replica of another owner, in before the end.
fn among_themselves(
    case: &Case<'_>,
    context: &Context<'_>,
    record: &AssignmentRecord,
    replica: &ReplicaSummary,
) -> Verdict {
    let partners = others(case, record).filter(|(_, other)| other.arrived_ms <= case.settlement.settled_ms);
    let mut identical =
        partners.filter(|(_, other)| compare(replica, other, context).agreement == Agreement::Identical);
    if identical.next().is_some() { Verdict::Valid } else { Verdict::Inconclusive }
}

/// Returns the sound replicas of other parties.
fn others<'a>(
    case: &'a Case<'_>,
    record: &'a AssignmentRecord,
) -> impl Iterator<Item = (&'a AssignmentRecord, &'a ReplicaSummary)> {
    let party = |one: &'a AssignmentRecord| case.distinct.party(&one.owner, &one.node);
    let elsewhere = case.group.assignments.iter().filter(move |other| party(other) != party(record));
    elsewhere.filter_map(|other| sound(other).map(|replica| (other, replica)))
}

fn is_outside(case: &Case<'_>, context: &Context<'_>, record: &AssignmentRecord) -> bool {
    let Some(own) = sound(record) else { return false };
    let mut partners = others(case, record).map(|(_, other)| compare(own, other, context).numbers).peekable();
    partners.peek().is_some() && partners.all(|numbers| numbers == Numbers::Outside)
}

/// However late it came: what it says of the answer doesn't depend on what it earns.
fn dispute(case: &Case<'_>, record: &AssignmentRecord, comparison: &Comparison) -> Option<String> {
    let Agreement::Conflict { position } = comparison.agreement else { return None };
    Some(format!(
        "{} of node {} conflicts with the answer at token {position} (thresholds {})",
        record.id,
        record.node,
        case.thresholds.version()
    ))
}

/// Returns what the group's tokens were chosen by, as far as comparing them needs it: which tokens end a turn isn't stored, and
/// plays no part in it.
fn rules(group: &GroupRecord) -> Rules {
    Rules::new(&Terms {
        temperature: group.temperature,
        knobs: &group.knobs,
        top_logprobs: None,
        end_tokens: &[],
        prompt: &group.prompt_tokens,
    })
}

fn context<'a>(case: &Case<'a>, rules: &'a Rules) -> Context<'a> {
    let noise = Noise::new(&case.group.sample_key, case.group.choice);
    Context { rules, noise, thresholds: case.thresholds }
}

/// Returns the replica that the answer was taken from.
fn canonical<'a>(case: &Case<'a>, answer: &Answer) -> Option<&'a ReplicaSummary> {
    let of_node = case.group.assignments.iter().filter(|record| record.node == answer.node);
    of_node.filter_map(sound).find(|replica| replica.tokens == answer.tokens)
}

fn sound(record: &AssignmentRecord) -> Option<&ReplicaSummary> {
    record.replica.as_ref().filter(|replica| replica.sound)
}

fn millis_between(earlier: Timestamp, later: Timestamp) -> u64 {
    later.as_millis().saturating_sub(earlier.as_millis())
}
