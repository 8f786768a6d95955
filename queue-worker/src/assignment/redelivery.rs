//! Remembers which assignments were run alone and gave no answer. The broker says only that an assignment was given
//! out before, and not how many times, so the node keeps its own record. It matters in these failures:
//!
//! * The connection is lost and the process lives. Running jobs go on and answers stay in the cache, so the
//!   redelivered assignment joins its run or is answered at once. This record isn't needed.
//! * The process dies. Runs, cache and the record in memory are gone; the record's file remains, if one is
//!   configured. A redelivered assignment runs alone, and before that its id is written to the file and synced. If it
//!   kills the process again, the next process finds its id in the file and refuses it as `crashed`. An assignment
//!   that was only in the batch when another one killed the process also runs alone, succeeds, and is forgotten.
//! * The process dies and there is no file. The assignment would run alone once in each process, until its time to
//!   live in the queue is over. With the embedded broker the queue ends with the process, so nothing is redelivered.
//! * The machine loses power. This is the same as a process that dies, because the file was synced.
//!
//! An assignment runs alone in its own model's engine, while other models' engines go on: a slow model's suspects would hold up
//! all others otherwise. If another model kills the process meanwhile, twice, one such assignment is refused unjustly, and other
//! nodes answer it.
//!
//! The record is bounded: beyond [`REMEMBERED_MAX`], the oldest id is forgotten and could be run alone once more.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use infera_types::ids::AssignmentId;

/// The largest number of ids: far more than the assignments that a node has taken at once (its prefetch).
const REMEMBERED_MAX: usize = 256;

/// The ids of assignments that were run alone without an answer, in memory and in the file.
#[derive(Debug)]
pub(crate) struct TriedAlone {
    path: Option<PathBuf>,
    /// The ids, the oldest first.
    ids: Mutex<VecDeque<AssignmentId>>,
    /// The lock that lets one task at a time write the file, in the order of the changes.
    writing: tokio::sync::Mutex<()>,
}

impl TriedAlone {
    /// Reads what the last process left. Lines that are no ids, as a torn write may leave them, are skipped; at worst
    /// an assignment runs alone once more.
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

    /// Remembers an id. When it returns, the id is in the file.
    pub(crate) async fn remember(&self, id: AssignmentId) -> io::Result<()> {
        self.change(|ids| {
            ids.push_back(id);
            if ids.len() > REMEMBERED_MAX {
                ids.pop_front();
            }
        })
        .await
    }

    /// Forgets an id whose assignment was answered after all.
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

/// Replaces the file's content durably. After a power failure the file has either the old or the new content.
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
