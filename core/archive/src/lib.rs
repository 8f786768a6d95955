//! The seam to the archive: named objects, written whole and read in ranges. `segment` defines their content; the
//! ledger knows which of them matter.

pub mod record;
pub mod rewriting;
pub mod segment;

pub mod key;
pub mod local;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

/// An archive's failure.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The object does not exist; a retry won't help.
    #[error("archive has no object {0}")]
    NotFound(String),
    /// The range reaches beyond the object: the ledger and the archive disagree.
    #[error("range {range:?} is outside object {key}")]
    OutOfRange {
        /// The object.
        key: String,
        /// The range that was asked for.
        range: Range<u64>,
    },
    /// The key has a form that we never make; our fault.
    #[error("archive key {0:?} is not a relative path of plain words")]
    InvalidKey(String),
    /// The store refuses; a retry won't help until an operator changes the settings or the store's permissions.
    #[error("archive refused: {0}")]
    Refused(String),
    /// The store is away or full; a retry is safe.
    #[error("archive unavailable: {0}")]
    Unavailable(String),
}

/// The reading half, which gateways may hold.
#[async_trait]
pub trait ArchiveReader: Send + Sync + fmt::Debug {
    /// Returns the bytes of `range` of the object `key`.
    ///
    /// # Errors
    /// [`ArchiveError`]. It never returns bytes of another object or fewer bytes than asked for.
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ArchiveError>;

    /// Returns the object's length; none if the object does not exist.
    ///
    /// # Errors
    /// The store is away.
    async fn size(&self, key: &str) -> Result<Option<u64>, ArchiveError>;
}

/// The writing half, which only verifiers hold. The promises, which the conformance suite checks:
///
/// * When `put` returns, the whole object survives the end of this process and of the machine.
/// * A reader sees the whole old object, the whole new object, or none; never a part.
/// * Putting the same key again replaces it; nothing depends on conditional writes.
/// * When `remove` returns, no reader finds the object, also after the end of the machine.
#[async_trait]
pub trait Archive: ArchiveReader {
    /// Writes the object `key` (words of `[a-z0-9_.-]` between slashes).
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`] is safe to retry: the same key is overwritten.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ArchiveError>;

    /// Removes the object `key`. An object that does not exist is removed already.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`] is safe to retry.
    async fn remove(&self, key: &str) -> Result<(), ArchiveError>;
}
