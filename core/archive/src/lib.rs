//! The seam to the archive: named objects, written whole, read in ranges. What is in them is `segment`'s business;
//! which of them matter is the ledger's.

pub mod segment;

pub mod key;
pub mod local;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

/// What went wrong with the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// There is no such object; retrying won't help.
    #[error("archive has no object {0}")]
    NotFound(String),
    /// The range reaches beyond the object: the ledger and the archive disagree.
    #[error("range {range:?} is outside object {key}")]
    OutOfRange {
        /// The object.
        key: String,
        /// What was asked for.
        range: Range<u64>,
    },
    /// The key isn't one that we make; our fault.
    #[error("archive key {0:?} is not a relative path of plain words")]
    InvalidKey(String),
    /// The store won't have it from us, and trying again won't help until an operator changes what it says.
    #[error("archive refused: {0}")]
    Refused(String),
    /// The store is away or full; retry.
    #[error("archive unavailable: {0}")]
    Unavailable(String),
}

/// The reading half; what a gateway may hold.
#[async_trait]
pub trait ArchiveReader: Send + Sync + fmt::Debug {
    /// The bytes of `range` of the object `key`.
    ///
    /// # Errors
    /// [`ArchiveError`]; never bytes of another object or a short read.
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ArchiveError>;

    /// How long the object is; none if there is none.
    ///
    /// # Errors
    /// The store being away.
    async fn size(&self, key: &str) -> Result<Option<u64>, ArchiveError>;
}

/// The writing half; only verifiers hold it. The promises that the conformance suite tries:
///
/// * When `put` returns, the whole object survives the end of this process and of the machine.
/// * A reader sees the whole old object, the whole new object, or none; never a part.
/// * Putting the same key again replaces it; nothing depends on conditional writes.
#[async_trait]
pub trait Archive: ArchiveReader {
    /// Writes the object `key` (words of `[a-z0-9_.-]` between slashes).
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`] is safe to retry: the same key is overwritten.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ArchiveError>;
}
