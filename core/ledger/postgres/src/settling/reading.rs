//! Reads ends from rows.

use tokio_postgres::Row;

use crate::values::{get, job_id, optional_digest};
use infera_ledger::LedgerError;
use infera_ledger::stored::{group_of, settlement_of};
use infera_types::job::Settlement;

/// Reads a settlement, without its group, from a row whose first columns are its job, its JSON and the JSON's hash.
pub(crate) fn settlement(row: &Row) -> Result<Settlement, LedgerError> {
    settlement_of(job_id(row, 0)?, get::<&str>(row, 1)?.as_bytes(), optional_digest(row, 2)?)
}

/// Reads a settlement from a row that also has the group's record and its hash, which are null if there is none.
pub(crate) fn with_group(row: &Row) -> Result<Settlement, LedgerError> {
    let record: Option<&[u8]> = get(row, 3)?;
    let hash = optional_digest(row, 4)?;
    let group = record.map(|record| group_of(record, hash)).transpose()?;
    Ok(Settlement { group, ..settlement(row)? })
}
