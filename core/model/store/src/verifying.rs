//! Whether a folder's files are as they were pinned.

use std::io;

use serde::Serialize;

use crate::folder::ModelFolder;
use crate::names::PARTIAL;
use crate::part::hash_file;
use crate::pins::Pins;

/// How a pinned file is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum FileState {
    /// It is as pinned.
    Good,
    /// It isn't there.
    Missing {
        /// How much of it has come.
        partial_bytes: u64,
    },
    /// It has another length.
    Length {
        /// Its length.
        bytes: u64,
    },
    /// It has another content.
    Content {
        /// The content's digest.
        digest: String,
    },
    /// It can't be read.
    Unreadable {
        /// The operating system's error.
        problem: String,
    },
}

/// One pinned file and how it is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Its path.
    pub path: String,
    /// The pinned length.
    pub bytes: u64,
    /// The pinned digest.
    pub digest: String,
    /// How it is found.
    #[serde(flatten)]
    pub state: FileState,
}

/// Reads every pinned file and says how it is found. `read` is called with the length of each piece that was read. It takes
/// as long as the disk, so don't call it on a thread that others wait for.
#[must_use]
pub fn verify(folder: &ModelFolder, pins: &Pins, mut read: impl FnMut(u64)) -> Vec<FileReport> {
    let report = |(path, pin): (&String, &crate::pins::Pin)| {
        let place = folder.path().join(path);
        let state = match place.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let part = folder.path().join(format!("{path}{PARTIAL}"));
                FileState::Missing { partial_bytes: part.metadata().map_or(0, |part| part.len()) }
            }
            Err(error) => FileState::Unreadable { problem: error.to_string() },
            // Its digest can't be the pinned one, and it may be large.
            Ok(found) if found.is_file() && found.len() != pin.bytes => {
                FileState::Length { bytes: found.len() }
            }
            Ok(_) => match hash_file(&place, pin, &mut read) {
                Err(error) => FileState::Unreadable { problem: error.to_string() },
                Ok((_, hashes)) if hashes.are(&pin.digest) => FileState::Good,
                Ok((_, hashes)) => FileState::Content { digest: hashes.like(&pin.digest).to_string() },
            },
        };
        FileReport { path: path.clone(), bytes: pin.bytes, digest: pin.digest.to_string(), state }
    };
    pins.files.iter().map(report).collect()
}
