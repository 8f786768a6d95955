//! Moves settled, closed jobs into the archive: the batch is claimed in the ledger under a segment's id, written as
//! one object, then recorded. Whatever stops in between is done again under the same key. One verifier at a time does
//! it, under a shared lease: two that wrote the same object might not agree on its bytes. It never deletes from the ledger
//! but the bodies of jobs that are archived and past retention, and reads their segment's object before: a store may lose
//! what it took.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use infera_archive::ArchiveError;
use infera_archive::segment::{self, SegmentError};
use infera_ledger::LedgerError;
use infera_telemetry::metrics::{
    VERIFIER_ARCHIVE_FAILURES, VERIFIER_ARCHIVE_LAG, VERIFIER_ARCHIVE_LOST, VERIFIER_ARCHIVED,
    VERIFIER_PRUNED,
};
use infera_types::ids::SegmentId;
use infera_types::time::Timestamp;
use metrics::{counter, histogram};

use crate::tenure::Tenure;

/// The shared lease's name.
pub(crate) const LEASE: &str = "archiver";

/// Segments looked at and pruned before the lease is renewed. Reading one from its store takes a second at most.
const PRUNE_LIMIT: u32 = 16;

/// What kept a batch from being archived. All but an unwritable record mend themselves by trying again.
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

/// Archives until the tenure ends.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let mut ticks = tokio::time::interval(Duration::from_millis(tenure.config.archive_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = archive(tenure).await {
            counter!(VERIFIER_ARCHIVE_FAILURES).increment(1);
            tracing::warn!(%error, "settled jobs can't be archived now");
        }
    }
}

/// Segments that were left unfinished, then new ones while there are whole or old batches, then pruning; all of it only
/// while the lease is ours. One segment that can't be written keeps no other from it.
async fn archive(tenure: &Tenure) -> Result<(), ArchivingError> {
    let index = &tenure.seams.index;
    let now = Timestamp::now();
    for segment in index.unfinished(before(now, tenure.config.archive_retry_ms), now).await? {
        if !is_ours(tenure).await? {
            return Ok(());
        }
        tracing::info!(%segment, "a segment is written again");
        if let Err(error) = write(tenure, segment).await {
            counter!(VERIFIER_ARCHIVE_FAILURES).increment(1);
            tracing::warn!(%segment, %error, "a segment can't be written now");
        }
    }
    let whole = usize::try_from(tenure.config.archive_limit).unwrap_or(usize::MAX);
    while is_ours(tenure).await? && write(tenure, SegmentId::new()).await? >= whole {}
    while is_ours(tenure).await? && prune(tenure, before(now, tenure.config.retention_ms)).await? {}
    Ok(())
}

/// Lets go of the bodies of some segments that are past retention and whole in the archive; false if there are none. One that
/// isn't whole keeps its bodies, and is written again if all of them are there.
async fn prune(tenure: &Tenure, expired: Timestamp) -> Result<bool, ArchivingError> {
    let pruning = &tenure.seams.pruning;
    let segments = pruning.prunable(expired, Timestamp::now(), PRUNE_LIMIT).await?;
    for archived in &segments {
        match segment::verify(&*tenure.seams.archive, archived).await {
            Ok(()) => counter!(VERIFIER_PRUNED).increment(pruning.prune(archived.segment).await?),
            Err(error) if error.is_loss() => {
                let is_written_again = pruning.keep(archived.segment).await?;
                counter!(VERIFIER_ARCHIVE_LOST).increment(1);
                tracing::error!(
                    segment = %archived.segment, key = archived.key, records = archived.places.len(), is_written_again, %error,
                    "the archive lost a segment; what the ledger has of it stays"
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(!segments.is_empty())
}

/// Whether this verifier may write, for as long as the longest put takes.
async fn is_ours(tenure: &Tenure) -> Result<bool, LedgerError> {
    let ttl = Duration::from_millis(tenure.config.archive_retry_ms);
    tenure.seams.sweeping.lease(LEASE, &tenure.id, Timestamp::now(), ttl).await
}

fn before(now: Timestamp, milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_sub(milliseconds))
}

/// Claims, writes and records one segment; returns how many records are in it.
async fn write(tenure: &Tenure, segment: SegmentId) -> Result<usize, ArchivingError> {
    let limit = tenure.config.archive_limit;
    let now = Timestamp::now();
    let ripe = before(now, tenure.config.archive_wait_ms);
    let records = tenure.seams.index.claim(segment, limit, ripe, now).await?;
    if records.is_empty() {
        return Ok(0);
    }
    let settled: Vec<Timestamp> = records.iter().map(|record| record.settlement.settled_ms).collect();
    // Compressing a thousand records takes tens of milliseconds: not on a thread that jobs run on.
    let built = tokio::task::spawn_blocking(move || segment::build(segment, &records));
    let built = built.await.map_err(|_| ArchivingError::CutOff)??;
    // A put that failed may still arrive, and so may one that is cut off: until a put has ended well, no other verifier
    // writes before the lease has run out.
    tenure.writing.store(true, Ordering::Relaxed);
    tenure.seams.archive.put(&built.key, built.bytes.into()).await?;
    tenure.writing.store(false, Ordering::Relaxed);
    tenure.seams.index.record(segment, &built.key, &built.places).await?;
    let now = Timestamp::now();
    settled.iter().for_each(|settled| histogram!(VERIFIER_ARCHIVE_LAG).record(now.since(*settled)));
    counter!(VERIFIER_ARCHIVED).increment(settled.len() as u64);
    Ok(built.places.len())
}
