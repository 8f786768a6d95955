//! A model in the archive: its pins under its name, and each file's content in pieces under its SHA-256.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use infera_archive::{Archive, ArchiveError, ArchiveReader};
use infera_types::ids::Digest;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::names::{NameError, check_model};
use crate::pins::{Pins, Published};
use crate::source::{Content, Listing, Source, SourceError, Waits, Wanted};

/// The length of a piece. Archives take and give objects whole; this much is held in memory, twice.
const PIECE_BYTES: u64 = 16 << 20;

/// The most bytes of a model's pins: 10,000 files.
const PINS_MAX_BYTES: u64 = 4 << 20;

fn pins_key(name: &str) -> String {
    format!("models/{name}/pins.json")
}

fn piece_key(digest: &Digest, index: u64) -> String {
    format!("models/contents/{digest}/{index:06}")
}

/// A model in an archive.
#[derive(Debug)]
pub struct ArchivedSource {
    archive: Arc<dyn ArchiveReader>,
    name: String,
    place: String,
    waits: Waits,
}

impl ArchivedSource {
    /// Makes the source of the model called `name`.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn new(archive: Arc<dyn ArchiveReader>, name: &str, waits: Waits) -> Result<Self, NameError> {
        check_model(name)?;
        Ok(Self { archive, name: name.to_owned(), place: format!("the archive's model {name}"), waits })
    }

    /// Reads the model's pins.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn pins(&self) -> Result<Pins, SourceError> {
        let key = pins_key(&self.name);
        let refused = |said: String| SourceError::Refused { place: self.place.clone(), said };
        let missing = || SourceError::NoRepository {
            place: self.place.clone(),
            said: "`infera model publish` puts one there".to_owned(),
        };
        let read = async {
            match self.archive.size(&key).await? {
                None => Ok(None),
                Some(bytes) if bytes > PINS_MAX_BYTES => {
                    Err(ArchiveError::Refused("its pins are too large".to_owned()))
                }
                Some(bytes) => self.archive.get(&key, 0..bytes).await.map(Some),
            }
        };
        let text = timeout(self.waits.answer, read).await;
        let text = text.map_err(|_| SourceError::away(format!("{} gives no answer", self.place)))?;
        let text = text.map_err(|error| self.of(error))?.ok_or_else(missing)?;
        let pins = Pins::parse(&text).map_err(|error| refused(error.to_string()))?;
        if pins.name != self.name {
            return Err(refused(format!("its pins are of another model, {}", pins.name)));
        }
        Ok(pins)
    }

    fn of(&self, error: ArchiveError) -> SourceError {
        match error {
            ArchiveError::Unavailable(_) => SourceError::away(error),
            _ => SourceError::Refused { place: self.place.clone(), said: error.to_string() },
        }
    }
}

#[async_trait]
impl Source for ArchivedSource {
    fn place(&self) -> &str {
        &self.place
    }

    async fn list(&self, revision: Option<&str>) -> Result<Listing, SourceError> {
        let Pins { revision: archived, files, .. } = self.pins().await?;
        match revision {
            Some(wanted) if wanted != archived => Err(SourceError::NoRevision {
                place: self.place.clone(),
                revision: wanted.to_owned(),
                said: format!("it is there at {archived}"),
            }),
            _ => Ok(Listing { revision: archived, files }),
        }
    }

    async fn open(&self, wanted: &Wanted<'_>) -> Result<Content, SourceError> {
        let no_file = |said: &str| SourceError::NoFile {
            place: self.place.clone(),
            revision: wanted.revision.to_owned(),
            path: wanted.path.to_owned(),
            said: said.to_owned(),
        };
        let Published::Sha256(digest) = wanted.pin.digest else {
            return Err(no_file("contents are known by their SHA-256 there, and none is pinned"));
        };
        // The first piece is looked for now, so that a missing content is named.
        let first = piece_key(&digest, 0);
        let there = timeout(self.waits.answer, self.archive.size(&first)).await;
        let there = there.map_err(|_| SourceError::away(format!("{} gives no answer", self.place)))?;
        if wanted.pin.bytes > 0 && there.map_err(|error| self.of(error))?.is_none() {
            return Err(no_file("its content isn't in the archive"));
        }
        let pieces = pieces(wanted.from, wanted.pin.bytes);
        let (archive, waits, place) = (Arc::clone(&self.archive), self.waits, self.place.clone());
        let chunks = stream::iter(pieces).then(move |(index, range)| {
            let (archive, key, place) = (Arc::clone(&archive), piece_key(&digest, index), place.clone());
            async move {
                match timeout(waits.stall, archive.get(&key, range)).await {
                    Ok(Ok(bytes)) => Ok(bytes),
                    Ok(Err(error @ ArchiveError::Unavailable(_))) => Err(SourceError::away(error)),
                    Ok(Err(error)) => Err(SourceError::Refused { place, said: error.to_string() }),
                    Err(_) => Err(SourceError::away(format!("{place} stalls"))),
                }
            }
        });
        Ok(Content { from: wanted.from, tag: None, chunks: chunks.boxed() })
    }
}

/// Returns the pieces, and the range in each, of the bytes from `from` to the end.
fn pieces(from: u64, bytes: u64) -> impl Iterator<Item = (u64, Range<u64>)> {
    let first = from / PIECE_BYTES;
    (first..bytes.div_ceil(PIECE_BYTES)).map(move |index| {
        let start = index * PIECE_BYTES;
        let end = (start + PIECE_BYTES).min(bytes);
        (index, from.max(start) - start..end - start)
    })
}

/// Why a model isn't put into the archive.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The folder's files aren't all there as pinned.
    #[error("{path} isn't as it was pinned: `infera model verify` says more")]
    Changed {
        /// The file.
        path: String,
    },
    /// The archive refuses or is away.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file can't be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// How long one piece may take to be put.
const PUT_WITHIN: Duration = Duration::from_secs(300);

/// Puts a model's files into the archive, the pins last, so that a reader finds all or nothing. Pieces that are there are not
/// put again.
///
/// # Errors
/// [`PublishError`]; a retry goes on where it was.
pub async fn publish(archive: &dyn Archive, folder: &Path, pins: &Pins) -> Result<(), PublishError> {
    for (path, pin) in &pins.files {
        let changed = || PublishError::Changed { path: path.clone() };
        let io = |source| PublishError::Io { path: path.clone(), source };
        let Published::Sha256(digest) = pin.digest else { return Err(changed()) };
        let (file, whole) = (folder.join(path), *pin);
        let hashed = spawn_blocking(move || crate::part::hash_file(&file, &whole, |_| {})).await;
        let (bytes, hashes) = hashed.map_err(std::io::Error::other).and_then(|hashed| hashed).map_err(io)?;
        if bytes != pin.bytes || !hashes.are(&pin.digest) {
            return Err(changed());
        }
        for (index, range) in pieces(0, pin.bytes) {
            let key = piece_key(&digest, index);
            if archive.size(&key).await? == Some(range.end) {
                continue;
            }
            let file = folder.join(path);
            let piece = spawn_blocking(move || read_piece(&file, index * PIECE_BYTES, range.end)).await;
            let piece = piece.map_err(std::io::Error::other).and_then(|piece| piece).map_err(io)?;
            let put = timeout(PUT_WITHIN, archive.put(&key, piece)).await;
            put.map_err(|_| {
                ArchiveError::Unavailable(format!("{key} isn't put in {} s", PUT_WITHIN.as_secs()))
            })??;
        }
    }
    Ok(archive.put(&pins_key(&pins.name), Bytes::from(pins.document())).await?)
}

fn read_piece(path: &Path, from: u64, bytes: u64) -> std::io::Result<Bytes> {
    use std::os::unix::fs::FileExt as _;
    let mut piece = vec![0; usize::try_from(bytes).unwrap_or_default()];
    std::fs::File::open(path)?.read_exact_at(&mut piece, from)?;
    Ok(Bytes::from(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_every_byte_once() {
        for (from, bytes) in [
            (0, 0),
            (0, 1),
            (5, 10),
            (0, PIECE_BYTES),
            (PIECE_BYTES, PIECE_BYTES + 1),
            (7, 3 * PIECE_BYTES + 9),
        ] {
            let mut at = from;
            for (index, range) in pieces(from, bytes) {
                assert_eq!(index * PIECE_BYTES + range.start, at);
                assert!(range.end <= PIECE_BYTES && range.end > range.start);
                at = index * PIECE_BYTES + range.end;
            }
            assert_eq!(at, bytes.max(from));
        }
    }
}
