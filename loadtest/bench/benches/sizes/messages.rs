//! The sizes of messages that carry numbers, in each version.

use infera_bench::Fault;
use infera_bench::fixtures::Asker;
use infera_bench::report::{Row, Section};
use infera_types::ids::{AccountId, AssignmentId, Digest, JobId, VerifierId};
use infera_types::job::{End, FinishReason, Settlement};
use infera_types::messages::{Completion, Replica, ReplicaTiming, Version, Wire};

use crate::jobs::of_length;

pub(crate) fn section() -> Result<Section, Fault> {
    let mut rows = Vec::new();
    let asker = Asker::new(AccountId::fresh(), 1)?;
    for tokens in [16, 256] {
        let settlement = of_length(asker.settlement(JobId::new(), &VerifierId::fresh()), tokens, 0);
        if let Some(replica) = replica(&settlement) {
            rows.extend(sizes(&format!("a replica of {tokens} tokens"), &replica));
        }
        let mut told = Completion { settlement };
        let numbers = told.settlement.group.take();
        rows.extend(sizes(&format!("a completion of {tokens} tokens"), &told));
        let first = numbers.and_then(|group| group.assignments.into_iter().next());
        if let (End::Succeeded { answer, .. }, Some(replica)) =
            (&mut told.settlement.end, first.and_then(|assignment| assignment.replica))
        {
            answer.numbers = replica.numbers;
        }
        rows.extend(sizes(&format!("the same with its log-probabilities ({tokens} tokens)"), &told));
    }
    let title = "Bytes of messages".to_owned();
    Ok(Section {
        title,
        rows,
        notes: vec!["Written to readers of version 2 as JSON, of version 3 with columns.".to_owned()],
    })
}

fn sizes<W: Wire>(name: &str, message: &W) -> Vec<Row> {
    let size = |version| message.to_message_in(version, "1").body.len() as f64;
    vec![
        Row::new(format!("{name}, version 2"), "B", vec![size(Version::Second)]),
        Row::new(format!("{name}, version 3"), "B", vec![size(Version::NEWEST)]),
    ]
}

/// Makes the replica that the first assignment's summary was made of.
fn replica(settlement: &Settlement) -> Option<Replica> {
    let assignment = settlement.group.as_ref()?.assignments.first()?;
    let summary = assignment.replica.as_ref()?;
    let End::Succeeded { answer, .. } = &settlement.end else { return None };
    Some(Replica {
        attempt: None,
        assignment_id: AssignmentId::new(),
        job_id: settlement.job_id,
        numeric_class: summary.numeric_class.clone(),
        prompt_hash: Digest::of(b"prompt"),
        prompt_tokens: summary.prompt_tokens,
        cached_tokens: 0,
        rendering: 2,
        tokens: summary.tokens.clone(),
        text: answer.text.clone(),
        finish_reason: FinishReason::Stop,
        numbers: summary.numbers.clone(),
        timing: ReplicaTiming { queued_ms: 1, decode_ms: 80 },
    })
}
