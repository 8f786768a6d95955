//! Reputation, balances and disputes as they are stored. `projecting` folds them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::posting::{posting, posting_columns};
use super::values::{count, get, millis, time, word};
use infera_ledger::fold::{fold_balance, subject};
use infera_ledger::{Balance, LedgerError, NodeStanding, Posting, Standing};
use infera_types::ids::{JobId, ModelName, NodeId};
use infera_types::time::Timestamp;

/// The columns that [`balance`] reads, after the subject.
pub(super) const BALANCES: &str =
    "SELECT subject, millipoints, prompt_tokens, completion_tokens, postings FROM balances";

/// The columns that [`standing`] reads.
pub(super) const STANDINGS: &str =
    "SELECT node, model, good, bad, on_time, asked, tokens, seconds, valid_count,
        first_valid_ms, updated_ms FROM standings";

/// How many postings are replayed at a time: some megabytes.
const REPLAYED_AT_ONCE: i64 = 10_000;

#[async_trait]
impl Standing for PostgresLedger {
    async fn project(&self, limit: u32, _now: Timestamp) -> Result<u32, LedgerError> {
        let _turn = self.projecting.lock().await;
        self.project_once(limit).await
    }

    async fn standings(&self) -> Result<Vec<NodeStanding>, LedgerError> {
        // Sorted by bytes, as SQLite does, whatever the database's language.
        let sql = format!("{STANDINGS} ORDER BY node COLLATE \"C\", model COLLATE \"C\"");
        self.pool.query(&sql, &[]).await?.iter().map(standing).collect()
    }

    async fn balance(&self, subject: &str) -> Result<Balance, LedgerError> {
        let sql = format!("{BALANCES} WHERE subject = $1");
        let row = self.pool.query_opt(&sql, &[&word(subject)?]).await?;
        row.map_or_else(|| Ok(Balance::default()), |row| balance(&row))
    }

    async fn dispute(&self, job: JobId, detail: &str, now: Timestamp) -> Result<(), LedgerError> {
        let id = &job.as_bytes()[..];
        let sql = "INSERT INTO disputes (job_id, status, detail, opened_ms)
                   SELECT job_id, 'disputed', $2, $3 FROM settlements WHERE job_id = $1
                   ON CONFLICT (job_id) DO NOTHING RETURNING 1";
        if !self.pool.put(sql, &[&id, &word(detail)?, &millis(now)]).await?.is_empty() {
            return Ok(());
        }
        let known = self.pool.query_opt("SELECT 1 FROM disputes WHERE job_id = $1", &[&id]).await?;
        let early = || LedgerError::Row(format!("{job} has not ended; there is nothing to dispute"));
        known.map(|_| ()).ok_or_else(early)
    }

    async fn replay(&self) -> Result<Vec<(String, Balance)>, LedgerError> {
        let mut balances = BTreeMap::<String, Balance>::new();
        let sql = concat!(
            "SELECT sequence, ",
            posting_columns!(),
            " FROM postings WHERE sequence > $1 ORDER BY sequence LIMIT $2"
        );
        let mut done = 0_i64;
        loop {
            let rows = self.pool.query(sql, &[&done, &REPLAYED_AT_ONCE]).await?;
            let Some(last) = rows.last() else { break };
            done = get(last, 0)?;
            for row in &rows {
                let Posting { entry, .. } = posting(row, 1)?;
                fold_balance(balances.entry(subject(&entry).to_owned()).or_default(), &entry);
            }
        }
        Ok(balances.into_iter().collect())
    }
}

/// Reads a row of [`BALANCES`].
pub(super) fn balance(row: &Row) -> Result<Balance, LedgerError> {
    Ok(Balance {
        millipoints: get(row, 1)?,
        prompt_tokens: count(row, 2)?,
        completion_tokens: count(row, 3)?,
        postings: count(row, 4)?,
    })
}

/// Reads a row of [`STANDINGS`].
pub(super) fn standing(row: &Row) -> Result<NodeStanding, LedgerError> {
    let first_valid_ms: Option<i64> = get(row, 9)?;
    Ok(NodeStanding {
        node: NodeId::new(get::<String>(row, 0)?),
        model: ModelName::new(get::<String>(row, 1)?),
        good: get(row, 2)?,
        bad: get(row, 3)?,
        on_time: get(row, 4)?,
        asked: get(row, 5)?,
        tokens: get(row, 6)?,
        seconds: get(row, 7)?,
        valid_count: count(row, 8)?,
        first_valid_ms: first_valid_ms.map(|_| time(row, 9)).transpose()?,
        updated_ms: time(row, 10)?,
    })
}
