//! The projector: folds postings into balances and standings, in the order of their sequence, in one transaction that
//! locks the row with its progress. `ledger::fold` decides what a posting weighs. It also says up to which number the
//! ends of jobs can be read.

use std::collections::HashMap;

use deadpool_postgres::{ClientWrapper, Transaction};
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

use super::PostgresLedger;
use super::failure::{Effect, Failure};
use super::pool::{ANSWER_WAIT, TRIES, discard};
use super::posting::{HOLD_SEQUENCE, posting, posting_columns};
use super::roster::add_days;
use super::standing::{BALANCES, STANDINGS, balance, standing};
use super::values::{get, millis, whole};
use infera_ledger::fold::{counts, fold_balance, fold_standing, subject};
use infera_ledger::{Balance, LedgerError, NodeDay, NodeStanding, Posting, PostingEntry, node_days};
use infera_types::day::Day;
use infera_types::ids::{ModelName, NodeId};

/// The projector's name in the table of progress.
const PROJECTOR: &str = "standing";

const POSTINGS: &str = concat!(
    "SELECT sequence, ",
    posting_columns!(),
    " FROM postings WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence LIMIT $3"
);

const WRITE_BALANCES: &str =
    "INSERT INTO balances (subject, millipoints, prompt_tokens, completion_tokens, postings)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
    ON CONFLICT (subject) DO UPDATE SET millipoints = excluded.millipoints,
        prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
        postings = excluded.postings";

const WRITE_STANDING: &str = "INSERT INTO standings (node, model, good, bad, on_time, asked, tokens, seconds,
        valid_count, first_valid_ms, updated_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (node, model) DO UPDATE SET good = excluded.good, bad = excluded.bad,
        on_time = excluded.on_time, asked = excluded.asked, tokens = excluded.tokens,
        seconds = excluded.seconds, valid_count = excluded.valid_count,
        first_valid_ms = excluded.first_valid_ms, updated_ms = excluded.updated_ms";

impl PostgresLedger {
    /// Folds at most `limit` postings.
    pub(super) async fn project_once(&self, limit: u32) -> Result<u32, LedgerError> {
        let mut tried = 1;
        loop {
            match self.project_within(limit).await {
                Ok(folded) => return Ok(folded),
                Err(failure) if failure.is_transient && tried < TRIES => tried += 1,
                Err(failure) => return Err(failure.error),
            }
        }
    }

    async fn project_within(&self, limit: u32) -> Result<u32, Failure> {
        let mut connection = self.pool.lend().await?;
        let work = async {
            let until = complete_until(&connection).await?;
            show_ends(&connection, until.ends).await?;
            let until = until.postings;
            let transaction = connection.transaction().await?;
            let folded = project(&transaction, until, limit).await?;
            transaction.commit().await.map_err(Failure::of_commit)?;
            Ok(folded)
        };
        match timeout(ANSWER_WAIT, work).await {
            Ok(done) => done,
            Err(_) => {
                discard(connection);
                Err(Effect::Commits.silence())
            }
        }
    }
}

/// The numbers up to which everything is committed: a smaller number is that of a committed row, or of none.
struct Complete {
    postings: i64,
    ends: i64,
}

/// Returns the numbers up to which every posting and every end is committed.
async fn complete_until(client: &ClientWrapper) -> Result<Complete, Failure> {
    let (begun, held, postings, ends, ended) = tokio::join!(
        biased;
        client.batch_execute("BEGIN"),
        client.batch_execute(HOLD_SEQUENCE),
        client.simple_query("SELECT COALESCE(MAX(sequence), 0) FROM postings"),
        // Asked of the sequence, because no index has the numbers of all accounts.
        client.simple_query("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ends_number_seq"),
        client.batch_execute("COMMIT"),
    );
    begun?;
    held?;
    let (postings, ends) = (postings?, ends?);
    ended?;
    Ok(Complete { postings: number(&postings)?, ends: number(&ends)? })
}

fn number(answer: &[SimpleQueryMessage]) -> Result<i64, LedgerError> {
    let number = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    number.ok_or_else(|| LedgerError::Row("the last number of a sequence is not a number".to_owned()))
}

/// Lets clients read the ends up to this number. The number never falls, whichever of two projectors writes last.
async fn show_ends(client: &ClientWrapper, until: i64) -> Result<(), Failure> {
    let sql = "UPDATE projected SET sequence = $1 WHERE name = 'ends' AND sequence < $1";
    let statement = client.prepare_cached(sql).await?;
    client.execute(&statement, &[&until]).await.map_err(|error| Failure::of_commit(error).repeatable())?;
    Ok(())
}

async fn project(transaction: &Transaction<'_>, until: i64, limit: u32) -> Result<u32, Failure> {
    let sql = "SELECT sequence FROM projected WHERE name = $1 FOR UPDATE";
    let row = transaction.query_one(&transaction.prepare_cached(sql).await?, &[&PROJECTOR]).await?;
    let done: i64 = get(&row, 0)?;
    let statement = transaction.prepare_cached(POSTINGS).await?;
    let rows = transaction.query(&statement, &[&done, &until, &i64::from(limit)]).await?;
    let Some(last) = rows.last() else { return Ok(0) };
    let last: i64 = get(last, 0)?;
    let postings = rows.iter().map(|row| posting(row, 1)).collect::<Result<Vec<_>, _>>()?;
    let mut balances = read_balances(transaction, &postings).await?;
    let mut standings = read_standings(transaction, &postings).await?;
    let mut days = HashMap::<(&NodeId, Day), NodeDay>::new();
    for posting in &postings {
        if let Some((node, sums)) = node_days::of_posting(posting) {
            days.entry((node, sums.day)).or_insert_with(|| NodeDay::empty(sums.day)).add(&sums);
        }
        fold_balance(balances.entry(subject(&posting.entry).to_owned()).or_default(), &posting.entry);
        if let Some(key) = judged(posting) {
            let mut kept = standings.remove(&key);
            fold_standing(&mut kept, posting);
            standings.extend(kept.map(|standing| (key, standing)));
        }
    }
    write_balances(transaction, &balances).await?;
    for standing in standings.values() {
        write_standing(transaction, standing).await?;
    }
    add_days(transaction, &days).await?;
    let sql = "UPDATE projected SET sequence = $2 WHERE name = $1";
    transaction.execute(&transaction.prepare_cached(sql).await?, &[&PROJECTOR, &last]).await?;
    Ok(u32::try_from(postings.len()).unwrap_or(u32::MAX))
}

/// Returns the node whose standing a posting changes, and the model that the standing is for.
fn judged(posting: &Posting) -> Option<(NodeId, ModelName)> {
    match &posting.entry {
        PostingEntry::Verdict { node, model, .. } if counts(&posting.entry) => {
            Some((node.clone(), model.clone()))
        }
        _ => None,
    }
}

async fn read_balances(
    transaction: &Transaction<'_>,
    postings: &[Posting],
) -> Result<HashMap<String, Balance>, Failure> {
    let subjects: Vec<&str> = postings.iter().map(|posting| subject(&posting.entry)).collect();
    let statement = transaction.prepare_cached(&format!("{BALANCES} WHERE subject = ANY($1)")).await?;
    let mut balances = HashMap::new();
    for row in &transaction.query(&statement, &[&subjects]).await? {
        balances.insert(get(row, 0)?, balance(row)?);
    }
    Ok(balances)
}

async fn read_standings(
    transaction: &Transaction<'_>,
    postings: &[Posting],
) -> Result<HashMap<(NodeId, ModelName), NodeStanding>, Failure> {
    let keys: Vec<(NodeId, ModelName)> = postings.iter().filter_map(judged).collect();
    let (nodes, models): (Vec<&str>, Vec<&str>) =
        keys.iter().map(|(node, model)| (node.as_str(), model.as_str())).unzip();
    let sql = format!("{STANDINGS} WHERE (node, model) IN (SELECT * FROM unnest($1::text[], $2::text[]))");
    let statement = transaction.prepare_cached(&sql).await?;
    let mut standings = HashMap::new();
    for row in &transaction.query(&statement, &[&nodes, &models]).await? {
        let standing = standing(row)?;
        standings.insert((standing.node.clone(), standing.model.clone()), standing);
    }
    Ok(standings)
}

async fn write_balances(
    transaction: &Transaction<'_>,
    balances: &HashMap<String, Balance>,
) -> Result<(), Failure> {
    let subjects: Vec<&str> = balances.keys().map(String::as_str).collect();
    let column = |value: fn(&Balance) -> i64| balances.values().map(value).collect::<Vec<i64>>();
    let millipoints = column(|balance| balance.millipoints);
    let prompts = column(|balance| whole(balance.prompt_tokens));
    let completions = column(|balance| whole(balance.completion_tokens));
    let postings = column(|balance| whole(balance.postings));
    let statement = transaction.prepare_cached(WRITE_BALANCES).await?;
    transaction.execute(&statement, &[&subjects, &millipoints, &prompts, &completions, &postings]).await?;
    Ok(())
}

async fn write_standing(transaction: &Transaction<'_>, standing: &NodeStanding) -> Result<(), Failure> {
    let statement = transaction.prepare_cached(WRITE_STANDING).await?;
    let NodeStanding { good, bad, on_time, asked, tokens, seconds, .. } = standing;
    let (node, model) = (standing.node.as_str(), standing.model.as_str());
    let (valid, first) = (whole(standing.valid_count), standing.first_valid_ms.map(millis));
    let updated = millis(standing.updated_ms);
    transaction
        .execute(
            &statement,
            &[&node, &model, good, bad, on_time, asked, tokens, seconds, &valid, &first, &updated],
        )
        .await?;
    Ok(())
}
