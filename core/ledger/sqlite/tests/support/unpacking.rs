//! Writes a ledger's packed rows as programs of before did, so that migrations and readers find what those left.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use infera_ledger::stored::packing::posting::PostingRow;
use infera_ledger::stored::{EndForms, Form, SettlementRow, StoredSettlement, group_of, settlement_of};
use infera_types::ids::{Digest, JobId};
use infera_types::time::Timestamp;
use rusqlite::{Connection, params};

/// Rewrites all rows as text.
pub(crate) fn unpack(connection: &Connection) {
    for (job, stored) in
        rows(connection, "SELECT job_id, settlement FROM settlements WHERE typeof(settlement) = 'blob'")
    {
        let settlement = settlement_of(JobId::from_bytes(job), &stored, None).expect("a settlement");
        let forms = EndForms { settlement: Form::Plain, group: Form::Plain };
        let row = SettlementRow::of(&settlement, forms).expect("a row");
        let StoredSettlement::Plain(json) = &row.settlement else { unreachable!("it is plain") };
        let hash = &row.hash.as_bytes()[..];
        connection
            .execute(
                "UPDATE settlements SET settlement = ?2, hash = ?3 WHERE job_id = ?1",
                params![job, json, hash],
            )
            .expect("update");
    }
    for (job, stored) in rows(connection, "SELECT job_id, record FROM groups WHERE length(record) > 0") {
        let json = serde_json::to_vec(&group_of(&stored, None).expect("a group")).expect("JSON");
        let hash = Digest::of(&json);
        connection
            .execute(
                "UPDATE groups SET record = ?2, hash = ?3 WHERE job_id = ?1",
                params![job, json, &hash.as_bytes()[..]],
            )
            .expect("update");
    }
    unpack_postings(connection);
}

fn unpack_postings(connection: &Connection) {
    let sql = "SELECT sequence, id, entry, valid_node, job_id FROM postings WHERE typeof(id) = 'blob'";
    let mut statement = connection.prepare(sql).expect("a statement");
    let packed = statement.query_map([], |row| {
        let stored = PostingRow::Packed { id: row.get(1)?, entry: row.get(2)?, valid_node: row.get(3)? };
        Ok((row.get::<_, i64>(0)?, stored, row.get::<_, [u8; 16]>(4)?))
    });
    let packed: Vec<_> = packed.expect("rows").collect::<Result<_, _>>().expect("readable rows");
    for (sequence, row, job) in packed {
        let posting = row.posting(JobId::from_bytes(job), Timestamp::from_millis(0)).expect("a posting");
        let PostingRow::Plain { id, entry, valid_node } = PostingRow::plain(&posting).expect("a row") else {
            unreachable!("it is plain")
        };
        connection
            .execute(
                "UPDATE postings SET id = ?2, entry = ?3, valid_node = ?4 WHERE sequence = ?1",
                params![sequence, id, entry, valid_node],
            )
            .expect("update");
    }
}

fn rows(connection: &Connection, sql: &str) -> Vec<([u8; 16], Vec<u8>)> {
    let mut statement = connection.prepare(sql).expect("a statement");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.expect("rows").collect::<Result<_, _>>().expect("readable rows")
}
