//! Names the ledger's file and the files beside it. It knows nothing of their content.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::failure::Failure;
use infera_ledger::LedgerError;

/// Returns the path of the log of the ledger at `path`.
pub(super) fn log_of(path: &Path) -> PathBuf {
    with_suffix(path, "-wal")
}

/// Returns whether a file exists and is not empty.
pub(super) fn has_content(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}

/// Returns the path of a file beside the one at `path`.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Converts the operating system's error about a file.
pub(super) fn unavailable(path: &Path, error: &std::io::Error) -> Failure {
    LedgerError::Unavailable(format!("{}: {error}", path.display())).into()
}

/// Makes files durable that were created or renamed beside `path`.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}
