//! Nodes as their owners see them, and what they did on each day.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::SqliteLedger;
use super::failure::Failure;
use super::node_days::node_day;
use super::node_groups::{pools, pools_version};
use super::standing::{STANDING_COLUMNS, standing};
use super::values::{Numbered as _, Word, count, from_json, millis, optional_time, time, to_json, whole};
use infera_ledger::statements::{
    COUNT_NODES, ENLIST_NODE, NODE_DAYS, NODE_VIEW, NODE_WISHES, OFFER_MODELS, RESTRICT_NODE, WITHDRAW_NODE,
};
use infera_ledger::{
    LedgerError, NodeChange, NodeDay, NodePools, NodeReader, NodeRoster, NodeStanding, NodeView, NodeWish,
    PoolReader, ServingNode, Whose, serving_nodes,
};
use infera_types::day::Day;
use infera_types::ids::{ModelName, NodeId, OwnerId};
use infera_types::time::Timestamp;

const SERVING: &str =
    serving_nodes!("EXISTS (SELECT 1 FROM json_each(nodes.models) WHERE json_each.value = standings.model)");

#[async_trait]
impl NodeRoster for SqliteLedger {
    async fn node_of(&self, whose: &Whose, name: &str) -> Result<Option<NodeView>, LedgerError> {
        let (whose, name) = (whose.clone(), name.to_owned());
        self.read(move |connection| {
            let mut statement = connection.numbered(NODE_VIEW)?;
            let mut rows = statement.query(params![Word(&name), whose.owner().map(Word)])?;
            rows.next()?.map(node_view).transpose()
        })
        .await
    }

    async fn count_of(&self, owner: &OwnerId) -> Result<u64, LedgerError> {
        let owner = owner.clone();
        self.read(move |connection| {
            let mut statement = connection.numbered(COUNT_NODES)?;
            Ok(statement.query_row([Word(owner.as_str())], |row| count(row, 0))?)
        })
        .await
    }

    async fn change_node(
        &self,
        whose: &Whose,
        name: &str,
        change: &NodeChange,
        now: Timestamp,
    ) -> Result<Option<NodeView>, LedgerError> {
        let (whose, name, change) = (whose.clone(), name.to_owned(), change.clone());
        self.write(move |connection| change_node(connection, &whose, &name, (&change, now))).await
    }
}

#[async_trait]
impl PoolReader for SqliteLedger {
    async fn pools_version(&self) -> Result<u64, LedgerError> {
        self.read(pools_version).await
    }

    async fn pools(&self) -> Result<NodePools, LedgerError> {
        self.read(pools).await
    }
}

#[async_trait]
impl NodeReader for SqliteLedger {
    async fn wishes(&self) -> Result<Vec<NodeWish>, LedgerError> {
        self.read(wishes).await
    }

    async fn days(&self, node: &NodeId, since: Day) -> Result<Vec<NodeDay>, LedgerError> {
        let node = node.clone();
        self.read(move |connection| {
            let mut statement = connection.numbered(NODE_DAYS)?;
            let days = statement.query_map(params![Word(node.as_str()), whole(since.number())], node_day)?;
            Ok(days.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn standings_of(&self, node: &NodeId) -> Result<Vec<NodeStanding>, LedgerError> {
        let node = node.clone();
        self.read(move |connection| {
            let sql = format!("SELECT {STANDING_COLUMNS} FROM standings WHERE node = $1 ORDER BY model");
            let mut statement = connection.numbered_once(&sql)?;
            let standings = statement.query_map([Word(node.as_str())], standing)?;
            Ok(standings.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn serving(&self, since: Timestamp, limit: u32) -> Result<Vec<ServingNode>, LedgerError> {
        self.read(move |connection| {
            let mut statement = connection.numbered(SERVING)?;
            let serving = statement.query_map(params![millis(since), limit], |row| {
                let (node, model) = (NodeId::new(row.get::<_, String>(0)?), row.get::<_, String>(1)?);
                Ok(ServingNode { node, model: ModelName::new(model), judged_ms: time(row, 2)? })
            })?;
            Ok(serving.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}

/// Reads the models that a node may be drawn for.
fn models(row: &Row<'_>, index: usize) -> Result<Option<Vec<ModelName>>, Failure> {
    let stored: Option<String> = row.get(index)?;
    Ok(stored.map(|stored| from_json("a node's models", stored.as_bytes())).transpose()?)
}

/// Reads what owners want of their nodes.
fn wishes(connection: &Connection) -> Result<Vec<NodeWish>, Failure> {
    let mut statement = connection.numbered(NODE_WISHES)?;
    let mut rows = statement.query([])?;
    let mut wishes = Vec::new();
    while let Some(row) = rows.next()? {
        wishes.push(NodeWish {
            node: NodeId::new(row.get::<_, String>(0)?),
            is_withdrawn: row.get::<_, Option<i64>>(1)?.is_some(),
            models: models(row, 2)?,
        });
    }
    Ok(wishes)
}

fn change_node(
    connection: &Connection,
    whose: &Whose,
    name: &str,
    (change, now): (&NodeChange, Timestamp),
) -> Result<Option<NodeView>, Failure> {
    let owner = whose.owner().map(Word);
    let (sql, value) = match change {
        NodeChange::Enlist { version } => (ENLIST_NODE, version.clone()),
        NodeChange::Withdraw { version } => (WITHDRAW_NODE, version.clone()),
        NodeChange::OfferModels(models) => (OFFER_MODELS, Some(to_json(models)?)),
        NodeChange::Restrict { .. } => (RESTRICT_NODE, None),
    };
    let value = value.as_deref().map(Word);
    let mut statement = connection.numbered(sql)?;
    let mut rows = match change {
        NodeChange::Withdraw { .. } => statement.query(params![Word(name), owner, value, millis(now)])?,
        NodeChange::Restrict { is_private } => {
            statement.query(params![Word(name), owner, i64::from(*is_private), millis(now)])?
        }
        _ => statement.query(params![Word(name), owner, value])?,
    };
    let changed = rows.next()?.map(node_view).transpose()?;
    // A statement that returns rows is done when it has returned the last.
    while rows.next()?.is_some() {}
    Ok(changed)
}

fn node_view(row: &Row<'_>) -> Result<NodeView, Failure> {
    let withdrawn: Option<i64> = row.get(4)?;
    Ok(NodeView {
        id: NodeId::new(row.get::<_, String>(0)?),
        name: row.get(1)?,
        owner: OwnerId::new(row.get::<_, String>(2)?),
        registered_ms: time(row, 3)?,
        withdrawn_ms: withdrawn.map(|_| time(row, 4)).transpose()?,
        version: row.get(5)?,
        models: models(row, 6)?,
        private_ms: optional_time(row, 7)?,
        backstop_ms: optional_time(row, 8)?,
    })
}
