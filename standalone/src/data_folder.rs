//! The folder that everything durable of one `infera up` lies in: its lock, its secret, the ledger, the archive, and
//! the note for local clients. Not what is in the ledger or the archive.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use infera_core::ids::Digest;

/// What is wrong with the folder, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// Two processes on one ledger would both believe that they are alone.
    #[error("{0} is in use by another infera: stop that one, or choose another folder with --data")]
    InUse(PathBuf),
    /// The operating system refuses.
    #[error("{path}: {source}; make sure that this user may write there and that the disk isn't full")]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The secret's file was cut or edited.
    #[error(
        "{0} is damaged: it must hold 64 hexadecimal digits. Put back a copy; a new secret would lock the built-in \
         nodes out of their names"
    )]
    Secret(PathBuf),
}

/// An open data folder. Holds the lock until it is dropped; the operating system takes the lock back when the process
/// ends, however it ends.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    secret: Digest,
    _lock: File,
}

impl DataFolder {
    /// Opens the folder, making what isn't there.
    ///
    /// # Errors
    /// [`DataFolderError`], each with its remedy.
    pub fn open(path: &Path) -> Result<Self, DataFolderError> {
        let io = |source| DataFolderError::Io { path: path.to_owned(), source };
        // Prompts and answers lie here: nobody else on this machine reads them.
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataFolderError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let secret = read_or_make_secret(&path.join("secret"))?;
        Ok(Self { path: path.to_owned(), secret, _lock: lock })
    }

    /// Where the ledger's file is.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.path.join("ledger.sqlite")
    }

    /// Where the archive's objects are.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.path.join("archive")
    }

    /// The address and key that local clients use, as `NAME=value` lines.
    #[must_use]
    pub fn local_env(&self) -> PathBuf {
        self.path.join("local.env")
    }

    /// A secret of its own for each purpose and name, the same at every start.
    #[must_use]
    pub fn secret_for(&self, purpose: &str, name: &str) -> Digest {
        let mut bytes = self.secret.as_bytes().to_vec();
        bytes.extend_from_slice(format!("{purpose}|{name}").as_bytes());
        Digest::of(&bytes)
    }

    /// The key that an earlier start noted for local clients, if the note is there.
    #[must_use]
    pub fn noted_key(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.local_env()).ok()?;
        text.lines().find_map(|line| line.strip_prefix("INFERA_API_KEY=")).map(str::to_owned)
    }

    /// Notes the address and the key for local clients. Only this user can read the file.
    ///
    /// # Errors
    /// [`DataFolderError::Io`].
    pub fn note(&self, url: &str, key: &str) -> Result<(), DataFolderError> {
        write_private(&self.local_env(), &format!("INFERA_URL={url}\nINFERA_API_KEY={key}\n"))
    }
}

fn read_or_make_secret(path: &Path) -> Result<Digest, DataFolderError> {
    let mut text = String::new();
    match File::open(path).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => text.trim().parse().map_err(|_| DataFolderError::Secret(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|error| DataFolderError::Io {
                path: path.to_owned(),
                source: std::io::Error::other(error.to_string()),
            })?;
            let secret = Digest::from_bytes(bytes);
            write_private(path, &format!("{secret}\n"))?;
            Ok(secret)
        }
        Err(source) => Err(DataFolderError::Io { path: path.to_owned(), source }),
    }
}

/// Writes a file whole, durable, and readable by its owner alone: under another name first, so that a crash leaves the
/// old file or the new one.
fn write_private(path: &Path, text: &str) -> Result<(), DataFolderError> {
    let io = |source| DataFolderError::Io { path: path.to_owned(), source };
    let scratch = path.with_extension("new");
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&scratch).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    std::fs::rename(&scratch, path).map_err(io)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_is_refused_until_the_first_goes() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolder::open(folder.path()).unwrap();
        assert!(matches!(DataFolder::open(folder.path()), Err(DataFolderError::InUse(_))));
        drop(first);
        assert!(DataFolder::open(folder.path()).is_ok());
    }

    #[test]
    fn secrets_are_kept_and_differ_by_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let secret = DataFolder::open(folder.path()).unwrap().secret_for("node", "a");
        let again = DataFolder::open(folder.path()).unwrap();
        assert_eq!(again.secret_for("node", "a"), secret);
        assert_ne!(again.secret_for("node", "b"), secret);
        assert_ne!(again.secret_for("other", "a"), secret);
    }

    #[test]
    fn a_damaged_secret_is_named_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "12").unwrap();
        assert!(matches!(DataFolder::open(folder.path()), Err(DataFolderError::Secret(_))));
        assert_eq!(std::fs::read_to_string(folder.path().join("secret")).unwrap(), "12");
    }

    #[test]
    fn the_note_is_read_back_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        assert_eq!(data.noted_key(), None);
        data.note("http://127.0.0.1:1", "inf_x").unwrap();
        assert_eq!(data.noted_key().as_deref(), Some("inf_x"));
        assert_eq!(std::fs::metadata(data.local_env()).unwrap().permissions().mode() & 0o777, 0o600);
        let fresh = DataFolder::open(&folder.path().join("deeper/data")).unwrap();
        assert_eq!(std::fs::metadata(&fresh.path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
