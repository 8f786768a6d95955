//! Moves settled, closed jobs into the archive: the batch is claimed in the ledger under a segment's id, written as
//! one object, then recorded. A batch that stops in between is written again under the same key. One verifier at a time
//! does it, under a shared lease: two that wrote the same object might not agree on its bytes. `pruner` deletes the groups
//! and bodies of jobs that are archived and past retention.

use std::sync::Arc;
use std::time::Duration;

use infera_archive::segment::{self, SegmentError};
use infera_archive::{Archive, ArchiveError};
use infera_ledger::{ArchiveIndex, Erasing, LedgerError, Pruning, SegmentChanges};
use infera_telemetry::metrics::{VERIFIER_ARCHIVE_FAILURES, VERIFIER_ARCHIVE_LAG, VERIFIER_ARCHIVED};
use infera_types::ids::SegmentId;
use infera_types::time::Timestamp;
use metrics::{counter, histogram};
use tokio::time::Instant;

use super::eraser::{Eraser, Left, Waits};
use super::pruner::{Part, Pruner};
use crate::config::Config;
use crate::tenure::{LeaseName, Leases};

/// How long segments are pruned before text is erased: a backlog of either keeps the other waiting for no more than that.
const PRUNE_FOR: Duration = Duration::from_secs(20);

/// What kept a batch from being archived. A retry mends all but an unwritable record.
#[derive(Debug, thiserror::Error)]
enum ArchivingError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("building a segment was cut off")]
    CutOff,
}

/// What the task needs.
pub(crate) struct Archiver {
    /// The operator's settings.
    pub(crate) config: Arc<Config>,
    /// Records which settled job lies in which segment.
    pub(crate) index: Arc<dyn ArchiveIndex>,
    /// Removes the bodies of archived jobs.
    pub(crate) pruning: Arc<dyn Pruning>,
    /// Erases the text of jobs.
    pub(crate) erasing: Arc<dyn Erasing>,
    /// Records what erasing changes in the archive.
    pub(crate) segments: Arc<dyn SegmentChanges>,
    /// Stores segments.
    pub(crate) archive: Arc<dyn Archive>,
    /// Keeps the shared lease.
    pub(crate) leases: Arc<Leases>,
}

impl Archiver {
    /// Archives and erases in turns until the tenure ends, a bounded part of what there is to be pruned or erased each time. A failure
    /// of one keeps the other from nothing.
    pub(crate) async fn run(self) {
        let millis = Duration::from_millis;
        let mut eraser = Eraser {
            erasing: Arc::clone(&self.erasing),
            segments: Arc::clone(&self.segments),
            pruning: Arc::clone(&self.pruning),
            archive: Arc::clone(&self.archive),
            leases: Arc::clone(&self.leases),
            waits: Waits {
                gather: millis(self.config.rewrite_wait_ms),
                mended: millis(self.config.rewrite_retry_ms),
                away: millis(self.config.archive_retry_ms),
            },
            left: Left::default(),
        };
        let (pruning, archive) = (Arc::clone(&self.pruning), Arc::clone(&self.archive));
        let (mended, away) = (millis(self.config.rewrite_retry_ms), millis(self.config.archive_retry_ms));
        let mut pruner = Pruner::new(pruning, archive, mended, away);
        let mut ticks = tokio::time::interval(Duration::from_millis(self.config.archive_ms));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_more = false;
        loop {
            if !is_more {
                ticks.tick().await;
            }
            is_more = self.archive(&mut pruner).await.unwrap_or_else(|error| {
                counter!(VERIFIER_ARCHIVE_FAILURES).increment(1);
                tracing::warn!(%error, "settled jobs can't be archived now");
                false
            });
            is_more |= self.erase(&mut eraser).await.unwrap_or_else(|error| {
                counter!(VERIFIER_ARCHIVE_FAILURES).increment(1);
                tracing::warn!(%error, "the text of jobs can't be erased now; it is tried again");
                false
            });
        }
    }

    /// Writes segments that were left unfinished, then new ones while there are whole or old batches, then prunes; all of it
    /// only while the lease is this verifier's. One segment that can't be written keeps no other from it. Returns whether there may be
    /// more to prune.
    async fn archive(&self, pruner: &mut Pruner) -> Result<bool, ArchivingError> {
        let now = Timestamp::now();
        for segment in self.index.unfinished(before(now, self.config.archive_retry_ms), now).await? {
            if !self.has_lease().await? {
                return Ok(false);
            }
            tracing::info!(%segment, "a segment is written again");
            if let Err(error) = self.write(segment).await {
                counter!(VERIFIER_ARCHIVE_FAILURES).increment(1);
                tracing::warn!(%segment, %error, "a segment can't be written now");
            }
        }
        // Each segment is of one retention, so that one that isn't full may be followed by another.
        while self.has_lease().await? && self.write(SegmentId::new()).await? > 0 {}
        let began = Instant::now();
        let bodies_ms = self.config.retention_ms;
        let groups_ms = self.config.group_retention_ms.min(bodies_ms);
        // What is old enough to lose its body loses its group with it, and is read only once.
        for (part, age_ms) in [(Part::Bodies, bodies_ms), (Part::Groups, groups_ms)] {
            while self.has_lease().await? && pruner.prune(part, before(now, age_ms)).await? {
                if began.elapsed() >= PRUNE_FOR {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Erases a part of what is due, if the lease is this verifier's, and returns whether there may be more.
    async fn erase(&self, eraser: &mut Eraser) -> Result<bool, LedgerError> {
        Ok(self.has_lease().await? && eraser.pass().await?)
    }

    /// Returns whether this verifier may write, for as long as the longest put takes.
    async fn has_lease(&self) -> Result<bool, LedgerError> {
        self.leases.hold(LeaseName::Archiver, Duration::from_millis(self.config.archive_retry_ms)).await
    }

    /// Claims, writes and records one segment; returns how many records are in it.
    async fn write(&self, segment: SegmentId) -> Result<usize, ArchivingError> {
        let limit = self.config.archive_limit;
        let now = Timestamp::now();
        let ripe = before(now, self.config.archive_wait_ms);
        let records = self.index.claim(segment, limit, ripe, now).await?;
        if records.is_empty() {
            return Ok(0);
        }
        let settled: Vec<Timestamp> = records.iter().map(|record| record.settlement.settled_ms).collect();
        // Compressing a thousand records takes tens of milliseconds: not on a thread that jobs run on.
        let built = tokio::task::spawn_blocking(move || segment::build(segment, &records));
        let built = built.await.map_err(|_| ArchivingError::CutOff)??;
        // A put that failed may still arrive, and so may one that is cut off: until a put has ended well, no other verifier
        // writes before the lease has run out.
        self.leases.run_out_at_end(LeaseName::Archiver);
        self.archive.put(&built.key, built.bytes.into()).await?;
        self.leases.give_back_at_end(LeaseName::Archiver);
        self.index.record(segment, &built.key, &built.places).await?;
        let now = Timestamp::now();
        settled.iter().for_each(|settled| histogram!(VERIFIER_ARCHIVE_LAG).record(now.since(*settled)));
        counter!(VERIFIER_ARCHIVED).increment(settled.len() as u64);
        Ok(built.places.len())
    }
}

fn before(now: Timestamp, milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_sub(milliseconds))
}
