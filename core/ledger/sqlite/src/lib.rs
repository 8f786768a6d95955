//! The ledger in one SQLite file: the embedded implementation of every half. It uses WAL, synchronous FULL, one
//! thread that writes and commits in groups (`writer`), and a few connections that read (`readers`). One process uses
//! it at a time.
//!
//! Read `checking` and `opening` for how a damaged file is handled, `settling` for the one way in which jobs end,
//! then a module per half. Not here: what verdicts weigh (`infera_ledger::fold`).

mod accounts;
mod batches;
mod charging;
mod checking;
mod commits;
mod erasing;
mod failure;
mod feeding;
mod files;
mod index;
mod intake;
mod keys;
mod lists;
mod log;
mod mail;
mod mark;
mod money;
mod network;
mod node_days;
mod node_groups;
mod nodes;
mod opening;
mod owner;
mod postings;
mod pruning;
mod reader;
mod readers;
mod roster;
mod scheduling;
mod schema;
mod segments;
mod settling;
mod space;
mod standing;
mod sweeping;
mod values;
mod writer;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use self::failure::Failure;
use self::readers::Readers;
use self::writer::Writer;
use infera_ledger::LedgerError;

/// A ledger in a file. It implements all halves; give each role only its own. Dropping the last handle commits what
/// waits and closes the file.
#[derive(Debug)]
pub struct SqliteLedger {
    // Dropped in this order: a reader cannot checkpoint the log if it is the last to close.
    readers: Readers,
    writer: Writer,
    _lock: File,
}

impl SqliteLedger {
    /// Opens the ledger at `path`, or creates one if none exists; its folder must exist. It blocks for as long as
    /// that takes: a second at most to check the file, and longer only if a long log must be recovered.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] names the file and the remedy. [`LedgerError::Unavailable`]: the disk failed, another
    /// process uses the ledger, or a newer program made its schema.
    pub fn open(path: &Path) -> Result<Arc<Self>, LedgerError> {
        let lock = opening::lock(path)?;
        let (connection, commits) = opening::writer(path)?;
        let readers = Readers::open(path)?;
        Ok(Arc::new(Self { readers, writer: Writer::start(connection, commits)?, _lock: lock }))
    }

    /// Rewrites the file at `path` without its free pages, so that from then on it shrinks by itself when bodies are
    /// pruned. It is for files of versions that could not shrink; other files gain little. Nothing else may use the
    /// ledger meanwhile. Returns the file's size before and after, in bytes. It needs disk space for a second copy of
    /// the file; if it is cut off at any moment, the ledger is unchanged.
    ///
    /// # Errors
    /// The same as of [`SqliteLedger::open`].
    pub fn compact(path: &Path) -> Result<(u64, u64), LedgerError> {
        let size = || {
            std::fs::metadata(path)
                .map(|metadata| metadata.len())
                .map_err(|error| LedgerError::from(files::unavailable(path, &error)))
        };
        let before = size()?;
        let _lock = opening::lock(path)?;
        let (connection, mut commits) = opening::writer(path)?;
        space::rebuild(&connection).map_err(Failure::from)?;
        commits.end();
        // The last connection checkpoints the log and removes it.
        connection.close().map_err(|(_, error)| Failure::from(error))?;
        Ok((before, size()?))
    }

    async fn write<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        self.writer.run(work).await
    }

    async fn read<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        self.readers.run(work).await
    }
}
