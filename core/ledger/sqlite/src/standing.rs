//! The projector: folds postings into balances and standings, in the order of their sequence. `ledger::fold` decides
//! what a posting weighs.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteLedger;
use super::failure::Failure;
use super::node_days::add_days;
use super::postings::{POSTING_COLUMNS, posting};
use super::values::{Blob, Numbered as _, Word, count, millis, time, whole};
use infera_ledger::fold::{counts, fold_balance, fold_standing, subject};
use infera_ledger::{
    Balance, LedgerError, NodeDay, NodeStanding, Posting, PostingEntry, Standing, node_days,
};
use infera_types::day::Day;
use infera_types::ids::{JobId, ModelName, NodeId};
use infera_types::time::Timestamp;

/// The projector's name in the table of progress.
const PROJECTOR: &str = "standing";

#[async_trait]
impl Standing for SqliteLedger {
    /// Callers take turns because there is one writer.
    async fn project(&self, limit: u32, _now: Timestamp) -> Result<u32, LedgerError> {
        self.write(move |connection| project(connection, limit)).await
    }

    async fn standings(&self) -> Result<Vec<NodeStanding>, LedgerError> {
        self.read(|connection| {
            let sql = format!("SELECT {STANDING_COLUMNS} FROM standings ORDER BY node, model");
            let mut statement = connection.numbered_once(&sql)?;
            let standings = statement.query_map([], standing)?;
            Ok(standings.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn balance(&self, subject: &str) -> Result<Balance, LedgerError> {
        let subject = subject.to_owned();
        self.read(move |connection| read_balance(connection, &subject)).await
    }

    async fn dispute(&self, job: JobId, detail: &str, now: Timestamp) -> Result<(), LedgerError> {
        let detail = detail.to_owned();
        self.write(move |connection| dispute(connection, job, &detail, now)).await
    }

    async fn replay(&self) -> Result<Vec<(String, Balance)>, LedgerError> {
        self.read(|connection| {
            let mut balances = BTreeMap::<String, Balance>::new();
            let sql = format!("SELECT {POSTING_COLUMNS} FROM postings ORDER BY sequence");
            let mut statement = connection.numbered_once(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (_, Posting { entry, .. }) = posting(row)?;
                fold_balance(balances.entry(subject(&entry).to_owned()).or_default(), &entry);
            }
            Ok(balances.into_iter().collect())
        })
        .await
    }
}

fn project(connection: &Connection, limit: u32) -> Result<u32, Failure> {
    let done: i64 = connection
        .numbered("SELECT sequence FROM projected WHERE name = $1")?
        .query_row([PROJECTOR], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    let postings = postings_after(connection, done, limit)?;
    let Some((last, _)) = postings.last() else { return Ok(0) };
    let mut balances = HashMap::<&str, Balance>::new();
    let mut standings = HashMap::<(&NodeId, &ModelName), Option<NodeStanding>>::new();
    let mut days = HashMap::<(&NodeId, Day), NodeDay>::new();
    for (_, posting) in &postings {
        if let Some((node, sums)) = node_days::of_posting(posting) {
            days.entry((node, sums.day)).or_insert_with(|| NodeDay::empty(sums.day)).add(&sums);
        }
        let subject = subject(&posting.entry);
        let balance = match balances.entry(subject) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(read_balance(connection, subject)?),
        };
        fold_balance(balance, &posting.entry);
        if let PostingEntry::Verdict { node, model, .. } = &posting.entry
            && counts(&posting.entry)
        {
            let kept = match standings.entry((node, model)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(read_standing(connection, node, model)?),
            };
            fold_standing(kept, posting);
        }
    }
    for (subject, balance) in &balances {
        write_balance(connection, subject, balance)?;
    }
    for standing in standings.values().flatten() {
        write_standing(connection, standing)?;
    }
    add_days(connection, &days)?;
    connection
        .numbered(
            "INSERT INTO projected (name, sequence) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence",
        )?
        .execute(params![PROJECTOR, last])?;
    Ok(u32::try_from(postings.len()).unwrap_or(u32::MAX))
}

fn postings_after(connection: &Connection, done: i64, limit: u32) -> Result<Vec<(i64, Posting)>, Failure> {
    let sql =
        format!("SELECT {POSTING_COLUMNS} FROM postings WHERE sequence > $1 ORDER BY sequence LIMIT $2");
    let mut statement = connection.numbered_once(&sql)?;
    let mut rows = statement.query(params![done, limit])?;
    let mut postings = Vec::new();
    while let Some(row) = rows.next()? {
        postings.push(posting(row)?);
    }
    Ok(postings)
}

fn read_balance(connection: &Connection, subject: &str) -> Result<Balance, Failure> {
    let balance = connection
        .numbered(
            "SELECT millipoints, prompt_tokens, completion_tokens, postings FROM balances WHERE subject = $1",
        )?
        .query_row([Word(subject)], |row| {
            Ok(Balance {
                millipoints: row.get(0)?,
                prompt_tokens: count(row, 1)?,
                completion_tokens: count(row, 2)?,
                postings: count(row, 3)?,
            })
        })
        .optional()?;
    Ok(balance.unwrap_or_default())
}

fn write_balance(connection: &Connection, subject: &str, balance: &Balance) -> Result<(), Failure> {
    connection
        .numbered(
            "INSERT INTO balances (subject, millipoints, prompt_tokens, completion_tokens, postings)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (subject) DO UPDATE SET millipoints = excluded.millipoints,
                 prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
                 postings = excluded.postings",
        )?
        .execute(params![
            Word(subject),
            balance.millipoints,
            whole(balance.prompt_tokens),
            whole(balance.completion_tokens),
            whole(balance.postings)
        ])?;
    Ok(())
}

pub(super) const STANDING_COLUMNS: &str = "node, model, good, bad, on_time, asked, tokens, seconds, valid_count, \
                                first_valid_ms, updated_ms";

pub(super) fn standing(row: &Row<'_>) -> rusqlite::Result<NodeStanding> {
    let first_valid_ms: Option<i64> = row.get(9)?;
    Ok(NodeStanding {
        node: NodeId::new(row.get::<_, String>(0)?),
        model: ModelName::new(row.get::<_, String>(1)?),
        good: row.get(2)?,
        bad: row.get(3)?,
        on_time: row.get(4)?,
        asked: row.get(5)?,
        tokens: row.get(6)?,
        seconds: row.get(7)?,
        valid_count: count(row, 8)?,
        first_valid_ms: first_valid_ms.map(|_| time(row, 9)).transpose()?,
        updated_ms: time(row, 10)?,
    })
}

fn read_standing(
    connection: &Connection,
    node: &NodeId,
    model: &ModelName,
) -> Result<Option<NodeStanding>, Failure> {
    let sql = format!("SELECT {STANDING_COLUMNS} FROM standings WHERE node = $1 AND model = $2");
    let found = connection
        .numbered_once(&sql)?
        .query_row(params![Word(node.as_str()), Word(model.as_str())], standing)
        .optional()?;
    Ok(found)
}

fn write_standing(connection: &Connection, standing: &NodeStanding) -> Result<(), Failure> {
    let sql = format!(
        "INSERT INTO standings ({STANDING_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (node, model) DO UPDATE SET good = excluded.good, bad = excluded.bad,
             on_time = excluded.on_time, asked = excluded.asked, tokens = excluded.tokens,
             seconds = excluded.seconds, valid_count = excluded.valid_count,
             first_valid_ms = excluded.first_valid_ms, updated_ms = excluded.updated_ms"
    );
    connection.numbered_once(&sql)?.execute(params![
        Word(standing.node.as_str()),
        Word(standing.model.as_str()),
        standing.good,
        standing.bad,
        standing.on_time,
        standing.asked,
        standing.tokens,
        standing.seconds,
        whole(standing.valid_count),
        standing.first_valid_ms.map(millis),
        millis(standing.updated_ms)
    ])?;
    Ok(())
}

fn dispute(connection: &Connection, job: JobId, detail: &str, now: Timestamp) -> Result<(), Failure> {
    let opened = connection
        .numbered(
            "INSERT INTO disputes (job_id, status, detail, opened_ms)
             SELECT job_id, 'disputed', $2, $3 FROM settlements WHERE job_id = $1
             ON CONFLICT (job_id) DO NOTHING",
        )?
        .execute(params![job.blob(), Word(detail), millis(now)])?;
    let is_known = || -> rusqlite::Result<bool> {
        connection.numbered("SELECT 1 FROM disputes WHERE job_id = $1")?.exists([job.blob()])
    };
    if opened == 0 && !is_known()? {
        return Err(Failure::row(format!("{job} has not ended; there is nothing to dispute")));
    }
    Ok(())
}
