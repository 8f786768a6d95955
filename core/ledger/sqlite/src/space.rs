//! Giving space back to the disk while the ledger runs. SQLite keeps pages that became free for what is stored next; a
//! file that was made for it can also give them back, some at a time, which costs moving those behind them.

use std::path::Path;

use rusqlite::Connection;

use super::commits;
use super::failure::Failure;

/// Free pages that stay in the file, 16 MiB: what goes and what comes in a day needs no moving.
const SPARE_PAGES: u64 = 4096;

/// Pages given back by one operation of the writer, 4 MiB: some milliseconds.
const PAGES_AT_ONCE: u64 = 1024;

/// How large a file of an earlier version may be to be rewritten at its start, in bytes: that takes a second at most.
const REBUILT_AT_START_BYTES: u64 = 64 * 1024 * 1024;

/// SQLite's word for files that give pages back when they are told to.
const INCREMENTAL: i64 = 2;

/// Makes a file that has no table yet one that gives pages back.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "auto_vacuum", INCREMENTAL)
}

/// Makes a small file from before such a file, or says how an operator can.
pub(super) fn prepare_old(path: &Path, connection: &Connection) -> Result<(), Failure> {
    if number(connection, "auto_vacuum")? == INCREMENTAL.unsigned_abs() {
        return Ok(());
    }
    let bytes = number(connection, "page_count")?.saturating_mul(number(connection, "page_size")?);
    if bytes > REBUILT_AT_START_BYTES {
        tracing::info!(
            path = %path.display(), bytes,
            "the ledger's file can't become smaller while it runs; `infera compact`, once it is stopped, mends that"
        );
        return Ok(());
    }
    // Without room on the disk it stays as it is, whole.
    if let Err(error) = rebuild(connection) {
        tracing::warn!(path = %path.display(), %error, "the ledger's file can't be made smaller now");
    }
    Ok(())
}

/// Rewrites the whole file without its free pages, as one that gives pages back from then on. It is one transaction: if it
/// is cut off, the file stays as it was.
pub(super) fn rebuild(connection: &Connection) -> rusqlite::Result<()> {
    prepare(connection)?;
    connection.execute_batch("VACUUM")
}

/// Gives some pages back, within the writer's transaction, and says whether there are more.
pub(super) fn give_back(connection: &Connection) -> Result<bool, Failure> {
    let spare = number(connection, "freelist_count")?.saturating_sub(SPARE_PAGES);
    if spare == 0 || number(connection, "auto_vacuum")? != INCREMENTAL.unsigned_abs() {
        return Ok(false);
    }
    let pages = spare.min(PAGES_AT_ONCE);
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    // Moving pages changes no row, and a commit that changes none is not counted.
    connection.execute("UPDATE totals SET value = value WHERE name = 'commits'", [])?;
    // The file is cut when the log is copied into it.
    commits::checkpoint_soon();
    Ok(spare > pages)
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<u64> {
    let value: i64 = connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))?;
    Ok(value.unsigned_abs())
}
