//! The ledger in one SQLite file: the embedded implementation of every half. WAL, synchronous FULL, one thread that
//! writes and commits in groups (`writer`), a few connections that read (`readers`). One process at a time.
//!
//! Read `checking` and `opening` for what happens to a damaged file, `settling` for the one way in which jobs end, then a
//! module per half. Not here: what verdicts weigh (`infera_ledger::fold`).

mod accounts;
mod checking;
mod commits;
mod failure;
mod files;
mod index;
mod intake;
mod log;
mod mark;
mod network;
mod nodes;
mod opening;
mod owner;
mod pruning;
mod reader;
mod readers;
mod schema;
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
pub use self::writer::WriteCounts;
use self::writer::Writer;
use infera_ledger::LedgerError;

/// A ledger in a file. Implements all halves; give each role only its own. Dropping the last handle commits what
/// waits and closes the file.
#[derive(Debug)]
pub struct SqliteLedger {
    // Dropped in this order: a reader can't bring the log home when it is the last to close.
    readers: Readers,
    writer: Writer,
    _lock: File,
}

impl SqliteLedger {
    /// Opens the ledger at `path`, or makes one where there is none; its folder must exist. Blocks for as long as
    /// that takes: a second at most to check the file, and longer only if there is a long log to recover.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] names the file and the remedy. [`LedgerError::Unavailable`]: the disk, another process
    /// that has the ledger, or a newer program's schema.
    pub fn open(path: &Path) -> Result<Arc<Self>, LedgerError> {
        let lock = opening::lock(path)?;
        let (connection, commits) = opening::writer(path)?;
        let readers = Readers::open(path)?;
        Ok(Arc::new(Self { readers, writer: Writer::start(connection, commits)?, _lock: lock }))
    }

    /// Rewrites the file at `path` without the pages that are free in it, so that from then on it becomes smaller by itself
    /// when bodies are pruned. For files that were made by a version that couldn't; others gain little. Nothing else may
    /// have the ledger. Returns the file's size before and after, in bytes. It needs room on the disk for the whole file
    /// once more; cut off at any moment, the ledger is what it was.
    ///
    /// # Errors
    /// As [`SqliteLedger::open`].
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
        // The last connection brings the log home and removes it.
        connection.close().map_err(|(_, error)| Failure::from(error))?;
        Ok((before, size()?))
    }

    /// How much was written since it was opened, for benchmarks and operators.
    #[must_use]
    pub fn write_counts(&self) -> WriteCounts {
        self.writer.counts()
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
