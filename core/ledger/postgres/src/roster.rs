//! Nodes as their owners see them, and what they did on each day.

use std::collections::HashMap;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::failure::Failure;
use super::node_groups::{pools, pools_version};
use super::pool::Parameters;
use super::standing::{STANDINGS, standing};
use super::values::{count, from_json, get, millis, optional_time, time, to_json, whole, word};
use infera_ledger::statements::{
    COUNT_NODES, ENLIST_NODE, NODE_DAYS, NODE_VIEW, NODE_WISHES, OFFER_MODELS, RESTRICT_NODE, WITHDRAW_NODE,
};
use infera_ledger::{
    LedgerError, NodeChange, NodeDay, NodePools, NodeReader, NodeRoster, NodeStanding, NodeView, NodeWish,
    PoolReader, ServingNode, VerdictCounts, Whose, add_to_node_day, node_day_columns, serving_nodes,
};
use infera_types::day::Day;
use infera_types::ids::{ModelName, NodeId, OwnerId};
use infera_types::time::Timestamp;

/// Adds to nodes' days what some postings add up to. Projectors take turns, so that no two of these statements wait for
/// each other.
const ADD_DAYS: &str = concat!(
    "INSERT INTO node_days (",
    node_day_columns!(),
    ") SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
        $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])",
    add_to_node_day!()
);

const SERVING: &str = serving_nodes!("nodes.models::jsonb ? standings.model");

#[async_trait]
impl NodeRoster for PostgresLedger {
    async fn node_of(&self, whose: &Whose, name: &str) -> Result<Option<NodeView>, LedgerError> {
        let owner = whose.owner().map(word).transpose()?;
        let row = self.pool.query_opt(NODE_VIEW, &[&word(name)?, &owner]).await?;
        row.as_ref().map(node_view).transpose()
    }

    async fn count_of(&self, owner: &OwnerId) -> Result<u64, LedgerError> {
        let row = self.pool.query_opt(COUNT_NODES, &[&word(owner.as_str())?]).await?;
        row.map_or(Ok(0), |row| count(&row, 0))
    }

    async fn change_node(
        &self,
        whose: &Whose,
        name: &str,
        change: &NodeChange,
        now: Timestamp,
    ) -> Result<Option<NodeView>, LedgerError> {
        let (name, owner) = (word(name)?, whose.owner().map(word).transpose()?);
        let told = |version: &Option<String>| {
            version.as_deref().map(word).transpose().map(|told| told.map(str::to_owned))
        };
        let rows = match change {
            NodeChange::Enlist { version } => {
                self.pool.put(ENLIST_NODE, &[&name, &owner, &told(version)?]).await?
            }
            NodeChange::Withdraw { version } => {
                self.pool.put(WITHDRAW_NODE, &[&name, &owner, &told(version)?, &millis(now)]).await?
            }
            NodeChange::OfferModels(models) => {
                self.pool.put(OFFER_MODELS, &[&name, &owner, &to_json(models)?]).await?
            }
            NodeChange::Restrict { is_private } => {
                let values: Parameters<'_> = &[&name, &owner, &i64::from(*is_private), &millis(now)];
                self.pool.put(RESTRICT_NODE, values).await?
            }
        };
        rows.first().map(node_view).transpose()
    }
}

#[async_trait]
impl PoolReader for PostgresLedger {
    async fn pools_version(&self) -> Result<u64, LedgerError> {
        pools_version(&self.pool).await
    }

    async fn pools(&self) -> Result<NodePools, LedgerError> {
        pools(&self.pool).await
    }
}

#[async_trait]
impl NodeReader for PostgresLedger {
    async fn wishes(&self) -> Result<Vec<NodeWish>, LedgerError> {
        let wish = |row: &Row| {
            Ok(NodeWish {
                node: NodeId::new(get::<String>(row, 0)?),
                is_withdrawn: get::<Option<i64>>(row, 1)?.is_some(),
                models: models(row, 2)?,
            })
        };
        self.pool.query(NODE_WISHES, &[]).await?.iter().map(wish).collect()
    }

    async fn days(&self, node: &NodeId, since: Day) -> Result<Vec<NodeDay>, LedgerError> {
        let rows = self.pool.query(NODE_DAYS, &[&word(node.as_str())?, &whole(since.number())]).await?;
        rows.iter().map(node_day).collect()
    }

    async fn standings_of(&self, node: &NodeId) -> Result<Vec<NodeStanding>, LedgerError> {
        // Sorted by bytes, as SQLite does, whatever the database's language.
        let sql = format!("{STANDINGS} WHERE node = $1 ORDER BY model COLLATE \"C\"");
        self.pool.query(&sql, &[&word(node.as_str())?]).await?.iter().map(standing).collect()
    }

    async fn serving(&self, since: Timestamp, limit: u32) -> Result<Vec<ServingNode>, LedgerError> {
        let serving = |row: &Row| {
            let (node, model) = (NodeId::new(get::<String>(row, 0)?), get::<String>(row, 1)?);
            Ok(ServingNode { node, model: ModelName::new(model), judged_ms: time(row, 2)? })
        };
        let rows = self.pool.query(SERVING, &[&millis(since), &i64::from(limit)]).await?;
        rows.iter().map(serving).collect()
    }
}

fn models(row: &Row, index: usize) -> Result<Option<Vec<ModelName>>, LedgerError> {
    let stored: Option<&str> = get(row, index)?;
    stored.map(|stored| from_json("a node's models", stored.as_bytes())).transpose()
}

fn node_view(row: &Row) -> Result<NodeView, LedgerError> {
    let withdrawn: Option<i64> = get(row, 4)?;
    Ok(NodeView {
        id: NodeId::new(get::<String>(row, 0)?),
        name: get(row, 1)?,
        owner: OwnerId::new(get::<String>(row, 2)?),
        registered_ms: time(row, 3)?,
        withdrawn_ms: withdrawn.map(|_| time(row, 4)).transpose()?,
        version: get(row, 5)?,
        models: models(row, 6)?,
        private_ms: optional_time(row, 7)?,
        backstop_ms: optional_time(row, 8)?,
    })
}

/// Adds to nodes' days what some postings add up to.
pub(super) async fn add_days(
    transaction: &Transaction<'_>,
    days: &HashMap<(&NodeId, Day), NodeDay>,
) -> Result<(), Failure> {
    if days.is_empty() {
        return Ok(());
    }
    let nodes: Vec<&str> = days.keys().map(|(node, _)| node.as_str()).collect();
    let numbers: Vec<i64> = days.keys().map(|(_, day)| whole(day.number())).collect();
    let column = |value: fn(&NodeDay) -> i64| days.values().map(value).collect::<Vec<i64>>();
    let (millipoints, tokens) = (column(|sums| sums.millipoints), column(|sums| whole(sums.tokens)));
    let verdicts: [Vec<i64>; 5] = [
        column(|sums| whole(sums.verdicts.valid)),
        column(|sums| whole(sums.verdicts.invalid)),
        column(|sums| whole(sums.verdicts.inconclusive)),
        column(|sums| whole(sums.verdicts.missed)),
        column(|sums| whole(sums.verdicts.neutral)),
    ];
    let intervals: [Vec<i64>; 3] = [
        column(|sums| whole(sums.valid_intervals[0])),
        column(|sums| whole(sums.valid_intervals[1])),
        column(|sums| whole(sums.valid_intervals[2])),
    ];
    let [valid, invalid, inconclusive, missed, neutral] = &verdicts;
    let [first, second, third] = &intervals;
    let statement = transaction.prepare_cached(ADD_DAYS).await?;
    transaction
        .execute(
            &statement,
            &[
                &nodes,
                &numbers,
                &millipoints,
                &tokens,
                valid,
                invalid,
                inconclusive,
                missed,
                neutral,
                first,
                second,
                third,
            ],
        )
        .await?;
    Ok(())
}

fn node_day(row: &Row) -> Result<NodeDay, LedgerError> {
    Ok(NodeDay {
        day: Day::new(count(row, 1)?),
        millipoints: get(row, 2)?,
        tokens: count(row, 3)?,
        verdicts: VerdictCounts {
            valid: count(row, 4)?,
            invalid: count(row, 5)?,
            inconclusive: count(row, 6)?,
            missed: count(row, 7)?,
            neutral: count(row, 8)?,
        },
        valid_intervals: [count(row, 9)?, count(row, 10)?, count(row, 11)?],
    })
}
