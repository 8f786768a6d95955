//! A group as it is packed: JSON of everything but the replicas' tokens and numbers, then these in columns, each only once.
//! Replicas of one class that agree have the same tokens and, to the bit, the same numbers, which are most of a group.

use infera_types::columns::{
    read_numbers, read_tokens, read_whole, write_numbers, write_tokens, write_whole,
};
use infera_types::job::{AssignmentRecord, GroupRecord, ReplicaSummary};

use super::{malformed, pack, read_counted, unpack, write_counted};
use crate::LedgerError;
use crate::stored::from_json;

/// Packs a group.
///
/// # Errors
/// [`LedgerError::Row`]: JSON or zstd can't express it.
pub fn pack_group(group: &GroupRecord) -> Result<Vec<u8>, LedgerError> {
    let rest = serde_json::to_vec(&without_columns(group))
        .map_err(|error| LedgerError::Row(format!("a group can't be written as JSON: {error}")))?;
    let mut content = Vec::new();
    write_counted(&rest, &mut content);
    let (mut tokens, mut numbers) = (Known::default(), Known::default());
    for replica in group.assignments.iter().filter_map(|assignment| assignment.replica.as_ref()) {
        tokens.write(|bytes| write_tokens(&replica.tokens, bytes), &mut content);
        numbers.write(|bytes| write_numbers(&replica.numbers, bytes), &mut content);
    }
    pack(&content)
}

/// Returns the group that was packed.
///
/// # Errors
/// [`LedgerError::Row`]: the bytes are no packed group.
pub fn unpack_group(bytes: &[u8]) -> Result<GroupRecord, LedgerError> {
    let content = unpack("group", bytes)?;
    let mut rest = &content[..];
    let wrong = |error| malformed("group", error);
    let mut group: GroupRecord = from_json("group", read_counted(&mut rest).map_err(wrong)?)?;
    let (mut tokens, mut numbers) = (Vec::new(), Vec::new());
    for assignment in &mut group.assignments {
        if let Some(replica) = &mut assignment.replica {
            replica.tokens = read_known(&mut tokens, &mut rest, read_tokens).map_err(wrong)?;
            replica.numbers = read_known(&mut numbers, &mut rest, read_numbers).map_err(wrong)?;
        }
    }
    Ok(group)
}

/// The columns that were written before, as bytes.
#[derive(Default)]
struct Known(Vec<Vec<u8>>);

impl Known {
    /// Appends the number of the same columns that were written before, counted from 1, or 0 and the columns.
    fn write(&mut self, columns: impl Fn(&mut Vec<u8>), content: &mut Vec<u8>) {
        let mut bytes = Vec::new();
        columns(&mut bytes);
        let same = self.0.iter().position(|known| *known == bytes);
        write_whole(same.map_or(0, |place| u64::try_from(place + 1).unwrap_or(u64::MAX)), content);
        if same.is_none() {
            content.extend(&bytes);
            self.0.push(bytes);
        }
    }
}

type Read<T> = fn(&mut &[u8]) -> Result<Vec<T>, infera_types::columns::MalformedColumns>;

/// Reads what [`Known::write`] wrote.
fn read_known<T: Clone>(
    known: &mut Vec<Vec<T>>,
    bytes: &mut &[u8],
    read: Read<T>,
) -> Result<Vec<T>, infera_types::columns::MalformedColumns> {
    let place = usize::try_from(read_whole(bytes)?).unwrap_or(usize::MAX);
    if place == 0 {
        known.push(read(bytes)?);
    }
    let found = if place == 0 { known.last() } else { known.get(place - 1) };
    found.cloned().ok_or(infera_types::columns::MalformedColumns::NoSuchToken)
}

/// Returns a group without what is written in columns. All fields are named, so that a new one is not forgotten.
fn without_columns(group: &GroupRecord) -> GroupRecord {
    GroupRecord {
        verifier: group.verifier.clone(),
        assignments: group.assignments.iter().map(without_replica_columns).collect(),
        deadline_ms: group.deadline_ms,
        temperature: group.temperature,
        sample_key: group.sample_key,
        choice: group.choice,
        knobs: group.knobs.clone(),
        prompt_tokens: group.prompt_tokens.clone(),
        payment: group.payment,
        is_for_chosen_nodes: group.is_for_chosen_nodes,
    }
}

fn without_replica_columns(assignment: &AssignmentRecord) -> AssignmentRecord {
    let bare = |replica: &ReplicaSummary| ReplicaSummary {
        tokens: Vec::new(),
        numbers: Vec::new(),
        numeric_class: replica.numeric_class.clone(),
        arrived_ms: replica.arrived_ms,
        prompt_tokens: replica.prompt_tokens,
        sound: replica.sound,
    };
    AssignmentRecord {
        id: assignment.id,
        node: assignment.node.clone(),
        owner: assignment.owner.clone(),
        state: assignment.state,
        sent_ms: assignment.sent_ms,
        budget_ms: assignment.budget_ms,
        replica: assignment.replica.as_ref().map(bare),
    }
}
