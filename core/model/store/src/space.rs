//! How much a file system has free.

use std::io;
use std::path::Path;

/// Returns the bytes that this user may still write where `path` lies. The path or one of its parents has to exist.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let present = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    // A relative path's last parent is empty, and stands for this folder.
    let present = if present.as_os_str().is_empty() { Path::new(".") } else { present };
    let space = rustix::fs::statvfs(present)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Returns whether an error says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_full_disk_is_seen_before_and_while_writing() {
        let folder = tempfile::tempdir().expect("a folder");
        let free = free_bytes(&folder.path().join("not/there/yet")).expect("a file system");
        assert!(free > 0 && free < 1 << 60, "{free}");
        assert!(free_bytes(Path::new("nor/this")).is_ok());
        if let Ok(mut full) = std::fs::OpenOptions::new().write(true).open("/dev/full") {
            assert!(is_full(&full.write_all(b"x").expect_err("it is full")));
        }
        assert!(!is_full(&io::Error::other("x")));
    }
}
