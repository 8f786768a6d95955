//! The mark: a small file beside the ledger that records how many commits are certainly on the disk. The log cannot
//! tell that about itself: a log that was cut short or removed looks like a shorter one.
//!
//! A commit is marked after its sync, so the mark never promises more than there is. The mark itself is not synced
//! with each commit: after a loss of power it may name fewer commits, which is still true.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::files::{sync_folder, with_suffix};
use infera_types::ids::Digest;
use infera_types::private_files;

/// The size of a slot: a sector, which a disk writes whole or not at all.
const SLOT_BYTES: usize = 512;

/// The number of slots, which are written in turn, so that an interrupted write leaves the other slot intact.
const SLOTS: usize = 2;

/// Returns the path of the mark of the ledger at `path`.
pub(super) fn path_of(path: &Path) -> PathBuf {
    with_suffix(path, ".mark")
}

/// The open mark of a ledger.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    is_failing: bool,
}

impl Mark {
    /// Returns how many commits the mark beside `path` records; none if there is no mark or it cannot be read.
    pub(super) fn read(path: &Path) -> io::Result<Option<u64>> {
        let bytes = match fs::read(path_of(path)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let commits = bytes.chunks(SLOT_BYTES).take(SLOTS).filter_map(number_in).max();
        if commits.is_none() {
            let mark = path_of(path);
            tracing::error!(mark = %mark.display(), "the ledger's mark is damaged; whether its log is complete cannot be checked");
        }
        Ok(commits)
    }

    /// Opens the mark beside `path`, creates it if it does not exist, and sets it.
    pub(super) fn open(path: &Path, commits: u64) -> io::Result<Self> {
        let mark = path_of(path);
        let new = with_suffix(&mark, ".new");
        let file = private_files::options().read(true).write(true).create(true).truncate(true).open(&new)?;
        for slot in 0..SLOTS {
            file.write_all_at(&slot_of(commits), offset_of(slot))?;
        }
        file.sync_all()?;
        fs::rename(&new, &mark)?;
        sync_folder(path)?;
        Ok(Self { file, is_failing: false })
    }

    /// Records that this many commits are on the disk. A failure leaves the mark lower than it could be, and is
    /// logged once.
    pub(super) fn set(&mut self, commits: u64) {
        let slot = usize::from(commits % 2 == 1);
        let written = self.file.write_all_at(&slot_of(commits), offset_of(slot));
        self.note("written", written);
    }

    /// Syncs the mark.
    pub(super) fn sync(&mut self) {
        let synced = self.file.sync_data();
        self.note("synced", synced);
    }

    fn note(&mut self, what: &'static str, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.is_failing = false,
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::warn!(%error, "the ledger's mark could not be {what}; a loss of the log might go unnoticed");
            }
            Err(_) => {}
        }
    }
}

const fn offset_of(slot: usize) -> u64 {
    (slot * SLOT_BYTES) as u64
}

/// Returns a slot: the number, its checksum, then blanks.
fn slot_of(commits: u64) -> [u8; SLOT_BYTES] {
    let mut slot = [b' '; SLOT_BYTES];
    let text = format!("{commits:020} {}\n", Digest::of(commits.to_string().as_bytes()));
    for (place, byte) in slot.iter_mut().zip(text.bytes()) {
        *place = byte;
    }
    slot
}

fn number_in(slot: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(slot).ok()?;
    let mut words = text.split_ascii_whitespace();
    let (commits, hash) = (words.next()?.parse::<u64>().ok()?, words.next()?.parse::<Digest>().ok()?);
    (hash == Digest::of(commits.to_string().as_bytes())).then_some(commits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_the_last_number_and_survives_a_torn_slot() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = folder.path().join("ledger.sqlite");
        assert_eq!(Mark::read(&ledger).expect("none"), None);
        let mut mark = Mark::open(&ledger, 7).expect("a mark");
        assert_eq!(Mark::read(&ledger).expect("a mark"), Some(7));
        for commits in 8..20 {
            mark.set(commits);
            assert_eq!(Mark::read(&ledger).expect("a mark"), Some(commits));
        }
        mark.sync();
        let whole = fs::read(path_of(&ledger)).expect("a mark");
        // The last number, 19, is in the second slot.
        let text_bytes = 20 + 1 + 64;
        for flipped in 0..text_bytes {
            let mut torn = whole.clone();
            torn[SLOT_BYTES + flipped] ^= 1;
            fs::write(path_of(&ledger), &torn).expect("write");
            assert_eq!(Mark::read(&ledger).expect("a mark"), Some(18), "{flipped}");
        }
        fs::write(path_of(&ledger), &whole[..SLOT_BYTES]).expect("write");
        assert_eq!(Mark::read(&ledger).expect("a mark"), Some(18));
        fs::write(path_of(&ledger), b"").expect("write");
        assert_eq!(Mark::read(&ledger).expect("no number"), None);
    }
}
