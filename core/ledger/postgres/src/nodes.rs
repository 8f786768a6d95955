//! Admits nodes from outside.

use async_trait::async_trait;

use super::PostgresLedger;
use super::network::node_record;
use super::pool::Parameters;
use super::values::{digest, get, millis, word};
use infera_ledger::statements::{ADMITTED_NODES, ALLOW_FLEET, IS_FLEET, NODE_WITH_FLEET, REVOKE_NODE};
use infera_ledger::stored::{latest, latest_admission};
use infera_ledger::{LedgerError, NodeBook, NodeCheck, NodeRecord};
use infera_types::ids::{AccountId, Digest, NodeId};
use infera_types::time::Timestamp;

#[async_trait]
impl NodeBook for PostgresLedger {
    async fn allow_fleet(&self, email: &str, now: Timestamp) -> Result<Option<AccountId>, LedgerError> {
        let rows = self.pool.put(ALLOW_FLEET, &[&word(email)?, &millis(now)]).await?;
        rows.first().map(|row| Ok(AccountId::new(get::<String>(row, 0)?))).transpose()
    }

    async fn is_fleet(&self, account: &AccountId) -> Result<bool, LedgerError> {
        Ok(self.pool.query_opt(IS_FLEET, &[&word(account.as_str())?]).await?.is_some())
    }

    async fn admit_node(
        &self,
        name: &str,
        secret: Digest,
        until: Timestamp,
    ) -> Result<NodeCheck, LedgerError> {
        let check = self.check(name, secret).await?;
        let NodeCheck::Admitted(node) = &check else { return Ok(check) };
        // A node that was revoked since it was read is not admitted.
        let sql = "UPDATE nodes SET admitted_until_ms =
                       CASE WHEN admitted_until_ms BETWEEN $2 AND $3 THEN admitted_until_ms ELSE $2 END
                   WHERE id = $1 AND revoked_ms IS NULL RETURNING 1";
        let values: Parameters<'_> = &[&node.id.as_str(), &millis(until), &millis(latest(until))];
        let admitted = self.pool.put(sql, values).await?;
        Ok(if admitted.is_empty() { NodeCheck::Revoked } else { check })
    }

    async fn admitted(&self, now: Timestamp) -> Result<Vec<NodeId>, LedgerError> {
        let rows = self.pool.query(ADMITTED_NODES, &[&millis(now), &millis(latest_admission(now))]).await?;
        rows.iter().map(|row| Ok(NodeId::new(get::<String>(row, 0)?))).collect()
    }

    async fn revoke_node(&self, node: &NodeId, now: Timestamp) -> Result<Option<NodeRecord>, LedgerError> {
        let rows = self.pool.put(REVOKE_NODE, &[&word(node.as_str())?, &millis(now)]).await?;
        rows.first().map(node_record).transpose()
    }
}

impl PostgresLedger {
    async fn check(&self, name: &str, secret: Digest) -> Result<NodeCheck, LedgerError> {
        let Some(row) = self.pool.query_opt(NODE_WITH_FLEET, &[&word(name)?]).await? else {
            return Ok(NodeCheck::Unknown);
        };
        if digest(&row, 4)? != secret {
            return Ok(NodeCheck::Unknown);
        }
        if get::<Option<i64>>(&row, 5)?.is_some() {
            return Ok(NodeCheck::Revoked);
        }
        let node = node_record(&row)?;
        let is_fleet = get::<Option<i64>>(&row, 6)?.is_some();
        Ok(if is_fleet { NodeCheck::Admitted(node) } else { NodeCheck::NoFleet(node) })
    }
}
