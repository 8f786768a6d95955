//! The seam to where a model's files come from.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use infera_types::retry::Backoff;

use crate::pins::Pin;

/// Why a source doesn't give a listing or a file. Each says what to do, if anything can be done.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The repository's owner lets in only those who asked.
    #[error(
        "{place} lets only some in: {said}. Ask for access on its page, then set HF_TOKEN to a token of that account that may read it"
    )]
    Gated {
        /// The repository.
        place: String,
        /// The source's own words.
        said: String,
    },
    /// There is no such repository, or it is private.
    #[error(
        "{place} isn't there, or is private ({said}): check its name, or set HF_TOKEN to a token that may read it"
    )]
    NoRepository {
        /// The repository.
        place: String,
        /// The source's own words.
        said: String,
    },
    /// The repository has no such revision.
    #[error(
        "{place} has no revision {revision:?} ({said}): name a branch, tag or commit of it by --revision"
    )]
    NoRevision {
        /// The repository.
        place: String,
        /// The revision.
        revision: String,
        /// The source's own words.
        said: String,
    },
    /// The revision has no such file.
    #[error(
        "{place} has no file {path} at {revision} ({said}): its listing and its files differ; try again later or another --revision"
    )]
    NoFile {
        /// The repository.
        place: String,
        /// The revision.
        revision: String,
        /// The file.
        path: String,
        /// The source's own words.
        said: String,
    },
    /// The source refuses for another reason; a retry won't help.
    #[error("{place}: {said}")]
    Refused {
        /// The repository or the source.
        place: String,
        /// What it said, or what is wrong with what it said.
        said: String,
    },
    /// The source can't go on in the middle of a file as asked, or sends other bytes than it says; from the first byte on it may.
    #[error("{said}")]
    Unresumable {
        /// What happened.
        said: String,
    },
    /// The source is away, or the connection was cut; a retry may help.
    #[error("{said}")]
    Away {
        /// What happened.
        said: String,
        /// How long the source asks to wait, if it does.
        wait: Option<Duration>,
    },
}

impl SourceError {
    /// Makes the error of a source that is away.
    pub fn away(said: impl fmt::Display) -> Self {
        Self::Away { said: said.to_string(), wait: None }
    }

    /// Returns whether trying again may help.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Unresumable { .. })
    }
}

/// The files of a repository at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The commit, or the revision's name where the source knows no commits.
    pub revision: String,
    /// The files by their paths, each of which stays within a folder.
    pub files: BTreeMap<String, Pin>,
}

/// A file from one of its bytes on.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The commit.
    pub revision: &'a str,
    /// The file's path.
    pub path: &'a str,
    /// Its length and digest.
    pub pin: Pin,
    /// The first byte that is wanted; less than the length, or 0.
    pub from: u64,
    /// The tag under which the bytes before were read, if the source gave one.
    pub tag: Option<&'a str>,
}

/// What a source sends.
pub struct Content {
    /// The first byte that is sent: the one that was wanted, or 0 where the source can't begin there.
    pub from: u64,
    /// The source's tag for this content, if it has one.
    pub tag: Option<String>,
    /// The bytes.
    pub chunks: BoxStream<'static, Result<Bytes, SourceError>>,
}

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Content")
            .field("from", &self.from)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

/// One repository, wherever it lies. The promises, which the suite of both implementations checks:
///
/// * A listing has each file once, under a path that stays within a folder, with its length and digest, and is bounded.
/// * A file's bytes come in order from `Content::from`; the stream ends after the last one or with an error, and a missing
///   file, revision or repository is named.
/// * Each wait has a bound; what may pass says so.
#[async_trait]
pub trait Source: Send + Sync + fmt::Debug {
    /// Returns the repository's name and where it is, for messages and pins.
    fn place(&self) -> &str;

    /// Lists the files at a revision; the source's usual one if none is named.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn list(&self, revision: Option<&str>) -> Result<Listing, SourceError>;

    /// Begins to send a file.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn open(&self, wanted: &Wanted<'_>) -> Result<Content, SourceError>;
}

/// How long a source is waited for, and how a fetch tries again.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// Until an answer begins. Hubs answer within a second; 30 s leave room for a slow line.
    pub answer: Duration,
    /// Until the next [`STALL_BYTES`] of a body have come. 60 s is 1 KiB a second: slower ones are cut, and begin again.
    pub stall: Duration,
    /// The pauses after failures: from half a second, so that a cut is hardly noticed, to half a minute, which a gateway's
    /// restart takes.
    pub again: Backoff,
    /// The failures in a row, each without progress ([`PROGRESS_BYTES`]), after which a fetch gives up: some three minutes
    /// of an outage.
    pub tries: u32,
}

/// The part of a body that has to come within [`Waits::stall`].
pub const STALL_BYTES: u64 = 64 << 10;

/// The progress of an attempt that makes it no failure: this much, or [`PROGRESS_SHARE`] of the file. So the attempts at a
/// file have a bound, however little a source sends each time.
pub const PROGRESS_BYTES: u64 = 256 << 10;

/// The share of a file, as one of this many, that is progress too.
pub const PROGRESS_SHARE: u64 = 64;

impl Default for Waits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            again: Backoff::doubling(Duration::from_millis(500), Duration::from_secs(30)),
            tries: 10,
        }
    }
}
