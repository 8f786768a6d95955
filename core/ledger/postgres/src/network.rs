//! The catalogue, the nodes and the epochs.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::values::{count, digest, from_json, get, millis, time, to_json, whole, word};
use infera_ledger::statements::{LIST_MODEL, NODE_BY_NAME, NODES};
use infera_ledger::{CatalogueEntry, Epoch, LedgerError, NetworkBook, NewNode, NodeRecord, Registered};
use infera_types::ids::{Digest, NodeId, OwnerId};
use infera_types::time::Timestamp;

#[async_trait]
impl NetworkBook for PostgresLedger {
    async fn catalogue(&self) -> Result<Vec<CatalogueEntry>, LedgerError> {
        // Sorted by bytes, as SQLite does, whatever the database's language.
        let rows = self.pool.query("SELECT entry FROM catalogue ORDER BY name COLLATE \"C\"", &[]).await?;
        rows.iter().map(|row| from_json("catalogue entry", get::<&str>(row, 0)?.as_bytes())).collect()
    }

    async fn list_model(&self, entry: &CatalogueEntry) -> Result<(), LedgerError> {
        self.pool.put(LIST_MODEL, &[&word(entry.name.as_str())?, &to_json(entry)?]).await?;
        Ok(())
    }

    /// Keeps the owner of a node that is found again; a revoked node is not found.
    async fn register_node(&self, node: &NewNode, now: Timestamp) -> Result<Registered, LedgerError> {
        word(&node.name)?;
        if let Some(known) = self.known_node(node).await? {
            return Ok(known);
        }
        let record = NodeRecord {
            id: NodeId::fresh(),
            name: node.name.clone(),
            owner: node.account.as_ref().map_or_else(OwnerId::anonymous, OwnerId::of_account),
            registered_ms: now,
        };
        let sql = "INSERT INTO nodes (id, name, secret, owner, registered_ms) VALUES ($1, $2, $3, $4, $5)
                   ON CONFLICT (name) DO NOTHING RETURNING 1";
        let (id, secret) = (record.id.as_str(), &node.secret.as_bytes()[..]);
        let owner = word(record.owner.as_str())?;
        let inserted = self.pool.change(sql, &[&id, &record.name, &secret, &owner, &millis(now)]).await?;
        if !inserted.is_empty() {
            return Ok(Registered::Node(record));
        }
        let gone = || LedgerError::Row("the node existed a moment ago and is now missing".to_owned());
        self.known_node(node).await?.ok_or_else(gone)
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, LedgerError> {
        self.pool.query(NODES, &[]).await?.iter().map(node_record).collect()
    }

    async fn epoch(
        &self,
        number: Option<u64>,
        fresh_secret: Digest,
        now: Timestamp,
    ) -> Result<Epoch, LedgerError> {
        if let Some(known) = self.known_epoch(number).await? {
            return Ok(known);
        }
        if let Some(number) = number {
            return Err(LedgerError::Row(format!("there is no epoch {number}")));
        }
        // Of many callers one creates it, and all read the stored one.
        let sql = "INSERT INTO epochs (number, secret, began_ms) VALUES (1, $1, $2)
                   ON CONFLICT (number) DO NOTHING";
        self.pool.put(sql, &[&&fresh_secret.as_bytes()[..], &millis(now)]).await?;
        let gone = || LedgerError::Row("the first epoch existed a moment ago and is now missing".to_owned());
        self.known_epoch(None).await?.ok_or_else(gone)
    }
}

impl PostgresLedger {
    async fn known_node(&self, node: &NewNode) -> Result<Option<Registered>, LedgerError> {
        let Some(row) = self.pool.query_opt(NODE_BY_NAME, &[&node.name]).await? else { return Ok(None) };
        let is_revoked = get::<Option<i64>>(&row, 5)?.is_some();
        if is_revoked || digest(&row, 4)? != node.secret {
            return Ok(Some(Registered::WrongSecret));
        }
        Ok(Some(Registered::Node(node_record(&row)?)))
    }

    async fn known_epoch(&self, number: Option<u64>) -> Result<Option<Epoch>, LedgerError> {
        let sql = "SELECT number, secret FROM epochs WHERE number = $1 OR $1::bigint IS NULL
                   ORDER BY number DESC LIMIT 1";
        let row = self.pool.query_opt(sql, &[&number.map(whole)]).await?;
        row.map(|row| Ok(Epoch { number: count(&row, 0)?, secret: digest(&row, 1)? })).transpose()
    }
}

pub(super) fn node_record(row: &Row) -> Result<NodeRecord, LedgerError> {
    Ok(NodeRecord {
        id: NodeId::new(get::<String>(row, 0)?),
        name: get(row, 1)?,
        owner: OwnerId::new(get::<String>(row, 2)?),
        registered_ms: time(row, 3)?,
    })
}
