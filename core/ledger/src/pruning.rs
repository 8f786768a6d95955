//! The half of the ledger that lets go of what the archive has.

use std::fmt;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::rows::ArchivedSegment;
use infera_types::ids::SegmentId;
use infera_types::time::Timestamp;

/// Lets go of bodies that are archived and past their retention. The caller looks at the archive first: only the
/// archive has what is let go of here.
#[async_trait]
pub trait Pruning: Send + Sync + fmt::Debug {
    /// Segments that are in the archive, whose jobs' bodies are still here and were all settled before `before`; oldest
    /// first, at most `limit`, without those that [`Pruning::keep`] kept. Each is let go of as a whole, so that its object is
    /// looked at once.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn prunable(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<ArchivedSegment>, LedgerError>;

    /// Nulls the request bodies of a segment's jobs, and forgets their groups, which are larger still, and their
    /// idempotency keys; returns how many jobs. What they ended with stays.
    ///
    /// # Errors
    /// [`LedgerError`]; some may be pruned then, and the others come up again.
    async fn prune(&self, segment: SegmentId) -> Result<u64, LedgerError>;

    /// The segment's object is not what was recorded, so what is here of its jobs stays. If that is all of it, the segment is
    /// unfinished again, so that it will be written once more to the same key, and none of its records is archived until
    /// then: `true`. If some of its bodies went before, the object may hold their only copy, and stays as it is: `false`.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn keep(&self, segment: SegmentId) -> Result<bool, LedgerError>;
}
