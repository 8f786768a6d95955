//! Moves settled, closed jobs into the archive: the batch is claimed in the ledger under a segment's id, written as
//! one object, then recorded. Whatever stops in between is done again under the same key. It never deletes from the
//! ledger but the bodies of jobs that are archived and past retention.

use std::sync::Arc;
use std::time::Duration;

use infera_core::archive::ArchiveError;
use infera_core::archive::segment::{self, SegmentError};
use infera_core::ids::SegmentId;
use infera_core::ledger::LedgerError;
use infera_core::telemetry::metrics::{VERIFIER_ARCHIVE_FAILURES, VERIFIER_ARCHIVE_LAG, VERIFIER_ARCHIVED};
use infera_core::time::Timestamp;
use metrics::{counter, histogram};

use crate::tenure::Tenure;

/// Bodies nulled in one statement, so that settlements never wait long behind it.
const PRUNE_LIMIT: u32 = 1_000;

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

/// Segments that were left unfinished, then new ones while there are whole batches, then pruning.
async fn archive(tenure: &Tenure) -> Result<(), ArchivingError> {
    let index = &tenure.seams.index;
    let now = Timestamp::now();
    for segment in index.unfinished(before(now, tenure.config.archive_retry_ms)).await? {
        tracing::info!(%segment, "a segment is written again");
        write(tenure, segment).await?;
    }
    let whole = usize::try_from(tenure.config.archive_limit).unwrap_or(usize::MAX);
    while write(tenure, SegmentId::new()).await? >= whole {}
    let expired = before(now, tenure.config.retention_ms);
    while index.prune(expired, PRUNE_LIMIT).await? >= u64::from(PRUNE_LIMIT) {}
    Ok(())
}

fn before(now: Timestamp, milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_sub(milliseconds))
}

/// Claims, writes and records one segment; returns how many records are in it.
async fn write(tenure: &Tenure, segment: SegmentId) -> Result<usize, ArchivingError> {
    let limit = tenure.config.archive_limit;
    let records = tenure.seams.index.claim(segment, limit, Timestamp::now()).await?;
    if records.is_empty() {
        return Ok(0);
    }
    let settled: Vec<Timestamp> = records.iter().map(|record| record.settlement.settled_ms).collect();
    // Compressing a thousand records takes tens of milliseconds: not on a thread that jobs run on.
    let built = tokio::task::spawn_blocking(move || segment::build(segment, &records));
    let built = built.await.map_err(|_| ArchivingError::CutOff)??;
    tenure.seams.archive.put(&built.key, built.bytes.into()).await?;
    tenure.seams.index.record(segment, &built.key, &built.places).await?;
    let now = Timestamp::now();
    settled.iter().for_each(|settled| histogram!(VERIFIER_ARCHIVE_LAG).record(now.since(*settled)));
    counter!(VERIFIER_ARCHIVED).increment(settled.len() as u64);
    Ok(built.places.len())
}
