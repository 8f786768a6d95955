//! The archive's records, and where they are.

use serde::{Deserialize, Serialize};

use super::Posting;
use infera_types::ids::{Digest, JobId, SegmentId};
use infera_types::job::Settlement;
use infera_types::service::ServiceTier;
use infera_types::time::Timestamp;

/// Everything that is known of an ended job; one line of the archive is made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettledRecord {
    /// The job.
    pub job_id: JobId,
    /// When it was accepted.
    pub accepted_ms: Timestamp,
    /// The tier that it was served in; records from before there were tiers are of the default tier.
    #[serde(default)]
    pub tier: ServiceTier,
    /// What was asked; none if the body was already pruned.
    pub request: Option<serde_json::Value>,
    /// How it ended.
    pub settlement: Settlement,
    /// Its verdicts and usage.
    pub postings: Vec<Posting>,
    /// What is kept of its text, if that was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<ErasedText>,
}

/// The place of one record in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// The job.
    pub job: JobId,
    /// The offset of its frame in the object, in bytes.
    pub frame_offset: u64,
    /// The length of the frame, in bytes.
    pub frame_length: u64,
    /// The number of its line in the frame, from 0.
    pub index: u32,
    /// SHA-256 of the line without its newline.
    pub hash: Digest,
}

/// A record's place, and the object that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedRecord {
    /// Its segment.
    pub segment: SegmentId,
    /// The object's key.
    pub key: String,
    /// The place in the object.
    pub place: RecordPlace,
}

/// An archived segment with the places of all its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedSegment {
    /// The segment.
    pub segment: SegmentId,
    /// The object's key.
    pub key: String,
    /// The place of each record, in the object's order.
    pub places: Vec<RecordPlace>,
}

/// What a record keeps of a text that was erased: SHA-256 of the job's salt and of what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedText {
    /// When the text was erased from the ledger.
    pub erased_ms: Timestamp,
    /// The hash of the request's JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Digest>,
    /// The hash of the answer's text, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Digest>,
    /// The hash of the whole line that was archived before the text was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Digest>,
}
