//! The folder with everything durable of one `infera up`: its lock, its secret, the ledger, the archive, and the notes
//! for local clients and for commands beside it. It does not know the content of the ledger and the archive.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use infera_types::ids::Digest;
use infera_types::private_files;

/// The names in the folder.
const LOCK: &str = "lock";
const SECRET: &str = "secret";
const LEDGER: &str = "ledger.sqlite";
const ARCHIVE: &str = "archive";
const NOTE: &str = "local.env";
const OPERATORS: &str = "operators.sock";
const MODELS: &str = "models.json";

/// The extension of a file that is being written.
const SCRATCH: &str = "new";

/// What is wrong with the folder, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// Another process uses the folder: two processes on one ledger would each believe that they are alone.
    #[error("{0} is in use by another infera: stop that one, or choose another folder with --data")]
    InUse(PathBuf),
    /// The operating system refused access.
    #[error("{path}: {source}; make sure that this user may write there and that the disk is not full")]
    Io {
        /// The path.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The secret's file was cut short or edited.
    #[error(
        "{0} is damaged: it must hold 64 hexadecimal digits. Put back a copy; a new secret would lock the built-in \
         nodes out of their names"
    )]
    Secret(PathBuf),
    /// Other users can read a file or folder, and this user cannot change that.
    #[error(
        "other users can read {path}, and this user cannot change that: {source}; make this user its owner, or choose \
             another folder with --data"
    )]
    Exposed {
        /// The path.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A command that needs a filled folder finds an empty one.
    #[error("{0} holds no ledger: name the folder of an `infera up` with --data")]
    Empty(PathBuf),
    /// The ledger is missing. An empty one would make every key invalid and every job unknown.
    #[error(
        "{ledger} is missing, but {trace} shows that there was one: put it back with its -wal and its .mark, restore \
         the whole folder from a backup, or begin anew in another folder with --data (keys and jobs of this one are \
         then unknown)"
    )]
    LedgerGone {
        /// The path of the ledger.
        ledger: PathBuf,
        /// The file or folder that shows that there was one.
        trace: PathBuf,
    },
}

/// An open data folder. It holds the lock until it is dropped; the operating system releases the lock when the
/// process ends, however that happens.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    secret: Digest,
    _lock: File,
}

impl DataFolder {
    /// Opens the folder, and creates what is missing.
    ///
    /// # Errors
    /// [`DataFolderError`], each with its remedy.
    pub fn open(path: &Path) -> Result<Self, DataFolderError> {
        let io = |source| DataFolderError::Io { path: path.to_owned(), source };
        private_files::create_folder(path).map_err(io)?;
        let mut options = private_files::options();
        let lock = options.create(true).truncate(false).write(true).open(path.join(LOCK)).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataFolderError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        tighten(path)?;
        refuse_if_ledger_is_gone(path)?;
        let secret = read_or_make_secret(&path.join(SECRET))?;
        Ok(Self { path: path.to_owned(), secret, _lock: lock })
    }

    /// Opens a folder that an earlier `infera up` has filled.
    ///
    /// # Errors
    /// [`DataFolderError::Empty`] where there is no ledger; otherwise as [`DataFolder::open`].
    pub fn open_filled(path: &Path) -> Result<Self, DataFolderError> {
        refuse_if_ledger_is_gone(path)?;
        if !ledger_in(path).exists() {
            return Err(DataFolderError::Empty(path.to_owned()));
        }
        Self::open(path)
    }

    /// Returns the file of the models that were added.
    #[must_use]
    pub fn added_models(&self) -> PathBuf {
        self.path.join(MODELS)
    }

    /// Returns the path of the ledger's file.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        ledger_in(&self.path)
    }

    /// Returns the path of the archive's objects.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.path.join(ARCHIVE)
    }

    /// Returns the path of the note with the address and key for local clients, as `NAME=value` lines.
    #[must_use]
    pub fn local_env(&self) -> PathBuf {
        self.path.join(NOTE)
    }

    /// Derives a secret for each purpose and name, the same at every start.
    #[must_use]
    pub fn secret_for(&self, purpose: &str, name: &str) -> Digest {
        let mut bytes = self.secret.as_bytes().to_vec();
        bytes.extend_from_slice(format!("{purpose}|{name}").as_bytes());
        Digest::of(&bytes)
    }

    /// Returns the key that an earlier start noted for local clients, if the note exists.
    #[must_use]
    pub fn noted_key(&self) -> Option<String> {
        noted_key_in(&self.path)
    }

    /// Writes the note with the address and the key for local clients. Only this user can read it.
    ///
    /// # Errors
    /// [`DataFolderError::Io`].
    pub fn note(&self, url: &str, key: &str) -> Result<(), DataFolderError> {
        write_private(&self.local_env(), &format!("INFERA_URL={url}\nINFERA_API_KEY={key}\n"))
    }
}

/// Returns the key that was noted for local clients in the data folder at `path`.
#[must_use]
pub fn noted_key_in(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path.join(NOTE)).ok()?;
    text.lines().find_map(|line| line.strip_prefix("INFERA_API_KEY=")).map(str::to_owned)
}

/// Returns the socket at which the `infera up` that holds the data folder at `path` answers commands. It lies in the folder, so
/// that only a process of the folder's owner can listen there.
#[must_use]
pub fn operators_in(path: &Path) -> PathBuf {
    path.join(OPERATORS)
}

/// Takes other users' permissions to the folder and its files away, because they hold prompts, answers and secrets.
/// If the folder holds other things as well, only our files in it are changed, because the folder may be meant for
/// others too.
fn tighten(path: &Path) -> Result<(), DataFolderError> {
    let exposed = |path: &Path| {
        let path = path.to_owned();
        |source| DataFolderError::Exposed { path, source }
    };
    let mut tightened = Vec::new();
    let is_ours = holds_nothing_else(path).map_err(exposed(path))?;
    let files = [LOCK, SECRET, NOTE, OPERATORS, MODELS].map(|file| path.join(file));
    let folder = is_ours.then(|| path.to_owned());
    for path in folder.iter().chain(&files) {
        if private_files::tighten(path).map_err(exposed(path))? {
            tightened.push(path.display().to_string());
        }
    }
    if !tightened.is_empty() {
        let paths = tightened.join(", ");
        tracing::warn!(paths, "other users could read these paths; from now on only their owner can");
    }
    Ok(())
}

fn holds_nothing_else(path: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let is_ours = [LOCK, SECRET, ARCHIVE, NOTE, OPERATORS, MODELS].contains(&name.as_ref())
            || name.starts_with(LEDGER)
            || [SECRET, NOTE, OPERATORS, MODELS]
                .iter()
                .any(|file| Path::new(file).with_extension(SCRATCH) == Path::new(name.as_ref()));
        if !is_ours {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Refuses a folder whose ledger is missing. The secret alone is no trace of a ledger: a first start may have ended
/// right after making it.
fn refuse_if_ledger_is_gone(path: &Path) -> Result<(), DataFolderError> {
    let (ledger, note, archive) = (path.join(LEDGER), path.join(NOTE), path.join(ARCHIVE));
    if ledger.exists() {
        return Ok(());
    }
    let has_objects = std::fs::read_dir(&archive).is_ok_and(|mut objects| objects.next().is_some());
    let traces = [(note.exists(), note), (has_objects, archive)];
    match traces.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, trace)) => Err(DataFolderError::LedgerGone { ledger, trace }),
        None => Ok(()),
    }
}

/// Returns the path of the ledger's file in the data folder at `path`, whether or not the file exists.
#[must_use]
pub fn ledger_in(path: &Path) -> PathBuf {
    path.join(LEDGER)
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

/// Writes a file whole, durable, and readable by its owner alone: first under another name, so that a crash leaves
/// either the old file or the new one.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), DataFolderError> {
    let io = |source| DataFolderError::Io { path: path.to_owned(), source };
    let scratch = path.with_extension(SCRATCH);
    private_files::tighten(&scratch).map_err(io)?;
    let mut options = private_files::options();
    let mut file = options.create(true).truncate(true).write(true).open(&scratch).map_err(io)?;
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

    #[test]
    fn a_folder_that_others_could_read_is_theirs_no_more() {
        use std::fs::{self, Permissions};
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let open = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        fs::create_dir(&path).unwrap();
        open(&path, 0o755);
        let data = DataFolder::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        fs::write(data.ledger(), "not read here").unwrap();
        data.note("http://127.0.0.1:1", "inf_x").unwrap();
        drop(data);

        let files = ["lock", "secret", "local.env"].map(|name| path.join(name));
        for path in files.iter().chain([&path]) {
            open(path, 0o755);
        }
        drop(DataFolder::open(&path).unwrap());
        assert_eq!((mode(&path), files.each_ref().map(|file| mode(file))), (0o700, [0o700; 3]));

        // The permissions of other things in it are not changed; those of our files are.
        fs::write(path.join("theirs.txt"), "").unwrap();
        open(&path, 0o755);
        open(&files[1], 0o644);
        drop(DataFolder::open(&path).unwrap());
        assert_eq!((mode(&path), mode(&files[1])), (0o755, 0o600));
    }

    #[test]
    fn a_command_makes_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        assert!(matches!(DataFolder::open_filled(&path), Err(DataFolderError::Empty(_))));
        assert!(!path.exists());
        std::fs::create_dir(&path).unwrap();
        std::fs::write(ledger_in(&path), "").unwrap();
        assert!(DataFolder::open_filled(&path).is_ok());
    }

    #[test]
    fn a_ledger_that_is_gone_is_told_and_not_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        std::fs::create_dir(data.archive()).unwrap();
        drop(data);
        // As after a first start that ended early.
        let data = DataFolder::open(folder.path()).unwrap();
        data.note("http://127.0.0.1:1", "inf_x").unwrap();
        let (note, archive) = (data.local_env(), data.archive());
        drop(data);
        let refused = DataFolder::open(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("ledger.sqlite is missing") && refused.contains("backup"), "{refused}");
        std::fs::remove_file(note).unwrap();
        std::fs::create_dir(archive.join("jobs")).unwrap();
        assert!(matches!(DataFolder::open(folder.path()), Err(DataFolderError::LedgerGone { .. })));
        std::fs::write(folder.path().join("ledger.sqlite"), "").unwrap();
        assert!(DataFolder::open(folder.path()).is_ok());
    }
}
