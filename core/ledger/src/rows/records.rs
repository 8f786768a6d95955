//! What the archive is made of, and where it lies.

use serde::{Deserialize, Serialize};

use super::Posting;
use infera_types::ids::{Digest, JobId, SegmentId};
use infera_types::job::Settlement;
use infera_types::time::Timestamp;

/// All that is known of an ended job: what one line of the archive is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettledRecord {
    /// The job.
    pub job_id: JobId,
    /// When it was accepted.
    pub accepted_ms: Timestamp,
    /// What was asked; none if the body was pruned before.
    pub request: Option<serde_json::Value>,
    /// How it ended.
    pub settlement: Settlement,
    /// Its verdicts and usage.
    pub postings: Vec<Posting>,
}

/// Where one record lies within its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// The job.
    pub job: JobId,
    /// Where its frame begins in the object, in bytes.
    pub frame_offset: u64,
    /// How long the frame is, in bytes.
    pub frame_length: u64,
    /// Which line of the frame it is, from 0.
    pub index: u32,
    /// SHA-256 of the line without its newline.
    pub hash: Digest,
}

/// A record's place, and the object that it lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedRecord {
    /// Its segment.
    pub segment: SegmentId,
    /// The object's key.
    pub key: String,
    /// Where in it.
    pub place: RecordPlace,
}

/// A segment that is in the archive, with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedSegment {
    /// The segment.
    pub segment: SegmentId,
    /// The object's key.
    pub key: String,
    /// Where each of its records lies, in the order in which they lie there.
    pub places: Vec<RecordPlace>,
}
