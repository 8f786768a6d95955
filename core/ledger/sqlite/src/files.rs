//! The ledger's file and the files beside it, by their names. No content.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::failure::Failure;
use infera_ledger::LedgerError;

/// Where the log of the ledger at `path` is.
pub(super) fn log_of(path: &Path) -> PathBuf {
    with_suffix(path, "-wal")
}

/// Whether there is a file with something in it.
pub(super) fn has_content(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}

/// A file beside the one at `path`.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What the operating system says of a file.
pub(super) fn unavailable(path: &Path, error: &std::io::Error) -> Failure {
    LedgerError::Unavailable(format!("{}: {error}", path.display())).into()
}

/// Makes what was created or renamed beside `path` durable.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}
