//! Tests segments: what was settled is read back unchanged, alone and as a whole, and damage never passes for a
//! record.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt;
use std::ops::Range;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use infera_archive::segment::{self, FRAME_RECORDS_MAX, SegmentBytes, SegmentError};
use infera_archive::{ArchiveError, ArchiveReader};
use infera_ledger::{ArchivedRecord, ArchivedSegment, Posting, PostingEntry, SettledRecord};
use infera_types::ids::{
    AccountId, AssignmentId, Digest, GatewayId, JobId, ModelName, NodeId, OwnerId, SegmentId, VerifierId,
};
use infera_types::job::{
    AssignmentRecord, AssignmentState, End, FailureReason, GroupRecord, ReplicaSummary, Settlement,
};
use infera_types::knobs::Knobs;
use infera_types::numbers::{NumericClass, TokenNumbers};
use infera_types::service::ServiceTier;
use infera_types::time::Timestamp;
use proptest::prelude::*;

/// An archive of one object, which records how it is read: the seam offers no way to change stored bytes.
struct OneObject {
    bytes: Vec<u8>,
    reads: Mutex<Vec<Range<u64>>>,
}

impl OneObject {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, reads: Mutex::default() }
    }
}

impl fmt::Debug for OneObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.bytes.len())
    }
}

#[async_trait]
impl ArchiveReader for OneObject {
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        self.reads.lock().expect("no test panics with it").push(range.clone());
        let indices = range.start as usize..range.end as usize;
        let slice = self.bytes.get(indices);
        slice.map(Bytes::copy_from_slice).ok_or(ArchiveError::OutOfRange { key: key.to_owned(), range })
    }

    async fn size(&self, _key: &str) -> Result<Option<u64>, ArchiveError> {
        Ok(Some(self.bytes.len() as u64))
    }
}

fn numbers() -> impl Strategy<Value = TokenNumbers> {
    let finite = any::<f32>().prop_filter("logits are finite", |logit| logit.is_finite());
    let sum = any::<f64>().prop_filter("sums are finite", |sum| sum.is_finite());
    (prop::collection::vec((any::<u32>(), finite), 0..5), sum).prop_map(|(top, log_sum_exp)| TokenNumbers {
        top,
        log_sum_exp,
        logit_max: None,
        likeliest: Vec::new(),
    })
}

fn replica() -> impl Strategy<Value = ReplicaSummary> {
    (prop::collection::vec(any::<u32>(), 0..6), prop::collection::vec(numbers(), 0..6), ".*", any::<bool>())
        .prop_map(|(tokens, numbers, word, sound)| ReplicaSummary {
            tokens,
            numbers,
            numeric_class: NumericClass {
                model_digest: Digest::of(word.as_bytes()),
                provider: word.clone(),
                hardware: word.clone(),
                runtime: word.clone(),
                compute: word,
            },
            arrived_ms: Timestamp::from_millis(1),
            prompt_tokens: 3,
            sound,
        })
}

fn group() -> impl Strategy<Value = GroupRecord> {
    let assignment = (any::<[u8; 16]>(), "[a-z0-9]{1,8}", prop::option::of(replica()));
    let assignment = assignment.prop_map(|(id, node, replica)| AssignmentRecord {
        id: AssignmentId::from_bytes(id),
        node: NodeId::new(node.clone()),
        owner: OwnerId::new(node),
        state: AssignmentState::Answered,
        sent_ms: Timestamp::from_millis(5),
        budget_ms: 9,
        replica,
    });
    (prop::collection::vec(assignment, 0..4), 0.0..2.0f64, any::<[u8; 32]>()).prop_map(
        |(assignments, temperature, key)| GroupRecord {
            verifier: VerifierId::new("v1"),
            assignments,
            deadline_ms: Timestamp::from_millis(77),
            temperature,
            sample_key: Digest::from_bytes(key),
            choice: 0,
            knobs: Knobs::default(),
            prompt_tokens: Vec::new(),
            payment: infera_types::money::Payment::Free,
            is_for_chosen_nodes: false,
        },
    )
}

fn record() -> impl Strategy<Value = SettledRecord> {
    let end = prop_oneof![
        Just(End::cancelled()),
        Just(End::Expired),
        // Any text, with newlines, quotes and U+0000 in it.
        "(?s).*".prop_map(|message| End::Failed { reason: FailureReason::NoConsensus, message }),
    ];
    let request =
        prop::option::of(("(?s).*", any::<f64>().prop_filter("finite", |number| number.is_finite())));
    let times = 0..4_000_000_000_000u64;
    (any::<[u8; 16]>(), request, end, prop::option::of(group()), times).prop_map(
        |(id, request, end, group, at)| {
            let job_id = JobId::from_bytes(id);
            let at = Timestamp::from_millis(at);
            SettledRecord {
                job_id,
                accepted_ms: at,
                tier: ServiceTier::Flex,
                request: request
                    .map(|(text, number)| serde_json::json!({"z": text, "a": number, "text": [null, 1]})),
                settlement: Settlement {
                    job_id,
                    account: AccountId::new("acct1"),
                    model: ModelName::new("tiny"),
                    gateway: GatewayId::new("g1"),
                    end,
                    group,
                    settled_ms: at,
                },
                postings: vec![Posting {
                    id: format!("usage:{job_id}"),
                    job_id,
                    posted_ms: at,
                    entry: PostingEntry::Usage {
                        account: AccountId::new("acct1"),
                        prompt_tokens: 1,
                        completion_tokens: 2,
                    },
                }],
                erased: None,
            }
        },
    )
}

/// Makes `count` different records, without a property test's shrinking.
fn records(count: usize) -> Vec<SettledRecord> {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| record().new_tree(&mut runner).expect("a record").current()).collect()
}

fn archived(segment: SegmentId, built: &SegmentBytes, index: usize) -> ArchivedRecord {
    ArchivedRecord { segment, key: built.key.clone(), place: built.places[index] }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_record_is_read_back_alone_and_as_a_whole(records in prop::collection::vec(record(), 1..200)) {
        let segment = SegmentId::from_bytes([1; 16]);
        let built = segment::build(segment, &records).expect("a segment");
        prop_assert_eq!(&segment::build(segment, &records).expect("a segment"), &built);
        prop_assert_eq!(built.places.len(), records.len());

        let archive = OneObject::new(built.bytes.clone());
        for (index, record) in records.iter().enumerate() {
            let place = built.places[index];
            prop_assert_eq!(place.job, record.job_id);
            let read = wait(segment::read(&archive, &archived(segment, &built, index))).expect("a record");
            prop_assert_eq!(&read, record);
            let reads = std::mem::take(&mut *archive.reads.lock().expect("whole"));
            let range = place.frame_offset..place.frame_offset + place.frame_length;
            prop_assert_eq!(reads, vec![range]);
        }

        let whole = zstd::decode_all(built.bytes.as_slice()).expect("plain zstd");
        let text = whole.strip_suffix(b"\n").expect("a last newline");
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        prop_assert_eq!(lines.len(), records.len());
        for (line, (record, place)) in lines.iter().zip(records.iter().zip(&built.places)) {
            prop_assert_eq!(&serde_json::from_slice::<SettledRecord>(line).expect("JSON"), record);
            prop_assert_eq!(Digest::of(line), place.hash);
        }
    }
}

#[test]
fn large_records_fill_a_frame() {
    let mut records = records(7);
    for record in &mut records {
        record.request = Some(serde_json::Value::from("x".repeat(1_500_000)));
    }
    let segment = SegmentId::new();
    let built = segment::build(segment, &records).expect("a segment");
    let indexes: Vec<u32> = built.places.iter().map(|place| place.index).collect();
    assert_eq!(indexes, [0, 1, 2, 0, 1, 2, 0], "a frame ends with the record that makes four MiB of it");
    let archive = OneObject::new(built.bytes.clone());
    for (index, record) in records.iter().enumerate() {
        let read = wait(segment::read(&archive, &archived(segment, &built, index))).expect("a record");
        assert_eq!(&read, record);
    }
}

#[test]
fn frames_are_full_but_the_last() {
    let records = records(2 * FRAME_RECORDS_MAX + 3);
    let built = segment::build(SegmentId::new(), &records).expect("a segment");
    let mut frames: Vec<(u64, usize)> = Vec::new();
    for place in &built.places {
        match frames.last_mut() {
            Some((offset, count)) if *offset == place.frame_offset => *count += 1,
            _ => frames.push((place.frame_offset, 1)),
        }
    }
    let counts: Vec<usize> = frames.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [FRAME_RECORDS_MAX, FRAME_RECORDS_MAX, 3]);
}

/// A segment is whole if its object has its length and every record in it is intact.
#[test]
fn a_segment_is_whole_or_lost() {
    let segment = SegmentId::from_bytes([3; 16]);
    let built = segment::build(segment, &records(FRAME_RECORDS_MAX + 2)).expect("a segment");
    let archived = ArchivedSegment { segment, key: built.key.clone(), places: built.places.clone() };
    let verify =
        |bytes: Vec<u8>, archived: &ArchivedSegment| wait(segment::verify(&OneObject::new(bytes), archived));
    verify(built.bytes.clone(), &archived).expect("whole");
    let mut lost = 0;
    for position in (0..built.bytes.len()).step_by(17) {
        let mut bytes = built.bytes.clone();
        bytes[position] ^= 0x10;
        match verify(bytes, &archived) {
            // Some bits of a frame's head have no meaning.
            Ok(()) => {}
            Err(error) => {
                assert!(error.is_loss(), "byte {position}: {error}");
                lost += 1;
            }
        }
    }
    assert!(lost > built.bytes.len() / 17 * 9 / 10, "{lost} of {}", built.bytes.len() / 17);
    for length in [0, 1, built.bytes.len() / 2, built.bytes.len() - 1] {
        let error = verify(built.bytes[..length].to_vec(), &archived).expect_err("cut short");
        assert!(error.is_loss(), "{length}: {error}");
    }
    let mut other = archived.clone();
    other.places[1].hash = Digest::of(b"another record");
    let error = verify(built.bytes.clone(), &other).expect_err("another object");
    assert!(matches!(error, SegmentError::Damaged { job, .. } if job == other.places[1].job), "{error}");
}

#[test]
fn damage_is_an_error_and_never_a_record() {
    let segment = SegmentId::from_bytes([2; 16]);
    let records = records(5);
    let built = segment::build(segment, &records).expect("a segment");
    let read =
        |bytes: Vec<u8>, archived: &ArchivedRecord| wait(segment::read(&OneObject::new(bytes), archived));
    // Any byte may be damaged: the result is the record or an error.
    let mut found = 0;
    for position in 0..built.bytes.len() {
        let mut bytes = built.bytes.clone();
        bytes[position] ^= 0x10;
        match read(bytes, &archived(segment, &built, 3)) {
            Ok(record) => assert_eq!(record, records[3], "byte {position}"),
            Err(SegmentError::Damaged { job, .. }) => {
                assert_eq!(job, records[3].job_id);
                found += 1;
            }
            Err(other) => panic!("byte {position}: {other}"),
        }
    }
    assert!(found > 0, "no damage was found");
    // Places that point at another record, at none, or outside of the object.
    let whole = archived(segment, &built, 3);
    let wrong_index =
        ArchivedRecord { place: infera_ledger::RecordPlace { index: 2, ..whole.place }, ..whole.clone() };
    assert!(matches!(read(built.bytes.clone(), &wrong_index), Err(SegmentError::Damaged { .. })));
    let no_index =
        ArchivedRecord { place: infera_ledger::RecordPlace { index: 900, ..whole.place }, ..whole.clone() };
    assert!(matches!(read(built.bytes.clone(), &no_index), Err(SegmentError::Damaged { .. })));
    let cut = built.bytes[..built.bytes.len() - 1].to_vec();
    assert!(matches!(read(cut, &whole), Err(SegmentError::Archive(ArchiveError::OutOfRange { .. }))));
}
