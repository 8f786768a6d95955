//! Files and folders that only their owner can read. They hold prompts, answers and secrets, so their permissions are
//! set explicitly here and depend neither on the umask nor on the parent folder.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// The permissions of a file: its owner reads and writes it.
const FILE_MODE: u32 = 0o600;

/// The permissions of a folder: its owner lists, enters and changes it.
const FOLDER_MODE: u32 = 0o700;

/// The permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Returns options that create a file with private permissions. An existing file keeps its own: see [`tighten`].
#[must_use]
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE);
    options
}

/// Creates a file that does not exist yet.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`], and any error of the operating system.
pub fn create(path: &Path) -> io::Result<File> {
    options().read(true).write(true).create_new(true).open(path)
}

/// Creates a folder and its missing parents, all private. Existing folders are left as they are.
///
/// # Errors
/// Any error of the operating system.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Removes the permissions of others from the file or folder at `path`, and returns whether there were any. A missing
/// path is not an error.
///
/// # Errors
/// Any error of the operating system: usually that another user owns the file.
pub fn tighten(path: &Path) -> io::Result<bool> {
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if mode & OTHERS == 0 {
        return Ok(false);
    }
    fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_private_and_what_was_open_becomes_so() {
        let root = tempfile::tempdir().expect("a folder");
        let (folder, file) = (root.path().join("a/b"), root.path().join("a/b/file"));
        create_folder(&folder).expect("a folder");
        create(&file).expect("a file");
        assert_eq!((mode(&root.path().join("a")), mode(&folder), mode(&file)), (0o700, 0o700, 0o600));
        assert!(!tighten(&file).expect("ours"));
        for (path, open, tight) in [(&file, 0o644, 0o600), (&file, 0o466, 0o400), (&folder, 0o2755, 0o700)] {
            fs::set_permissions(path, Permissions::from_mode(open)).expect("ours");
            assert!(tighten(path).expect("ours"), "{open:o}");
            assert_eq!(mode(path), tight);
            assert!(!tighten(path).expect("ours"), "said once");
        }
        assert!(!tighten(&root.path().join("nothing")).expect("nothing to do"));
    }
}
