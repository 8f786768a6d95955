//! Finds the archived record of one job, for an operator who wants to see it: the ledger says where it lies, the archive
//! gives its frame, and the ledger's hash decides whether the line in it is the record.

use infera_ledger::{ArchiveIndex, JobReader, LedgerError, RemovedRecord};
use infera_types::ids::{Digest, JobId};

use crate::segment::{self, SegmentError};
use crate::{ArchiveError, ArchiveReader};

/// Why a job's record can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The ledger holds no end of this job. Only ended jobs are recorded.
    #[error("job {0} has no record: it has not ended, or this ledger does not know it")]
    NotEnded(JobId),
    /// The job ended, and the archiver has not written its record yet. It may not be able to; its log says so.
    #[error(
        "job {0} has ended and its record is not in the archive yet: ask again later; if it stays so, the verifier's \
         log says what keeps records from being archived"
    )]
    NotArchived(JobId),
    /// The record was deleted with its whole segment, because its retention was over. Its hash is all that is left of it.
    #[error(
        "the record of job {job} was deleted from the archive at {removed_s} s since 1970, when its retention was over; its \
         SHA-256 was {hash}"
    )]
    Removed {
        /// The job.
        job: JobId,
        /// When the segment was deleted, in seconds since 1970.
        removed_s: u64,
        /// SHA-256 of the record's line.
        hash: Digest,
    },
    /// The ledger can't say where the record lies.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The archive doesn't give the record that the ledger has the hash of.
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

impl RecordError {
    /// Returns whether the same question may be answered later without an operator's doing.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::NotEnded(_) | Self::NotArchived(_) => true,
            Self::Removed { .. } => false,
            Self::Ledger(error) => matches!(error, LedgerError::Unavailable(_) | LedgerError::Unknown(_)),
            Self::Segment(error) => {
                matches!(error, SegmentError::Archive(ArchiveError::Unavailable(_)) | SegmentError::CutOff)
            }
        }
    }
}

/// Returns the record of `job` as it lies in the archive: one line of JSON, without its newline, whose SHA-256 is the one
/// that the ledger has. It takes one ranged read.
///
/// # Errors
/// [`RecordError`] says whether there is no record, or not yet, or whether it is damaged.
pub async fn find(
    index: &dyn ArchiveIndex,
    reader: &dyn JobReader,
    archive: &dyn ArchiveReader,
    job: JobId,
) -> Result<String, RecordError> {
    if let Some(archived) = index.locate(job).await? {
        return Ok(segment::read_line(archive, &archived).await?);
    }
    if let Some(RemovedRecord { hash, removed_ms }) = index.removed(job).await? {
        return Err(RecordError::Removed { job, removed_s: removed_ms.as_secs(), hash });
    }
    let has_ended = !reader.settlements(&[job]).await?.is_empty();
    Err(if has_ended { RecordError::NotArchived(job) } else { RecordError::NotEnded(job) })
}
