//! Returns disk space while the ledger runs. SQLite keeps pages that become free for later rows. A file that was
//! created for it can also return them, some at a time, which costs moving the pages behind them.

use std::path::Path;

use rusqlite::Connection;

use super::commits;
use super::failure::Failure;

/// Free pages that stay in the file, 16 MiB: what a day deletes and adds needs no moving.
const SPARE_PAGES: u64 = 4096;

/// Pages that one operation of the writer returns, 4 MiB: some milliseconds.
const PAGES_AT_ONCE: u64 = 1024;

/// The largest file of an earlier version that is rewritten at start, in bytes: that takes a second at most.
const REBUILT_AT_START_BYTES: u64 = 64 * 1024 * 1024;

/// SQLite's value for files that return pages on request.
const INCREMENTAL: i64 = 2;

/// Prepares a file without tables to return pages.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "auto_vacuum", INCREMENTAL)
}

/// Rewrites a small file of an earlier version so that it can return pages, or says how an operator can do it.
pub(super) fn prepare_old(path: &Path, connection: &Connection) -> Result<(), Failure> {
    if number(connection, "auto_vacuum")? == INCREMENTAL.unsigned_abs() {
        return Ok(());
    }
    let bytes = number(connection, "page_count")?.saturating_mul(number(connection, "page_size")?);
    if bytes > REBUILT_AT_START_BYTES {
        tracing::info!(
            path = %path.display(), bytes,
            "the ledger's file cannot shrink while the program runs; stop it and run `infera compact` once to change that"
        );
        return Ok(());
    }
    // Without enough disk space the file stays as it is, whole.
    if let Err(error) = rebuild(connection) {
        tracing::warn!(path = %path.display(), %error, "the ledger's file could not be rewritten; it stays as it is");
    }
    Ok(())
}

/// Rewrites the whole file without its free pages, as a file that can return pages from then on. It is one
/// transaction: if it is cut off, the file stays as it was.
pub(super) fn rebuild(connection: &Connection) -> rusqlite::Result<()> {
    prepare(connection)?;
    connection.execute_batch("VACUUM")
}

/// Returns some pages to the disk, within the writer's transaction, and says whether there are more.
pub(super) fn give_back(connection: &Connection) -> Result<bool, Failure> {
    let spare = number(connection, "freelist_count")?.saturating_sub(SPARE_PAGES);
    if spare == 0 || number(connection, "auto_vacuum")? != INCREMENTAL.unsigned_abs() {
        return Ok(false);
    }
    let pages = spare.min(PAGES_AT_ONCE);
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    // Moving pages changes no row, and a commit without a changed row is not counted.
    connection.execute("UPDATE totals SET value = value WHERE name = 'commits'", [])?;
    // The file shrinks when the log is copied into it.
    commits::checkpoint_soon();
    Ok(spare > pages)
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<u64> {
    let value: i64 = connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))?;
    Ok(value.unsigned_abs())
}
