//! The half of the ledger that deletes what the archive holds.

use std::fmt;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::rows::ArchivedSegment;
use infera_types::ids::SegmentId;
use infera_types::time::Timestamp;

/// Deletes what is archived and past its time: the groups first, some minutes after a job, then the bodies. The caller checks
/// the archive before either, because it holds the only copy afterwards.
#[async_trait]
pub trait Pruning: Send + Sync + fmt::Debug {
    /// Returns at most `limit` archived segments whose jobs' groups are still in the ledger and were all settled before
    /// `before`, in the order and without those that [`Pruning::prunable`] says. A record is archived once its group is closed,
    /// so that nothing waits for a replica of these groups any more. A group whose audit is drawn and not decided is to be left
    /// out here, once audits are drawn when groups close.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn ungroupable(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: u32,
        without: &[SegmentId],
    ) -> Result<Vec<ArchivedSegment>, LedgerError>;

    /// Deletes the groups of a segment's jobs, which are the largest part of what is stored of them, and returns the number of
    /// jobs. Their bodies, keys and ends stay. A replica that comes later still finds no group, like one of a pruned job, and is
    /// not scored.
    ///
    /// # Errors
    /// [`LedgerError`]; some groups may be deleted then, and the others are found again.
    async fn ungroup(&self, segment: SegmentId) -> Result<u64, LedgerError>;

    /// Returns at most `limit` archived segments whose jobs' bodies are still in the ledger and were all settled
    /// before `before`, oldest first, without those that [`Pruning::keep`] kept. Each is pruned as a whole, so that
    /// its object is checked once. A segment whose replaced object is not removed yet comes later. Those in `without` are passed
    /// over, and don't count towards `limit`.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn prunable(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: u32,
        without: &[SegmentId],
    ) -> Result<Vec<ArchivedSegment>, LedgerError>;

    /// Nulls the request bodies of a segment's jobs, and deletes their idempotency keys and, if they are still here, their
    /// groups. Returns the number of jobs. How they ended stays.
    ///
    /// # Errors
    /// [`LedgerError`]; some jobs may be pruned then, and the others are found again.
    async fn prune(&self, segment: SegmentId) -> Result<u64, LedgerError>;

    /// Keeps what the ledger has of a segment's jobs, because its object is not what was recorded. If the ledger has
    /// all of it, the segment becomes unfinished, so that it will be written again to the same key, and none of its
    /// records counts as archived until then: returns `true`. An object that a rewriting wrote has another key; it is named as
    /// replaced ([`crate::SegmentChanges::replaced`]) once the segment is written. If some groups or bodies were deleted before, the object
    /// may be their only copy and stays as it is: returns `false`.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn keep(&self, segment: SegmentId) -> Result<bool, LedgerError>;
}
