//! Admits nodes from outside.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteLedger;
use super::failure::Failure;
use super::network::node_record;
use super::values::{Numbered as _, Word, digest, millis};
use infera_ledger::statements::{ADMITTED_NODES, ALLOW_FLEET, IS_FLEET, NODE_WITH_FLEET, REVOKE_NODE};
use infera_ledger::stored::{latest, latest_admission};
use infera_ledger::{LedgerError, NodeBook, NodeCheck, NodeRecord};
use infera_types::ids::{AccountId, Digest, NodeId};
use infera_types::time::Timestamp;

#[async_trait]
impl NodeBook for SqliteLedger {
    async fn allow_fleet(&self, email: &str, now: Timestamp) -> Result<Option<AccountId>, LedgerError> {
        let email = email.to_owned();
        self.write(move |connection| {
            let account = connection
                .numbered(ALLOW_FLEET)?
                .query_row(params![Word(&email), millis(now)], |row| row.get::<_, String>(0))
                .optional()?;
            Ok(account.map(AccountId::new))
        })
        .await
    }

    async fn is_fleet(&self, account: &AccountId) -> Result<bool, LedgerError> {
        let account = account.clone();
        self.read(move |connection| Ok(connection.numbered(IS_FLEET)?.exists([Word(account.as_str())])?))
            .await
    }

    async fn admit_node(
        &self,
        name: &str,
        secret: Digest,
        until: Timestamp,
    ) -> Result<NodeCheck, LedgerError> {
        let name = name.to_owned();
        self.write(move |connection| {
            let check = check(connection, &name, secret)?;
            if let NodeCheck::Admitted(node) = &check {
                connection
                    .numbered(
                        "UPDATE nodes SET admitted_until_ms = $2
                         WHERE id = $1 AND (admitted_until_ms IS NULL OR admitted_until_ms NOT BETWEEN $2 AND $3)",
                    )?
                    .execute(params![Word(node.id.as_str()), millis(until), millis(latest(until))])?;
            }
            Ok(check)
        })
        .await
    }

    async fn admitted(&self, now: Timestamp) -> Result<Vec<NodeId>, LedgerError> {
        self.read(move |connection| {
            let mut statement = connection.numbered(ADMITTED_NODES)?;
            let times = [millis(now), millis(latest_admission(now))];
            let ids = statement.query_map(times, |row| Ok(NodeId::new(row.get::<_, String>(0)?)))?;
            Ok(ids.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn revoke_node(&self, node: &NodeId, now: Timestamp) -> Result<Option<NodeRecord>, LedgerError> {
        let node = node.clone();
        self.write(move |connection| {
            let revoked = connection
                .numbered(REVOKE_NODE)?
                .query_row(params![Word(node.as_str()), millis(now)], node_record)
                .optional()?;
            Ok(revoked)
        })
        .await
    }
}

fn check(connection: &Connection, name: &str, secret: Digest) -> Result<NodeCheck, Failure> {
    let known = connection
        .numbered(NODE_WITH_FLEET)?
        .query_row([Word(name)], |row| {
            let (revoked, fleet): (Option<i64>, Option<i64>) = (row.get(5)?, row.get(6)?);
            Ok((node_record(row)?, digest(row, 4)?, revoked.is_some(), fleet.is_some()))
        })
        .optional()?;
    Ok(match known {
        Some((_, theirs, ..)) if theirs != secret => NodeCheck::Unknown,
        Some((_, _, true, _)) => NodeCheck::Revoked,
        Some((node, _, _, true)) => NodeCheck::Admitted(node),
        Some((node, ..)) => NodeCheck::NoFleet(node),
        None => NodeCheck::Unknown,
    })
}
