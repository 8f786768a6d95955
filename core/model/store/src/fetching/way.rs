//! What a fetch and its single files share: where files come from, what is told of it, and why it ends.

use std::path::PathBuf;
use std::time::Duration;

use infera_types::causes::causes;

use crate::folder::FolderProblem;
use crate::names::NameError;
use crate::needs::NeedsError;
use crate::pins::Published;
use crate::source::{Source, SourceError, Waits};

/// Where files come from, and how.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// The source.
    pub source: &'a dyn Source,
    /// How long it is waited for.
    pub waits: Waits,
    /// Takes note.
    pub report: &'a Report<'a>,
}

/// What a fetch does, as it does it.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A file is fetched from one of its bytes on.
    Begins {
        /// The file's path.
        path: &'a str,
        /// Its length.
        bytes: u64,
        /// How many of them are there already.
        from: u64,
    },
    /// This many bytes have come.
    Came(u64),
    /// A file begins again from its first byte.
    Restarts {
        /// The file's path.
        path: &'a str,
    },
    /// An attempt failed, and the next one comes after a pause.
    Retries {
        /// The file's path, or `the listing`.
        path: &'a str,
        /// Why the attempt failed.
        reason: &'a str,
        /// The pause.
        pause: Duration,
    },
    /// A file is in its place.
    Ends {
        /// The file's path.
        path: &'a str,
        /// Whether it had been there already.
        was_there: bool,
    },
}

/// Takes note of what a fetch does.
pub type Report<'a> = dyn Fn(Event<'_>) + Send + Sync + 'a;

/// Why a fetch ends without the model. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The source refuses.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source is away for too long.
    #[error(
        "{path}: given up after {tries} attempts in a row without progress ({last}); what has come is kept: the same command goes on there"
    )]
    GaveUp {
        /// The file, or `the listing`.
        path: String,
        /// The attempts.
        tries: u32,
        /// Why the last one failed.
        last: SourceError,
    },
    /// The content is another one than pinned.
    #[error(
        "{path} from {place} has {is}, and {wanted} is pinned: it was changed there or on the way, and isn't kept. If its makers replaced it, fetch it under another --name"
    )]
    WrongDigest {
        /// The file.
        path: String,
        /// The source.
        place: String,
        /// The digest that came.
        is: Published,
        /// The pinned one.
        wanted: Published,
    },
    /// The listing says something else than what is pinned.
    #[error("{problem}; the model {name} stays as it is pinned: fetch under another --name what differs")]
    PinnedOtherwise {
        /// The model.
        name: String,
        /// What differs.
        problem: String,
    },
    /// The repository can't be served.
    #[error(transparent)]
    Needs(#[from] NeedsError),
    /// The folder can't be used.
    #[error(transparent)]
    Folder(#[from] FolderProblem),
    /// The disk has too little room.
    #[error("{} has {free} bytes free, and {needed} more are needed: make room, or choose another folder by the setting `models`", path.display())]
    NoRoom {
        /// The folder.
        path: PathBuf,
        /// The bytes that are missing in the folder yet.
        needed: u64,
        /// The bytes that are free.
        free: u64,
    },
    /// The ONNX file is none.
    #[error("{0} is no ONNX file, or it is damaged at its source; choose another --variant")]
    Graph(String),
    /// A thread ended unexpectedly; our fault.
    #[error("writing broke off: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl From<NameError> for FetchError {
    fn from(error: NameError) -> Self {
        Self::Folder(error.into())
    }
}

impl FetchError {
    /// Returns whether the same command may succeed later, without anybody's doing.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Source(error) => error.may_pass(),
            Self::GaveUp { .. } | Self::Thread(_) => true,
            _ => false,
        }
    }
}

/// Waits after an attempt that failed `failures` times before, or gives up. Returns the failures so far.
pub(super) async fn pause(
    way: Way<'_>,
    path: &str,
    error: SourceError,
    failures: u32,
) -> Result<u32, FetchError> {
    if !error.may_pass() {
        return Err(error.into());
    }
    let failures = failures + 1;
    if failures >= way.waits.tries {
        return Err(FetchError::GaveUp { path: path.to_owned(), tries: failures, last: error });
    }
    let asked = match &error {
        SourceError::Away { wait, .. } => *wait,
        _ => None,
    };
    let pause = way.waits.again.spread(failures).max(asked.unwrap_or_default());
    (way.report)(Event::Retries { path, reason: &causes(&error), pause });
    tokio::time::sleep(pause).await;
    Ok(failures)
}
