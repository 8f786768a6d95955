//! The values of how long the text of jobs is kept, and of erasing it. Text is what a client wrote and was answered: the
//! request, the answer, the nodes' tokens and the client's pairs.

use std::time::Duration;

use infera_types::ids::{AccountId, Digest, JobId, SegmentId};
use infera_types::time::Timestamp;

use super::RecordPlace;
use crate::erasure_step;

/// How long the text of a new job is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// The time from the job's end after which its text is erased, so that its end can be collected until then; none: the
    /// job is stored.
    pub erase_after: Option<Duration>,
    /// The days from the job's end after which its text and its archived record are deleted; none: never.
    pub retention_days: Option<u32>,
}

/// What is still kept of a job's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whether the job was to be stored.
    pub is_stored: bool,
    /// When its text was erased from the ledger.
    pub erased_ms: Option<Timestamp>,
}

impl Kept {
    /// A stored job with its text.
    pub const WHOLE: Self = Self { is_stored: true, erased_ms: None };
}

/// What a key says of the jobs that it submits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPrivacy {
    /// Whether its jobs are stored, if they don't say themselves.
    pub stores: bool,
    /// The days after which the text and the records of its jobs are deleted; none: never.
    pub retention_days: Option<u32>,
}

impl Default for KeyPrivacy {
    /// Returns what holds for keys that say nothing: jobs are stored for as long as the operator keeps records.
    fn default() -> Self {
        Self { stores: true, retention_days: None }
    }
}

/// The change of what a key says of its jobs. What is none stays. Jobs that were accepted before keep their terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrivacyChange {
    /// Whether its jobs are stored.
    pub stores: Option<bool>,
    /// The days; an inner none takes the limit away.
    pub retention_days: Option<Option<u32>>,
}

impl PrivacyChange {
    /// Returns whether nothing is to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The random bytes that a job's text is hashed with. They stay in the ledger, so that the archive's hashes alone confirm no
/// guess of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; 16]);

impl Salt {
    /// Makes a salt from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the SHA-256 of the salt and `bytes`.
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> Digest {
        Digest::of(&[&self.0, bytes].concat())
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Salt")
    }
}

/// How far the erasure of a job's text has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasureStage {
    /// No time is set at which the text goes.
    Kept,
    /// Its time comes later.
    Scheduled,
    /// Its time has come.
    Queued,
    /// The text is gone from the ledger. Its archived record is still to be replaced or deleted.
    Erasing,
    /// Nothing is left of it.
    Erased,
}

impl ErasureStage {
    /// Returns the stage of a job whose row has this step and time.
    #[must_use]
    pub fn of(step: i64, due_ms: Timestamp, now: Timestamp) -> Self {
        match step {
            erasure_step!(set) if due_ms > now => Self::Scheduled,
            erasure_step!(set) => Self::Queued,
            erasure_step!(bare) | erasure_step!(replaced) => Self::Erasing,
            _ => Self::Erased,
        }
    }

    /// Returns the stage's word in the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Erasing => "erasing",
            Self::Erased => "erased",
        }
    }
}

/// The erasure of one job's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobErasure {
    /// The job.
    pub job: JobId,
    /// How far it has come.
    pub stage: ErasureStage,
    /// When the text is due to go; none if no time is set.
    pub due_ms: Option<Timestamp>,
    /// When nothing was left of it.
    pub done_ms: Option<Timestamp>,
}

/// The outcome of ordering the erasure of a job's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasureOrdered {
    /// The text will go, or has gone.
    Ordered(JobErasure),
    /// The job has not ended; it has to be cancelled first.
    NotEnded,
    /// The account has no such job.
    Unknown,
}

/// The erasure of the text of all of an account's jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountErasure {
    /// The account.
    pub account: AccountId,
    /// When it was asked for; jobs that were accepted later keep their text.
    pub asked_ms: Timestamp,
    /// Whether all jobs have been found.
    pub is_walked: bool,
    /// The ended jobs that were found so far.
    pub found: u64,
    /// The jobs that were found and had not ended. Their text goes once they have.
    pub live: u64,
    /// The account's jobs whose text is due and not gone yet, from the ledger or from the archive, and those that have not ended and
    /// whose text goes once they have. Counted up to [`PENDING_MAX`].
    pub pending: u32,
}

/// Up to how many pending erasures are counted.
pub const PENDING_MAX: u32 = 10_000;

impl AccountErasure {
    /// Returns the word for how far it has come.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match (self.is_walked, self.pending) {
            (false, _) => "queued",
            (true, 0) => "erased",
            (true, _) => "erasing",
        }
    }
}

/// A job whose text is gone from the ledger and may be left in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasedJob {
    /// The job.
    pub job: JobId,
    /// Its salt.
    pub salt: Salt,
    /// When the text was erased from the ledger.
    pub erased_ms: Timestamp,
}

/// A segment with records of erased jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewritableSegment {
    /// The segment.
    pub segment: SegmentId,
    /// The key of its object.
    pub key: String,
    /// How many times it was rewritten.
    pub rewrites: u32,
    /// The place of each record, in the object's order.
    pub places: Vec<RecordPlace>,
    /// The erased jobs among them.
    pub erased: Vec<ErasedJob>,
}

/// A segment's object that takes the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The segment.
    pub segment: SegmentId,
    /// The key of the object that is replaced.
    pub old_key: String,
    /// The key of the new object.
    pub key: String,
    /// The place of each record in the new object.
    pub places: Vec<RecordPlace>,
    /// The jobs whose text the new object lacks.
    pub erased: Vec<JobId>,
}

/// An object that was replaced and is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacedObject {
    /// The segment.
    pub segment: SegmentId,
    /// The key of the object.
    pub key: String,
    /// Whether the segment was written under this key again, so that the object stays.
    pub is_in_use: bool,
}

/// A segment whose retention is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiredSegment {
    /// The segment.
    pub segment: SegmentId,
    /// The key of its object.
    pub key: String,
    /// The key of an object that it replaced and that may still be there.
    pub old_key: Option<String>,
    /// How many times it was rewritten.
    pub rewrites: u32,
}

/// A record that was deleted from the archive with its whole segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovedRecord {
    /// SHA-256 of its line.
    pub hash: Digest,
    /// When the segment was deleted.
    pub removed_ms: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_follows_from_the_step_and_the_time() {
        let at = Timestamp::from_millis;
        for (step, due, expected) in [
            (0, 11, ErasureStage::Scheduled),
            (0, 10, ErasureStage::Queued),
            (1, 10, ErasureStage::Erasing),
            (2, 10, ErasureStage::Erasing),
            (3, 10, ErasureStage::Erased),
        ] {
            assert_eq!(ErasureStage::of(step, at(due), at(10)), expected, "{step} {due}");
        }
    }

    #[test]
    fn the_same_text_has_another_hash_under_another_salt() {
        let [one, other] = [Salt::from_bytes([1; 16]), Salt::from_bytes([2; 16])];
        assert_eq!(one.hash(b"text"), one.hash(b"text"));
        assert_ne!(one.hash(b"text"), other.hash(b"text"));
        assert_eq!(format!("{one:?}"), "Salt");
    }
}
