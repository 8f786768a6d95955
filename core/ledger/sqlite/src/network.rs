//! The catalogue, the nodes and the epochs.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteLedger;
use super::failure::Failure;
use super::values::{Blob, Numbered as _, Word, count, digest, from_json, millis, time, to_json, whole};
use infera_ledger::statements::{LIST_MODEL, NODE_BY_NAME, NODES};
use infera_ledger::{CatalogueEntry, Epoch, LedgerError, NetworkBook, NewNode, NodeRecord, Registered};
use infera_types::ids::{Digest, NodeId, OwnerId};
use infera_types::time::Timestamp;

#[async_trait]
impl NetworkBook for SqliteLedger {
    async fn catalogue(&self) -> Result<Vec<CatalogueEntry>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.numbered("SELECT entry FROM catalogue ORDER BY name")?;
            let mut rows = statement.query([])?;
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                entries.push(from_json("catalogue entry", row.get::<_, String>(0)?.as_bytes())?);
            }
            Ok(entries)
        })
        .await
    }

    async fn list_model(&self, entry: &CatalogueEntry) -> Result<(), LedgerError> {
        let name = entry.name.clone();
        let entry = to_json(entry)?;
        self.write(move |connection| {
            connection.numbered(LIST_MODEL)?.execute(params![Word(name.as_str()), entry])?;
            Ok(())
        })
        .await
    }

    /// Keeps the owner of a node that is found again; a revoked node is not found.
    async fn register_node(&self, node: &NewNode, now: Timestamp) -> Result<Registered, LedgerError> {
        let node = node.clone();
        self.write(move |connection| register(connection, &node, now)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.numbered(NODES)?;
            let nodes = statement.query_map([], node_record)?;
            Ok(nodes.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn epoch(
        &self,
        number: Option<u64>,
        fresh_secret: Digest,
        now: Timestamp,
    ) -> Result<Epoch, LedgerError> {
        if let Some(known) = self.read(move |connection| epoch(connection, number)).await? {
            return Ok(known);
        }
        if let Some(number) = number {
            return Err(LedgerError::Row(format!("there is no epoch {number}")));
        }
        self.write(move |connection| match epoch(connection, None)? {
            Some(made_meanwhile) => Ok(made_meanwhile),
            None => first_epoch(connection, fresh_secret, now),
        })
        .await
    }
}

pub(super) fn node_record(row: &Row<'_>) -> rusqlite::Result<NodeRecord> {
    Ok(NodeRecord {
        id: NodeId::new(row.get::<_, String>(0)?),
        name: row.get(1)?,
        owner: OwnerId::new(row.get::<_, String>(2)?),
        registered_ms: time(row, 3)?,
    })
}

fn register(connection: &Connection, node: &NewNode, now: Timestamp) -> Result<Registered, Failure> {
    let known = connection
        .numbered(NODE_BY_NAME)?
        .query_row([Word(&node.name)], |row| {
            Ok((node_record(row)?, digest(row, 4)?, row.get::<_, Option<i64>>(5)?))
        })
        .optional()?;
    match known {
        Some((record, secret, None)) if secret == node.secret => return Ok(Registered::Node(record)),
        Some(_) => return Ok(Registered::WrongSecret),
        None => {}
    }
    let record = NodeRecord {
        id: NodeId::fresh(),
        name: node.name.clone(),
        owner: node.account.as_ref().map_or_else(OwnerId::anonymous, OwnerId::of_account),
        registered_ms: now,
    };
    connection
        .numbered("INSERT INTO nodes (id, name, secret, owner, registered_ms) VALUES ($1, $2, $3, $4, $5)")?
        .execute(params![
            record.id.as_str(),
            Word(&record.name),
            node.secret.blob(),
            Word(record.owner.as_str()),
            millis(now)
        ])?;
    Ok(Registered::Node(record))
}

fn epoch(connection: &Connection, number: Option<u64>) -> Result<Option<Epoch>, Failure> {
    let found = connection
        .numbered(
            "SELECT number, secret FROM epochs WHERE number = $1 OR $1 IS NULL ORDER BY number DESC LIMIT 1",
        )?
        .query_row([number.map(whole)], |row| Ok(Epoch { number: count(row, 0)?, secret: digest(row, 1)? }))
        .optional()?;
    Ok(found)
}

fn first_epoch(connection: &Connection, secret: Digest, now: Timestamp) -> Result<Epoch, Failure> {
    let first = Epoch { number: 1, secret };
    connection
        .numbered("INSERT INTO epochs (number, secret, began_ms) VALUES ($1, $2, $3)")?
        .execute(params![whole(first.number), first.secret.blob(), millis(now)])?;
    Ok(first)
}
