//! Numbers every commit, in the ledger and in the mark beside it, and runs the checkpoints that copy the log into the
//! file.
//!
//! SQLite restarts the log with the first commit after all of it was copied, which is known only afterwards. So the
//! first commit after each checkpoint names a new generation (see `log`), whether or not the log restarts with it.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use super::failure::Failure;
use super::mark::Mark;
use infera_ledger::LedgerError;

/// How long to wait for another connection's lock (a backup, an operator's query).
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(5);

/// How many frames the log has when it is copied into the file, 16 MiB: each copy costs two syncs, and a start reads
/// at most this much.
const CHECKPOINT_FRAMES: u32 = 4096;

/// The size to which a log is cut when its next life begins, if it had to grow because a reader kept it from being
/// copied.
const LOG_MAX_BYTES: u32 = 64 * 1024 * 1024;

/// How many frames the log has when its next life is waited for, 64 MiB. A copy that waits for no reader never begins one while
/// readers follow each other without a gap, and the log would grow for as long as they do.
const RESTART_FRAMES: u32 = 16 * 1024;

/// How long commits wait then for readers to end, which take milliseconds; a slower one is waited for again after a while.
const RESTART_WAIT: Duration = Duration::from_millis(250);

thread_local! {
    /// Frames in the log after the last commit of this thread, which is the writer's.
    static FRAMES: Cell<u32> = const { Cell::new(0) };
    /// Whether the log is to be copied after this commit, however short it is.
    static IS_WANTED: Cell<bool> = const { Cell::new(false) };
    /// Whether the log has text that was erased and is to be cut to nothing once it is copied.
    static IS_WIPE_WANTED: Cell<bool> = const { Cell::new(false) };
}

/// Requests that the log is copied into the file after the present commit; to be called on the writer's thread.
pub(super) fn checkpoint_soon() {
    IS_WANTED.set(true);
}

/// Requests that the log is copied into the file after the present commit and cut to nothing, so that what was erased is not
/// left in it; to be called on the writer's thread. While a reader needs the log, it is tried again after each commit.
pub(super) fn wipe_soon() {
    IS_WIPE_WANTED.set(true);
}

/// The numbering of commits, which belongs to the writing connection.
#[derive(Debug)]
pub(super) struct Commits {
    mark: Mark,
    is_generation_due: bool,
    /// The log's length after the last commit.
    frames: u32,
    /// The log's length at which its next life is waited for.
    restart_at: u32,
    is_checkpoint_failing: bool,
}

impl Commits {
    /// Starts numbering the commits of `connection` to the ledger at `path`: names a new generation and opens the
    /// mark.
    pub(super) fn begin(path: &Path, connection: &Connection) -> Result<Self, Failure> {
        // Replaces SQLite's own checkpoints, which would be a hook too.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.wal_hook(Some(|_, frames| {
            FRAMES.set(u32::try_from(frames).unwrap_or(0));
            Ok(())
        }));
        connection.pragma_update(None, "journal_size_limit", LOG_MAX_BYTES)?;
        let transaction = connection.unchecked_transaction()?;
        name_generation(&transaction)?;
        let commits = count_one(&transaction)?;
        transaction.commit()?;
        let mark = Mark::open(path, commits).map_err(|error| {
            LedgerError::Unavailable(format!("{}: {error}", super::mark::path_of(path).display()))
        })?;
        Ok(Self {
            mark,
            is_generation_due: false,
            frames: 0,
            restart_at: RESTART_FRAMES,
            is_checkpoint_failing: false,
        })
    }

    /// Counts the open transaction as one more commit, and returns its number.
    pub(super) fn number(&self, connection: &Connection) -> Result<u64, Failure> {
        if self.is_generation_due {
            name_generation(connection)?;
        }
        Ok(count_one(connection)?)
    }

    /// Records that the commit of this number is on the disk.
    pub(super) fn done(&mut self, number: u64) {
        self.mark.set(number);
        // An operator's own connection may have copied the log as well; then the log restarted without a new
        // generation.
        let has_begun_again = FRAMES.get() < self.frames;
        self.is_generation_due = has_begun_again && !self.is_generation_due;
        self.frames = FRAMES.get();
    }

    /// Copies the log into the file if it has become long. It does not wait for readers, unless it has become very long: what
    /// they hold is copied next time.
    pub(super) fn checkpoint_if_due(&mut self, connection: &Connection) {
        let is_wanted = IS_WANTED.take();
        let is_wipe_wanted = IS_WIPE_WANTED.get();
        if FRAMES.get() < CHECKPOINT_FRAMES && !is_wanted && !is_wipe_wanted {
            return;
        }
        self.is_generation_due = true;
        self.mark.sync();
        let copied = if is_wipe_wanted {
            wipe(connection)
        } else if FRAMES.get() >= self.restart_at {
            self.restart(connection)
        } else {
            copy(connection)
        };
        match copied {
            Ok(()) => self.is_checkpoint_failing = false,
            Err(error) if !self.is_checkpoint_failing => {
                self.is_checkpoint_failing = true;
                tracing::error!(%error, "the ledger's log cannot be copied into its file and grows; trying again with each commit");
            }
            Err(_) => {}
        }
    }

    /// Copies the log and waits, for a bounded time, until it can begin again.
    fn restart(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        connection.busy_timeout(RESTART_WAIT)?;
        let restarted =
            connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, i64>(0));
        connection.busy_timeout(BUSY_WAIT)?;
        // The first column is 0 if no reader was in the way.
        let is_done = restarted? == 0;
        self.restart_at =
            if is_done { RESTART_FRAMES } else { FRAMES.get().saturating_add(CHECKPOINT_FRAMES) };
        Ok(())
    }

    /// Ends the numbering: everything is committed, and the connection is about to close.
    pub(super) fn end(&mut self) {
        self.mark.sync();
    }
}

fn copy(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Copies the log and cuts it to nothing, if no reader needs it.
fn wipe(connection: &Connection) -> rusqlite::Result<()> {
    // Commits wait for this thread, so it does not wait for readers.
    connection.busy_timeout(Duration::ZERO)?;
    let cut = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    connection.busy_timeout(BUSY_WAIT)?;
    // The first column is 0 if nothing kept the log from being cut.
    if cut? == 0 {
        IS_WIPE_WANTED.set(false);
    }
    Ok(())
}

/// Returns how many commits the ledger records.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT value FROM totals WHERE name = 'commits'";
    let commits: Option<i64> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(commits.and_then(|commits| u64::try_from(commits).ok()).unwrap_or(0))
}

/// Adds one to the count, which shares its page with the other totals, most of which change in the same transactions.
fn count_one(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "INSERT INTO totals (name, value) VALUES ('commits', 1)
         ON CONFLICT (name) DO UPDATE SET value = totals.value + 1 RETURNING value";
    let commits: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(u64::try_from(commits).unwrap_or(0))
}

/// Names a new generation, and the one before it.
pub(super) fn name_generation(connection: &Connection) -> Result<(), Failure> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| {
        LedgerError::Unavailable(format!("no randomness from the operating system: {error}"))
    })?;
    let followed: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    // Zero stands for a ledger from before generations.
    let fresh = i32::from_ne_bytes(bytes) | 1;
    connection.pragma_update(None, "application_id", followed)?;
    connection.pragma_update(None, "user_version", fresh)?;
    Ok(())
}
