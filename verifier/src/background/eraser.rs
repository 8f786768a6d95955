//! Erases the text of jobs: from the ledger first, then from the archive. A segment with erased jobs is rewritten: the new
//! object is written and read back, the ledger names it in place of the old one, and the old one is removed. A segment whose
//! retention is over is deleted whole. Cut off between any two steps, all of it is found again by the next pass; none of it is
//! undone. It runs under the archiver's lease, because it writes segments.

use std::sync::Arc;
use std::time::Duration;

use infera_archive::rewriting::{self, Rewritten};
use infera_archive::segment::{SegmentBytes, SegmentError};
use infera_archive::{Archive, ArchiveError};
use infera_ledger::{
    Erasing, ExpiredSegment, LedgerError, Pruning, Replacement, RewritableSegment, SegmentChanges,
};
use infera_telemetry::metrics::{
    VERIFIER_ERASED, VERIFIER_ERASURES_STUCK, VERIFIER_EXPIRED, VERIFIER_REWRITTEN,
};
use infera_types::time::Timestamp;
use metrics::counter;

use crate::tenure::{LeaseName, Leases};

/// Bounds the jobs of an account that are looked at in one pass. A thousand rows share a commit of some tens of milliseconds.
const FIND_LIMIT: u32 = 1_000;

/// Bounds the jobs whose text is erased in one pass, each of half a megabyte at most.
const ERASE_LIMIT: u32 = 256;

/// Bounds the segments that are read, written or deleted in one pass, before the lease is renewed. Each takes a second or two.
const SEGMENT_LIMIT: u32 = 8;

/// How long a segment is left alone that can't be rewritten. An operator has to mend it; trying more often would fill the log.
const STUCK_WAIT: Duration = Duration::from_secs(60 * 60);

/// What kept a text from being erased.
#[derive(Debug, thiserror::Error)]
pub(super) enum ErasingError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("{0} is not what was written; it is written again")]
    NotWritten(String),
}

/// What erasing needs.
pub(super) struct Eraser {
    /// Carries out erasures in the ledger.
    pub(super) erasing: Arc<dyn Erasing>,
    /// Records what erasing changes in the archive.
    pub(super) segments: Arc<dyn SegmentChanges>,
    /// Removes what the ledger has beside the archive.
    pub(super) pruning: Arc<dyn Pruning>,
    /// Stores segments.
    pub(super) archive: Arc<dyn Archive>,
    /// Keeps the archiver's lease.
    pub(super) leases: Arc<Leases>,
}

impl Eraser {
    /// Does a bounded part of what is to be erased, and returns whether there may be more. Segments that can't be written
    /// now keep no text in the ledger.
    ///
    /// # Errors
    /// The first failure of a store; all of it is tried again in the next pass.
    pub(super) async fn pass(&self) -> Result<bool, ErasingError> {
        let now = Timestamp::now();
        let found = self.erasing.find_ordered(FIND_LIMIT, now).await?;
        let erased = self.erasing.erase_text(ERASE_LIMIT, now).await?;
        counter!(VERIFIER_ERASED).increment(erased.into());
        let removed = self.remove_replaced(now).await?;
        let rewritable = self.erasing.rewritable(SEGMENT_LIMIT, now).await?;
        let mut failed = None;
        for segment in &rewritable {
            // One that can't be written now keeps no other from it.
            failed = self.rewrite(segment, now).await.err().or(failed);
        }
        let expired = self.segments.expired(SEGMENT_LIMIT, now).await?;
        for segment in &expired {
            failed = self.delete(segment, now).await.err().or(failed);
        }
        let removed = removed + self.remove_replaced(now).await?;
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(found > 0 || erased > 0 || removed > 0 || !rewritable.is_empty() || !expired.is_empty())
    }

    /// Removes objects that were replaced, and returns how many.
    async fn remove_replaced(&self, now: Timestamp) -> Result<usize, ErasingError> {
        let replaced = self.segments.replaced(SEGMENT_LIMIT).await?;
        for object in &replaced {
            // A segment that the archive had lost is written again under its first key.
            if !object.is_in_use {
                self.archive.remove(&object.key).await?;
            }
            self.segments.forget_replaced(object.segment, now).await?;
        }
        Ok(replaced.len())
    }

    async fn rewrite(&self, segment: &RewritableSegment, now: Timestamp) -> Result<(), ErasingError> {
        let rewritten = match rewriting::rewrite(&*self.archive, segment).await {
            Ok(rewritten) => rewritten,
            Err(error) if error.is_loss() => {
                counter!(VERIFIER_ERASURES_STUCK).increment(1);
                tracing::error!(
                    segment = %segment.segment, key = segment.key, %error,
                    "a segment can't be rewritten without text; mend or remove its object, it is tried again in an hour"
                );
                return Ok(self.erasing.postpone(segment.segment, now.after(STUCK_WAIT)).await?);
            }
            Err(error) => return Err(error.into()),
        };
        let Rewritten { bytes, erased } = rewritten;
        let Some(SegmentBytes { key, bytes, places }) = bytes else {
            return Ok(self.erasing.end_erasures(&erased, now).await?);
        };
        self.write(&key, bytes).await?;
        let old_key = segment.key.clone();
        let replacement = Replacement { segment: segment.segment, old_key, key, places, erased };
        if self.segments.replace(&replacement).await? {
            counter!(VERIFIER_REWRITTEN).increment(1);
        }
        Ok(())
    }

    /// Writes an object and reads it back.
    async fn write(&self, key: &str, bytes: Vec<u8>) -> Result<(), ErasingError> {
        // As for the archiver's own puts: one that is cut off may still arrive.
        self.leases.run_out_at_end(LeaseName::Archiver);
        self.archive.put(key, bytes.clone().into()).await?;
        self.leases.give_back_at_end(LeaseName::Archiver);
        let whole = 0..u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let is_whole = self.archive.size(key).await? == Some(whole.end);
        if !is_whole || self.archive.get(key, whole).await? != bytes {
            return Err(ErasingError::NotWritten(key.to_owned()));
        }
        Ok(())
    }

    /// Deletes a segment whole. What the ledger still has of its jobs goes first, so that nothing writes the segment again.
    async fn delete(&self, expired: &ExpiredSegment, now: Timestamp) -> Result<(), ErasingError> {
        let ExpiredSegment { segment, key, old_key, rewrites } = expired;
        self.pruning.prune(*segment).await?;
        // A rewriting that was cut off may have left its object.
        let unfinished = rewriting::key(key, rewrites.saturating_add(1));
        for key in [Some(key), old_key.as_ref(), Some(&unfinished)].into_iter().flatten() {
            self.archive.remove(key).await?;
        }
        self.segments.segment_removed(*segment, now).await?;
        counter!(VERIFIER_EXPIRED).increment(1);
        Ok(())
    }
}
