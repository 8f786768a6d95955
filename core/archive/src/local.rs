//! The archive as a directory with one file per object. One process writes to it at a time; the caller sees to that.
//!
//! An object is written under a temporary name beside its place, flushed to disk and renamed to its place. Then the
//! directories above it are flushed, so that what `put` confirmed survives a loss of power. Blocking calls run on
//! tokio's blocking threads.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{Archive, ArchiveError, ArchiveReader, key};
use infera_types::private_files;

/// The prefix of temporary names; no word of a key begins with it.
const TEMPORARY_PREFIX: &str = ".writing-";

/// A folder of objects.
#[derive(Clone, Debug)]
pub struct LocalArchive {
    folder: PathBuf,
}

impl LocalArchive {
    /// Opens the archive in `folder`, which is created if it does not exist. Removes what an interrupted `put` left,
    /// and takes other users' permissions away from everything in it.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`] if the folder cannot be created or read.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Arc<Self>, ArchiveError> {
        let folder = folder.into();
        let opened = private_files::create_folder(&folder).and_then(|()| tidy(&folder));
        let tightened = opened.map_err(|error| unavailable(&folder, &error))?;
        if tightened > 0 {
            tracing::warn!(
                folder = %folder.display(),
                tightened,
                "other users could read the archive; from now on only its owner can"
            );
        }
        Ok(Arc::new(Self { folder }))
    }

    fn path(&self, key: &str) -> Result<PathBuf, ArchiveError> {
        key::check(key).map(|()| self.folder.join(key))
    }
}

fn unavailable(path: &Path, error: &dyn std::fmt::Display) -> ArchiveError {
    ArchiveError::Unavailable(format!("{}: {error}", path.display()))
}

/// Removes temporary files in `folder` and below, takes other users' permissions to the rest away, and returns how
/// many entries had such permissions. Links are not followed.
fn tidy(folder: &Path) -> io::Result<u64> {
    let mut tightened = u64::from(private_files::tighten(folder)?);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            tightened += tidy(&entry.path())?;
        } else if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            fs::remove_file(entry.path())?;
        } else if kind.is_file() {
            tightened += u64::from(private_files::tighten(&entry.path())?);
        }
    }
    Ok(tightened)
}

/// Writes `bytes` so that at every moment `path` is the whole old file, the whole new one, or does not exist.
fn write(root: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(root);
    private_files::create_folder(folder)?;
    let temporary = folder.join(format!("{TEMPORARY_PREFIX}{}", Uuid::new_v4().as_simple()));
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // Best effort: a remaining file is removed at the next start.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // Every directory up to the root, because any of them may be new, created by us or by a concurrent `put`.
    for directory in folder.ancestors().take_while(|directory| directory.starts_with(root)) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Removes a file and flushes its folder. Empty folders stay: a concurrent `put` may be about to use them.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private_files::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Returns the bytes of `range`; none if the file is shorter. The opened file stays the same even if another one
/// takes its name meanwhile.
fn read(path: &Path, range: &Range<u64>) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let length = range
        .end
        .checked_sub(range.start)
        .filter(|_| file.metadata().is_ok_and(|data| range.end <= data.len()));
    let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else { return Ok(None) };
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(range.start))?;
    file.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// Runs file system calls on a thread where they may block.
async fn blocking<T: Send + 'static>(
    path: PathBuf,
    call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<io::Result<T>, ArchiveError> {
    let named = path.clone();
    spawn_blocking(move || call(&path)).await.map_err(|error| unavailable(&named, &error))
}

#[async_trait]
impl ArchiveReader for LocalArchive {
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        let path = self.path(key)?;
        let wanted = range.clone();
        match blocking(path.clone(), move |path| read(path, &wanted)).await? {
            Ok(Some(bytes)) => Ok(Bytes::from(bytes)),
            Ok(None) => Err(ArchiveError::OutOfRange { key: key.to_owned(), range }),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(ArchiveError::NotFound(key.to_owned())),
            Err(error) => Err(unavailable(&path, &error)),
        }
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, ArchiveError> {
        let path = self.path(key)?;
        match blocking(path.clone(), |path| fs::metadata(path)).await? {
            Ok(data) => Ok(data.is_file().then_some(data.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(&path, &error)),
        }
    }
}

#[async_trait]
impl Archive for LocalArchive {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ArchiveError> {
        let path = self.path(key)?;
        let root = self.folder.clone();
        let written = blocking(path.clone(), move |path| write(&root, path, &bytes)).await?;
        written.map_err(|error| unavailable(&path, &error))
    }

    async fn remove(&self, key: &str) -> Result<(), ArchiveError> {
        let path = self.path(key)?;
        let removed = blocking(path.clone(), remove).await?;
        removed.map_err(|error| unavailable(&path, &error))
    }
}
