//! Remembers which assignments were run alone and gave no answer. The broker only says that an assignment was given out
//! before, not how often, so the node counts for itself. What it remembers decides what survives which failure:
//!
//! * The connection is lost, the process lives: what was decoding goes on and what was answered is cached, so the
//!   redelivered assignment joins its run or is answered. Nothing is asked here.
//! * The process dies: runs, cache and this memory are gone, but for the file, if one is configured. A redelivered
//!   assignment runs alone; before that its id is in the file, synced. If it kills the process again, the next
//!   process finds it there and refuses it as `crashed`. An assignment that was merely in the batch when its
//!   neighbour killed the process runs alone too, succeeds and is forgotten.
//! * The process dies and there is no file: the assignment would run alone once per process, until its time to live
//!   in the queue is over. With the embedded broker the queue dies with the process, and nothing comes again.
//! * The machine loses power: as above, the file having been synced.
//!
//! Bounded: the oldest id is forgotten beyond [`REMEMBERED_MAX`], and would be run alone once more.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use infera_types::ids::AssignmentId;

/// Far more than a node has in hand at once (its prefetch).
const REMEMBERED_MAX: usize = 256;

/// The ids of assignments that were run alone without an answer, in memory and in the file.
#[derive(Debug)]
pub(crate) struct TriedAlone {
    path: Option<PathBuf>,
    /// Oldest first.
    ids: Mutex<VecDeque<AssignmentId>>,
    /// One writer of the file at a time, and in the order of the changes.
    writing: tokio::sync::Mutex<()>,
}

impl TriedAlone {
    /// Reads what the last process left. Lines that are no ids (a torn write of a file system that reorders) are
    /// skipped: the worst that follows is one more run alone.
    pub(crate) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let text = match &path {
            Some(path) => match fs::read_to_string(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                read => read?,
            },
            None => String::new(),
        };
        let mut ids: VecDeque<AssignmentId> = text.lines().filter_map(|line| line.parse().ok()).collect();
        ids.drain(..ids.len().saturating_sub(REMEMBERED_MAX));
        Ok(Self { path, ids: Mutex::new(ids), writing: tokio::sync::Mutex::new(()) })
    }

    pub(crate) fn contains(&self, id: AssignmentId) -> bool {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Remembers; when it returns, the file has it.
    pub(crate) async fn remember(&self, id: AssignmentId) -> io::Result<()> {
        self.change(|ids| {
            ids.push_back(id);
            if ids.len() > REMEMBERED_MAX {
                ids.pop_front();
            }
        })
        .await
    }

    /// Forgets one that was answered after all.
    pub(crate) async fn forget(&self, id: AssignmentId) -> io::Result<()> {
        self.change(|ids| ids.retain(|remembered| *remembered != id)).await
    }

    async fn change(&self, change: impl FnOnce(&mut VecDeque<AssignmentId>)) -> io::Result<()> {
        let _writing = self.writing.lock().await;
        let text = {
            let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut ids);
            ids.iter().map(|id| format!("{id}\n")).collect::<String>()
        };
        let Some(path) = self.path.clone() else { return Ok(()) };
        tokio::task::spawn_blocking(move || replace(&path, &text)).await.map_err(io::Error::other)?
    }
}

/// Replaces the file's content durably: it is either the old or the new one, whenever the power fails.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_next_process_finds_what_was_not_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alone");
        let (died, answered) = (AssignmentId::new(), AssignmentId::new());
        let first = TriedAlone::open(Some(path.clone())).unwrap();
        assert!(!first.contains(died));
        first.remember(died).await.unwrap();
        first.remember(answered).await.unwrap();
        first.forget(answered).await.unwrap();
        let next = TriedAlone::open(Some(path)).unwrap();
        assert!(next.contains(died) && !next.contains(answered));
    }

    #[tokio::test]
    async fn without_a_file_it_is_this_processes_memory_and_bounded() {
        let memory = TriedAlone::open(None).unwrap();
        let first = AssignmentId::new();
        memory.remember(first).await.unwrap();
        assert!(memory.contains(first));
        for _ in 0..REMEMBERED_MAX {
            memory.remember(AssignmentId::new()).await.unwrap();
        }
        assert!(!memory.contains(first));
    }

    #[test]
    fn lines_that_are_no_ids_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alone");
        let id = AssignmentId::new();
        fs::write(&path, format!("asg_12\n{id}\n\n")).unwrap();
        assert!(TriedAlone::open(Some(path)).unwrap().contains(id));
        assert!(TriedAlone::open(Some(folder.path().to_owned())).is_err(), "a folder is no file");
    }
}
