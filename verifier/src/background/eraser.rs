//! Erases the text of jobs: from the ledger first, then from the archive. A segment with erased jobs is rewritten: the new
//! object is written and read back, the ledger names it in place of the old one, and the old one is removed. A segment whose
//! retention is over is deleted whole. Cut off between any two steps, all of it is found again by the next pass; none of it is
//! undone. It runs under the archiver's lease, because it writes segments.
//!
//! A rewriting reads and writes a whole segment, however few of its jobs are erased. So a segment's erasures are gathered for a while
//! before it is rewritten. What fails is logged with its segment and left alone for a while, so that it keeps no other back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use infera_archive::rewriting::{self, Rewritten};
use infera_archive::segment::{SegmentBytes, SegmentError};
use infera_archive::{Archive, ArchiveError};
use infera_ledger::{
    Erasing, ExpiredSegment, LedgerError, Pruning, Replacement, RewritableSegment, SegmentChanges,
};
use infera_telemetry::metrics::{
    VERIFIER_ARCHIVE_FAILURES, VERIFIER_ERASED, VERIFIER_ERASURES_STUCK, VERIFIER_EXPIRED, VERIFIER_REWRITTEN,
};
use infera_types::ids::{JobId, SegmentId};
use infera_types::time::Timestamp;
use metrics::counter;
use tokio::time::Instant;

use crate::tenure::{LeaseName, Leases};

/// Bounds the jobs of an account that are looked at in one pass. A thousand rows share a commit of some tens of milliseconds.
const FIND_LIMIT: u32 = 1_000;

/// Bounds the jobs whose text is erased under one look at the clock. The ledger reads no more than a few tens of them at once.
const ERASE_LIMIT: u32 = 256;

/// How long one pass erases texts from the ledger, so that an account's million jobs don't keep it from the archive.
const ERASE_FOR: Duration = Duration::from_secs(2);

/// Bounds the segments that are read, written or deleted in one pass, before the archiver has its turn and the lease is renewed. Each
/// takes a second or two.
const SEGMENT_LIMIT: u32 = 8;

/// Bounds the segments of each kind that are remembered because something failed. If there are more, all are forgotten, and are tried
/// again.
const REMEMBERED_MAX: usize = 1_000;

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

impl ErasingError {
    /// Returns whether the archive is away or busy, so that a retry may help soon.
    const fn may_pass(&self) -> bool {
        match self {
            Self::Ledger(_) | Self::NotWritten(_) => true,
            Self::Archive(error) | Self::Segment(SegmentError::Archive(error)) => {
                matches!(error, ArchiveError::Unavailable(_))
            }
            Self::Segment(error) => matches!(error, SegmentError::CutOff),
        }
    }

    /// Returns whether the object that was to be read doesn't exist.
    const fn is_gone(&self) -> bool {
        matches!(self, Self::Segment(SegmentError::Archive(ArchiveError::NotFound(_))))
    }
}

/// How long what belongs to a segment is left alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// How long a segment's erasures are gathered before it is rewritten.
    pub(super) gather: Duration,
    /// How long a segment is left alone that can't be rewritten or removed until an operator mends it.
    pub(super) mended: Duration,
    /// How long a segment is left alone while the archive is away.
    pub(super) away: Duration,
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
    /// The waits of the settings.
    pub(super) waits: Waits,
    /// What earlier passes have left.
    pub(super) left: Left,
}

/// What earlier passes have left for later ones.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The segments whose object was gone, and when that was seen first.
    gone: HashMap<SegmentId, Timestamp>,
    /// The segments with objects that can't be removed, and until when they are left alone.
    unremovable: HashMap<SegmentId, Timestamp>,
}

impl Eraser {
    /// Does a bounded part of what is to be erased, and returns whether there may be more. Segments that can't be written
    /// now keep no text in the ledger, and no other segment from being written.
    ///
    /// # Errors
    /// The ledger's; all of it is tried again in the next pass.
    pub(super) async fn pass(&mut self) -> Result<bool, LedgerError> {
        let now = Timestamp::now();
        self.left.unremovable.retain(|_, until| *until > now);
        let found = self.erasing.find_ordered(FIND_LIMIT, now).await?;
        let erased = self.erase_texts(now).await?;
        let mut is_more = self.remove_replaced(now).await?;
        is_more |= self.rewrite_some(now).await?;
        is_more |= self.delete_expired(now).await?;
        is_more |= self.remove_replaced(now).await?;
        Ok(is_more || found > 0 || erased > 0)
    }

    /// Erases texts from the ledger for a while, and returns of how many jobs.
    async fn erase_texts(&self, now: Timestamp) -> Result<u64, LedgerError> {
        let (began, mut all) = (Instant::now(), 0);
        loop {
            let erased = u64::from(self.erasing.erase_text(ERASE_LIMIT, now).await?);
            counter!(VERIFIER_ERASED).increment(erased);
            all += erased;
            if erased == 0 || began.elapsed() >= ERASE_FOR {
                return Ok(all);
            }
        }
    }

    /// Removes objects that were replaced, and returns whether there may be more.
    async fn remove_replaced(&mut self, now: Timestamp) -> Result<bool, LedgerError> {
        let mut is_more = false;
        for object in self.segments.replaced(self.look_limit()).await? {
            if self.left.unremovable.contains_key(&object.segment) {
                continue;
            }
            // A segment that the archive had lost is written again under its first key.
            let removed = if object.is_in_use { Ok(()) } else { self.archive.remove(&object.key).await };
            match removed {
                Ok(()) => self.segments.forget_replaced(object.segment, now).await?,
                Err(error) => {
                    if self.leave_objects(object.segment, &error.into(), now) {
                        return Ok(false);
                    }
                }
            }
            is_more = true;
        }
        Ok(is_more)
    }

    /// Rewrites some segments, and returns whether there may be more.
    async fn rewrite_some(&mut self, now: Timestamp) -> Result<bool, LedgerError> {
        let gather_ms = u64::try_from(self.waits.gather.as_millis()).unwrap_or(u64::MAX);
        let erased_by = Timestamp::from_millis(now.as_millis().saturating_sub(gather_ms));
        let rewritable = self.erasing.rewritable(SEGMENT_LIMIT, erased_by, now).await?;
        for segment in &rewritable {
            match self.rewrite(segment, now).await {
                Ok(()) => {
                    self.left.gone.remove(&segment.segment);
                }
                Err(ErasingError::Ledger(error)) => return Err(error),
                Err(error) if error.is_gone() => self.leave_gone(segment, now).await?,
                Err(error) => {
                    let wait = self.log_failure(segment.segment, &error);
                    self.erasing.postpone(segment.segment, now.after(wait)).await?;
                    if error.may_pass() {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(!rewritable.is_empty())
    }

    async fn rewrite(&self, segment: &RewritableSegment, now: Timestamp) -> Result<(), ErasingError> {
        let Rewritten { bytes, erased } = rewriting::rewrite(&*self.archive, segment).await?;
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

    /// Leaves a segment alone whose object doesn't exist, because the store may just lack a folder or a bucket that an operator brings
    /// back. If the object is still gone after that, so is the text in it, and the erasures end.
    async fn leave_gone(&mut self, segment: &RewritableSegment, now: Timestamp) -> Result<(), LedgerError> {
        let RewritableSegment { segment: id, key, erased, .. } = segment;
        forget_if_full(&mut self.left.gone);
        let since = *self.left.gone.entry(*id).or_insert(now);
        if now < since.after(self.waits.mended) {
            counter!(VERIFIER_ERASURES_STUCK).increment(1);
            tracing::error!(
                segment = %id, key, wait = ?self.waits.mended,
                "the object of a segment with text to erase doesn't exist; if it still doesn't after the wait, that text counts as erased"
            );
            return self.erasing.postpone(*id, now.after(self.waits.mended)).await;
        }
        let jobs: Vec<JobId> = erased.iter().map(|erased| erased.job).collect();
        self.erasing.end_erasures(&jobs, now).await?;
        self.left.gone.remove(id);
        tracing::error!(segment = %id, key, jobs = jobs.len(), "the object of a segment is still gone, and with it the text that was to be erased");
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

    /// Deletes some segments whose retention is over, and returns whether there may be more.
    async fn delete_expired(&mut self, now: Timestamp) -> Result<bool, LedgerError> {
        let mut is_more = false;
        for expired in self.segments.expired(self.look_limit(), now).await? {
            if self.left.unremovable.contains_key(&expired.segment) {
                continue;
            }
            match self.delete(&expired, now).await {
                Ok(()) => {}
                Err(ErasingError::Ledger(error)) => return Err(error),
                Err(error) => {
                    if self.leave_objects(expired.segment, &error, now) {
                        return Ok(false);
                    }
                }
            }
            is_more = true;
        }
        Ok(is_more)
    }

    /// Deletes a segment whole. What the ledger still has of its jobs goes first, so that nothing writes the segment again.
    async fn delete(&self, expired: &ExpiredSegment, now: Timestamp) -> Result<(), ErasingError> {
        let ExpiredSegment { segment, key, rewrites, .. } = expired;
        self.pruning.prune(*segment).await?;
        // A rewriting that was cut off may have left its object, and so may one before the segment was written again.
        for key in rewriting::keys(key, *rewrites) {
            self.archive.remove(&key).await?;
        }
        self.segments.segment_removed(*segment, now).await?;
        counter!(VERIFIER_EXPIRED).increment(1);
        Ok(())
    }

    /// Returns how many segments to ask for, so that those that are left alone hide no others.
    fn look_limit(&self) -> u32 {
        SEGMENT_LIMIT.saturating_add(u32::try_from(self.left.unremovable.len()).unwrap_or(u32::MAX))
    }

    /// Leaves a segment alone whose objects can't be removed, and returns whether the archive is away.
    fn leave_objects(&mut self, segment: SegmentId, error: &ErasingError, now: Timestamp) -> bool {
        let wait = self.log_failure(segment, error);
        forget_if_full(&mut self.left.unremovable);
        self.left.unremovable.insert(segment, now.after(wait));
        error.may_pass()
    }

    /// Logs and counts what failed, and returns how long its segment is left alone.
    fn log_failure(&self, segment: SegmentId, error: &ErasingError) -> Duration {
        counter!(VERIFIER_ARCHIVE_FAILURES).increment(1);
        if error.may_pass() {
            let wait = self.waits.away;
            tracing::warn!(%segment, %error, ?wait, "the text of a segment can't be erased now; it is tried again");
            return wait;
        }
        let wait = self.waits.mended;
        counter!(VERIFIER_ERASURES_STUCK).increment(1);
        tracing::error!(%segment, %error, ?wait, "the text of a segment can't be erased; mend or remove its object, it is tried again");
        wait
    }
}

/// Keeps what is remembered of segments bounded.
fn forget_if_full(remembered: &mut HashMap<SegmentId, Timestamp>) {
    if remembered.len() >= REMEMBERED_MAX {
        remembered.clear();
    }
}
