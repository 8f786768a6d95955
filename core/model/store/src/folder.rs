//! The folders of models: one folder of all of them, and in it one per model, as the Hub lays it out, with a folder of the
//! store's own in which lie its pins, when it was verified, and its lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use infera_model::folder::CONFIG;
use infera_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{NameError, STATE, check_model, check_path};
use crate::part::write_whole;
use crate::pins::{Pins, PinsError};
use crate::space::is_full;

/// The names within [`STATE`].
const PINS: &str = "pins.json";
const VERIFIED: &str = "verified.json";
const LOCK: &str = "lock";

/// Why a folder can't be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum FolderProblem {
    /// Another process changes the folder.
    #[error("{0} is being fetched by another infera: wait for that one, or stop it")]
    InUse(PathBuf),
    /// The folder isn't of the store's making.
    #[error("{0} holds a model that wasn't fetched: choose another --name, or move it away")]
    NotOurs(PathBuf),
    /// A link leads out of the folder.
    #[error(
        "{0} is a link, and what is fetched isn't written through links: remove it, or move the whole folder of models by the setting `models`"
    )]
    Link(PathBuf),
    /// What is in the way is no file.
    #[error("{0} is in the way: it is neither a file nor missing; move it away")]
    NoFile(PathBuf),
    /// The pins can't be read.
    #[error("{path}: {source}; remove it to pin the model again")]
    Pins {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PinsError,
    },
    /// The disk is full.
    #[error("{path}: the disk is full: make room, then fetch again; what has come is kept")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// A name can't be used.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FolderProblem {
    /// Makes the problem of an operating system's error at `path`.
    pub(crate) fn of(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        // What O_NOFOLLOW says of a link.
        if source.raw_os_error() == Some(libc::ELOOP) {
            return Self::Link(path);
        }
        if is_full(&source) { Self::Full { path } } else { Self::Io { path, source } }
    }
}

/// The folder of all models.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Names the folder; it need not exist.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the folder of a model, which need not exist.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn folder(&self, name: &str) -> Result<ModelFolder, NameError> {
        check_model(name)?;
        Ok(ModelFolder { path: self.root.join(name), name: name.to_owned() })
    }

    /// Returns all models' folders, in the order of their names. Folders of other names are left out.
    ///
    /// # Errors
    /// [`FolderProblem::Io`]. A missing folder of models has none.
    pub fn folders(&self) -> Result<Vec<ModelFolder>, FolderProblem> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FolderProblem::of(&self.root, error)),
        };
        let names = entries.flatten().filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names.iter().filter_map(|name| self.folder(name).ok()).collect())
    }
}

/// When all files of a folder had their digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The time, in milliseconds since 1970.
    pub at_ms: Timestamp,
}

/// One model's folder.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    path: PathBuf,
    name: String,
}

impl ModelFolder {
    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn state(&self, name: &str) -> PathBuf {
        self.path.join(STATE).join(name)
    }

    /// Returns the pins; none if the model wasn't fetched.
    ///
    /// # Errors
    /// [`FolderProblem::Pins`].
    pub fn pins(&self) -> Result<Option<Pins>, FolderProblem> {
        let path = self.state(PINS);
        match fs::read(&path) {
            Ok(text) => Pins::parse(&text).map(Some).map_err(|source| FolderProblem::Pins { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FolderProblem::of(&path, error)),
        }
    }

    /// Returns when all pinned files were last seen with their digests, if they were and no pin has changed since.
    #[must_use]
    pub fn verified(&self) -> Option<Verified> {
        serde_json::from_slice(&fs::read(self.state(VERIFIED)).ok()?).ok()
    }

    /// Makes the folder if it is missing, and holds it until the value is dropped or the process ends.
    ///
    /// # Errors
    /// [`FolderProblem`]: another process holds it, or it isn't the store's.
    pub fn lock(self) -> Result<LockedFolder, FolderProblem> {
        let state = self.path.join(STATE);
        if self.path.join(CONFIG).exists() && !state.exists() {
            return Err(FolderProblem::NotOurs(self.path));
        }
        let root = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(root).map_err(|error| FolderProblem::of(root, error))?;
        make_folder(&self.path)?;
        make_folder(&state)?;
        let path = state.join(LOCK);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).custom_flags(libc::O_NOFOLLOW);
        let lock = options.open(&path).map_err(|error| FolderProblem::of(&path, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(LockedFolder { folder: self, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FolderProblem::InUse(self.path)),
            Err(TryLockError::Error(error)) => Err(FolderProblem::of(&path, error)),
        }
    }
}

/// Makes a folder, or checks that it is one and no link.
fn make_folder(path: &Path) -> Result<(), FolderProblem> {
    match fs::create_dir(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(FolderProblem::of(path, error)),
    }
    let kind = fs::symlink_metadata(path).map_err(|error| FolderProblem::of(path, error))?.file_type();
    match () {
        () if kind.is_symlink() => Err(FolderProblem::Link(path.to_owned())),
        () if kind.is_dir() => Ok(()),
        () => Err(FolderProblem::NoFile(path.to_owned())),
    }
}

/// A model's folder that no other process changes.
#[derive(Debug)]
pub struct LockedFolder {
    folder: ModelFolder,
    _lock: File,
}

impl LockedFolder {
    /// Returns the folder.
    #[must_use]
    pub const fn folder(&self) -> &ModelFolder {
        &self.folder
    }

    /// Returns where a file of the repository lies, and makes the folders on the way.
    ///
    /// # Errors
    /// [`FolderProblem`]: the name leaves the folder, or something other than a file is in the way.
    pub fn place_of(&self, path: &str) -> Result<PathBuf, FolderProblem> {
        check_path(path)?;
        let mut place = self.folder.path.clone();
        if let Some((folders, _)) = path.rsplit_once('/') {
            for folder in folders.split('/') {
                place.push(folder);
                make_folder(&place)?;
            }
        }
        let place = self.folder.path.join(path);
        match fs::symlink_metadata(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(place),
            Err(error) => Err(FolderProblem::of(&place, error)),
            Ok(found) if found.is_symlink() => Err(FolderProblem::Link(place)),
            Ok(found) if found.is_file() => Ok(place),
            Ok(_) => Err(FolderProblem::NoFile(place)),
        }
    }

    /// Keeps the pins.
    ///
    /// # Errors
    /// [`FolderProblem`].
    pub fn keep_pins(&self, pins: &Pins) -> Result<(), FolderProblem> {
        // Until all files have come and were looked at.
        let verified = self.folder.state(VERIFIED);
        match fs::remove_file(&verified) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FolderProblem::of(&verified, error));
            }
            _ => {}
        }
        self.keep(PINS, &pins.document())
    }

    /// Records that all pinned files have their digests.
    ///
    /// # Errors
    /// [`FolderProblem`].
    pub fn keep_verified(&self, verified: Verified) -> Result<(), FolderProblem> {
        self.keep(VERIFIED, &serde_json::to_vec(&verified).unwrap_or_default())
    }

    /// Forgets that they had.
    pub fn forget_verified(&self) {
        // If it can't be removed, neither can it be written; what the caller says counts.
        let _ = fs::remove_file(self.folder.state(VERIFIED));
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), FolderProblem> {
        let path = self.folder.state(name);
        write_whole(&path, bytes).map_err(|error| FolderProblem::of(&path, error))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_is_held_by_one_and_links_lead_nowhere() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::new(root.path().join("models"));
        assert!(store.folders().expect("none yet").is_empty() && store.folder("../x").is_err());
        let held = store.folder("m").expect("a name").lock().expect("free");
        let again = store.folder("m").expect("a name").lock();
        assert!(matches!(again, Err(FolderProblem::InUse(_))), "{again:?}");
        assert_eq!(store.folders().expect("one").len(), 1);
        assert!(held.place_of("onnx/model.onnx").expect("fine").parent().is_some_and(Path::is_dir));
        assert!(held.place_of("../x").is_err() && held.place_of("/etc/passwd").is_err());
        let outside = root.path().join("outside");
        fs::create_dir(&outside).expect("a folder");
        symlink(&outside, held.folder().path().join("link")).expect("a link");
        symlink("/etc/passwd", held.folder().path().join("file")).expect("a link");
        assert!(matches!(held.place_of("link/x"), Err(FolderProblem::Link(_))));
        assert!(matches!(held.place_of("file"), Err(FolderProblem::Link(_))));
        assert!(matches!(held.place_of("onnx"), Err(FolderProblem::NoFile(_))));
        drop(held);
        store.folder("m").expect("a name").lock().expect("free again");
        symlink(&outside, root.path().join("models/linked")).expect("a link");
        assert!(matches!(store.folder("linked").expect("a name").lock(), Err(FolderProblem::Link(_))));
    }

    #[test]
    fn what_was_not_fetched_is_left_alone() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("m")).expect("a folder");
        fs::write(root.path().join("m").join(CONFIG), "{}").expect("a file");
        let folder = Store::new(root.path()).folder("m").expect("a name");
        assert_eq!(folder.pins().expect("readable"), None);
        assert!(matches!(folder.lock(), Err(FolderProblem::NotOurs(_))));
    }

    #[test]
    fn changed_pins_are_not_verified_any_more() {
        let root = tempfile::tempdir().expect("a folder");
        let held = Store::new(root.path()).folder("m").expect("a name").lock().expect("free");
        let pins = Pins::new("m", "o/m", "main");
        held.keep_pins(&pins).expect("kept");
        let verified = Verified { at_ms: Timestamp::from_millis(5) };
        held.keep_verified(verified).expect("kept");
        assert_eq!(held.folder().pins().expect("kept"), Some(pins.clone()));
        assert_eq!(held.folder().verified(), Some(verified));
        held.keep_pins(&pins).expect("kept");
        assert_eq!(held.folder().verified(), None);
    }
}
