//! Counts the pages of a ledger's file that hold something.

use std::path::Path;

use infera_bench::Fault;
use rusqlite::Connection;

use crate::unpacking::unpack;

/// Returns the bytes of the pages that aren't free.
pub(crate) fn used(path: &Path) -> Result<u64, Fault> {
    let connection = Connection::open(path)?;
    let number = |pragma: &str| -> Result<u64, Fault> {
        let value: i64 = connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))?;
        Ok(value.unsigned_abs())
    };
    Ok((number("page_count")? - number("freelist_count")?) * number("page_size")?)
}

/// Returns the bytes per job of each table and index, the largest first.
pub(crate) fn by_table(path: &Path, jobs: u32) -> Result<Vec<(String, f64)>, Fault> {
    let connection = Connection::open(path)?;
    let sql = "SELECT name, SUM(pgsize) AS bytes FROM dbstat GROUP BY name ORDER BY bytes DESC";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, f64>(1)? / f64::from(jobs))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Writes the ledger at `path` to `before` as the version before had it, and returns the bytes of its pages.
pub(crate) fn as_before(path: &Path, before: &Path) -> Result<u64, Fault> {
    Connection::open(path)?.execute("VACUUM INTO ?1", [before.to_string_lossy()])?;
    let connection = Connection::open(before)?;
    connection.execute_batch(
        "DROP INDEX postings_job_node; DROP INDEX records_ungrouped;
         CREATE UNIQUE INDEX postings_valid ON postings (job_id, valid_node) WHERE valid_node IS NOT NULL;
         CREATE INDEX postings_job ON postings (job_id)",
    )?;
    connection.execute_batch("BEGIN")?;
    unpack(&connection);
    connection.execute_batch("COMMIT; VACUUM")?;
    drop(connection);
    used(before)
}
