//! The account book's rows: written packed, and read in that form and in the one of before, whose ids and contents are text.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use super::failure::Failure;
use super::values::{Blob, Numbered as _, Word, job_id, millis, time};
use infera_ledger::Posting;
use infera_ledger::stored::packing::posting::{PostingRow, pack_node};

/// Appends a posting, unless its id or its node's VALID for the job exist already, in either form (`$6` and `$7` are those of the
/// other).
const INSERT: &str = "INSERT INTO postings (id, job_id, posted_ms, entry, valid_node)
    SELECT $1, $2, $3, $4, $5
    WHERE NOT EXISTS (SELECT 1 FROM postings WHERE id = $6)
        AND NOT EXISTS (SELECT 1 FROM postings WHERE job_id = $2 AND valid_node = $7)
    ON CONFLICT DO NOTHING";

/// The columns that [`posting`] reads, behind the sequence.
pub(super) const POSTING_COLUMNS: &str = "sequence, id, job_id, posted_ms, entry, valid_node";

/// Appends a posting, unless its id exists already or its node has its VALID for the job.
pub(super) fn insert_posting(connection: &Connection, posting: &Posting) -> Result<(), Failure> {
    let (job, posted_ms) = (posting.job_id.blob(), millis(posting.posted_ms));
    let node = posting.entry.valid_node();
    let mut statement = connection.numbered(INSERT)?;
    match PostingRow::packed(posting)? {
        PostingRow::Packed { id, entry, valid_node } => {
            let plain = node.map(|node| Word(node.as_str()));
            statement.execute(params![id, job, posted_ms, entry, valid_node, Word(&posting.id), plain])?;
        }
        PostingRow::Plain { id, entry, valid_node } => {
            let valid_node = valid_node.as_deref().map(Word);
            let packed = node.map(pack_node);
            statement.execute(params![
                Word(&id),
                job,
                posted_ms,
                entry,
                valid_node,
                None::<String>,
                packed
            ])?;
        }
    }
    Ok(())
}

/// Reads a row of [`POSTING_COLUMNS`]: its sequence and the posting.
pub(super) fn posting(row: &Row<'_>) -> Result<(i64, Posting), Failure> {
    let stored = match row.get_ref(1)? {
        ValueRef::Blob(id) => {
            PostingRow::Packed { id: id.to_vec(), entry: row.get(4)?, valid_node: row.get(5)? }
        }
        _ => PostingRow::Plain { id: row.get(1)?, entry: row.get(4)?, valid_node: row.get(5)? },
    };
    Ok((row.get(0)?, stored.posting(job_id(row, 2)?, time(row, 3)?)?))
}
