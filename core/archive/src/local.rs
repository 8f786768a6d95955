//! The archive as a directory: one file per object. One process writes to it at a time; who may is not its business.
//!
//! An object is written under a temporary name beside its place, flushed to disk, renamed over its place, and then
//! the directories above it are flushed, so that what `put` confirmed survives a loss of power. Blocking calls run
//! on tokio's blocking threads.

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

/// Temporary names begin so, and no word of a key does.
const TEMPORARY_PREFIX: &str = ".writing-";

/// A folder of objects.
#[derive(Clone, Debug)]
pub struct LocalArchive {
    folder: PathBuf,
}

impl LocalArchive {
    /// Opens the archive in `folder`, which is made if it isn't there, and removes what an interrupted `put` left. Others
    /// lose their rights to what is in it.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`] if the folder can't be made or read.
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

/// Removes temporary files in `folder` and below, and takes others' rights to the rest away; says of how many. Links are
/// not followed.
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

/// Writes `bytes` so that `path` is, at every moment, the whole old file, the whole new one, or none.
fn write(root: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(root);
    private_files::create_folder(folder)?;
    let temporary = folder.join(format!("{TEMPORARY_PREFIX}{}", Uuid::new_v4().as_simple()));
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // Best effort: what stays is removed at the next start.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // Every directory on the way, because any of them may be new, made by us or by a neighbour that isn't done.
    for directory in folder.ancestors().take_while(|directory| directory.starts_with(root)) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private_files::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The bytes of `range`; none if the file is shorter. The file that was opened stays the same one even if another
/// takes its name.
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

/// Runs file system calls where they may block.
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
}
