//! Groups of nodes, the pools of keys, and backstop nodes. Each statement is atomic by itself; a group that is deleted takes
//! what belongs to it along in two more, which nothing reads without it.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::network::node_record;
use super::pool::{Parameters, Pool};
use super::values::{count, get, millis, optional_time, time, word};
use infera_ledger::statements::groups::{
    ADD_GROUP_NODE, ALLOW_ACCOUNT, BEGIN_BACKSTOP, CONSENT, CREATE_GROUP, DELETE_GROUP, DISALLOW_ACCOUNT,
    END_BACKSTOP, FORGET_GROUP_ACCOUNTS, FORGET_GROUP_NODES, GROUP, GROUP_ACCOUNTS, GROUP_MEMBERS,
    GROUP_NAMED, GROUP_NODES, GROUP_USERS, GROUPS_OF, IS_ACCOUNT, IS_INVITED, IS_NODE, KEY_POOL, NOTED_NODES,
    POOLS_VERSION, REMOVE_GROUP_NODE, SET_KEY_POOL, USABLE_GROUP,
};
use infera_ledger::{
    GroupBounds, GroupChange, GroupChanged, GroupMade, GroupNode, GroupOrder, LedgerError, NewGroup,
    NodeGroup, NodeGroupBook, NodePool, NodePools, NodeRecord, PoolBook, WholeGroup,
};
use infera_types::ids::{AccountId, GroupId, KeyId, NodeId, OwnerId};
use infera_types::time::Timestamp;

#[async_trait]
impl PoolBook for PostgresLedger {
    async fn usable_group(&self, account: &AccountId, named: &str) -> Result<Option<GroupId>, LedgerError> {
        let row = self.pool.query_opt(USABLE_GROUP, &[&account.as_str(), &word(named)?]).await?;
        row.map(|row| Ok(GroupId::new(get::<String>(&row, 0)?))).transpose()
    }

    async fn key_pool(&self, id: &KeyId) -> Result<NodePool, LedgerError> {
        let Some(row) = self.pool.query_opt(KEY_POOL, &[&word(id.as_str())?]).await? else {
            return Ok(NodePool::Open);
        };
        Ok(get::<Option<&str>>(&row, 0)?.map_or(NodePool::Open, NodePool::of_share))
    }

    async fn set_key_pool(&self, id: &KeyId, pool: &NodePool) -> Result<bool, LedgerError> {
        let share = pool.share();
        let share = share.as_ref().map(|share| word(share.as_str())).transpose()?;
        Ok(!self.pool.put(SET_KEY_POOL, &[&word(id.as_str())?, &share]).await?.is_empty())
    }

    async fn set_backstop(
        &self,
        named: &str,
        is_backstop: bool,
        now: Timestamp,
    ) -> Result<Option<NodeRecord>, LedgerError> {
        let named = word(named)?;
        let rows = if is_backstop {
            self.pool.put(BEGIN_BACKSTOP, &[&named, &millis(now)]).await?
        } else {
            self.pool.put(END_BACKSTOP, &[&named]).await?
        };
        rows.first().map(node_record).transpose()
    }
}

#[async_trait]
impl NodeGroupBook for PostgresLedger {
    async fn create_group(
        &self,
        group: &NewGroup,
        bounds: &GroupBounds,
        now: Timestamp,
    ) -> Result<GroupMade, LedgerError> {
        let (id, account, name) =
            (word(group.id.as_str())?, word(group.account.as_str())?, word(&group.name)?);
        let groups_max = i64::from(bounds.groups_max);
        if self.is_done(CREATE_GROUP, &[&id, &account, &name, &millis(now), &groups_max]).await? {
            return Ok(GroupMade::Made);
        }
        if let Some(known) = self.pool.query_opt(GROUP_NAMED, &[&account, &name]).await? {
            let is_same = get::<&str>(&known, 0)? == id;
            return Ok(if is_same { GroupMade::Made } else { GroupMade::NameTaken });
        }
        let is_account = self.pool.query_opt(IS_ACCOUNT, &[&account]).await?.is_some();
        Ok(if is_account { GroupMade::Full } else { GroupMade::NoAccount })
    }

    async fn change_group(
        &self,
        order: &GroupOrder,
        bounds: &GroupBounds,
        now: Timestamp,
    ) -> Result<GroupChanged, LedgerError> {
        let (group, by, now) = (word(order.group.as_str())?, word(order.by.as_str())?, millis(now));
        let Some(found) = self.pool.query_opt(GROUP, &[&group]).await? else {
            return Ok(GroupChanged::NoGroup);
        };
        let is_own = self::group(&found)?.account == order.by;
        let no_group_or = |other| if is_own { other } else { GroupChanged::NoGroup };
        Ok(match &order.change {
            GroupChange::AddNode(node) if is_own => {
                let node = word(node)?;
                let [nodes_max, invitations_max, memberships_max] =
                    [bounds.nodes_max, bounds.invitations_max, bounds.memberships_max].map(i64::from);
                let values: Parameters<'_> =
                    &[&group, &node, &by, &now, &nodes_max, &invitations_max, &memberships_max];
                if self.is_done(ADD_GROUP_NODE, values).await? {
                    GroupChanged::Done
                } else if self.pool.query_opt(IS_NODE, &[&node, &by]).await?.is_some() {
                    GroupChanged::Full
                } else {
                    GroupChanged::NoNode
                }
            }
            GroupChange::AddNode(node) => {
                let (node, memberships_max) = (word(node)?, i64::from(bounds.memberships_max));
                if self.is_done(CONSENT, &[&group, &node, &by, &now, &memberships_max]).await? {
                    GroupChanged::Done
                } else if self.pool.query_opt(IS_INVITED, &[&group, &node, &by]).await?.is_some() {
                    GroupChanged::Full
                } else {
                    GroupChanged::NoGroup
                }
            }
            GroupChange::RemoveNode(node) => {
                let is_done = self.is_done(REMOVE_GROUP_NODE, &[&group, &word(node)?, &by]).await?;
                if is_done { GroupChanged::Done } else { no_group_or(GroupChanged::NoNode) }
            }
            GroupChange::Allow(_) if !is_own => GroupChanged::NoGroup,
            GroupChange::Allow(account) => {
                let account = word(account.as_str())?;
                let (accounts_max, uses_max) = (i64::from(bounds.accounts_max), i64::from(bounds.uses_max));
                let values: Parameters<'_> = &[&group, &account, &by, &now, &accounts_max, &uses_max];
                if self.is_done(ALLOW_ACCOUNT, values).await? {
                    GroupChanged::Done
                } else if self.pool.query_opt(IS_ACCOUNT, &[&account]).await?.is_some() {
                    GroupChanged::Full
                } else {
                    GroupChanged::NoAccount
                }
            }
            GroupChange::Disallow(account) => {
                let is_done =
                    self.is_done(DISALLOW_ACCOUNT, &[&group, &word(account.as_str())?, &by]).await?;
                if is_done { GroupChanged::Done } else { no_group_or(GroupChanged::NoAccount) }
            }
        })
    }

    async fn delete_group(&self, by: &AccountId, group: &GroupId) -> Result<bool, LedgerError> {
        let (by, group) = (word(by.as_str())?, word(group.as_str())?);
        if !self.is_done(DELETE_GROUP, &[&group, &by]).await? {
            return Ok(false);
        }
        for forget in [FORGET_GROUP_NODES, FORGET_GROUP_ACCOUNTS] {
            self.pool.put(forget, &[&group]).await?;
        }
        Ok(true)
    }

    async fn groups_of(&self, account: &AccountId, limit: u32) -> Result<Vec<NodeGroup>, LedgerError> {
        let rows = self.pool.query(GROUPS_OF, &[&word(account.as_str())?, &i64::from(limit)]).await?;
        rows.iter().map(group).collect()
    }

    async fn group(&self, id: &GroupId) -> Result<Option<WholeGroup>, LedgerError> {
        let id = word(id.as_str())?;
        let Some(found) = self.pool.query_opt(GROUP, &[&id]).await? else { return Ok(None) };
        let node = |row: &Row| {
            Ok::<_, LedgerError>(GroupNode {
                node: NodeId::new(get::<String>(row, 0)?),
                name: get(row, 1)?,
                owner: OwnerId::new(get::<String>(row, 2)?),
                invited_ms: time(row, 3)?,
                willing_ms: optional_time(row, 4)?,
            })
        };
        let nodes = self.pool.query(GROUP_NODES, &[&id]).await?;
        let nodes = nodes.iter().map(node).collect::<Result<_, _>>()?;
        let accounts = self.pool.query(GROUP_ACCOUNTS, &[&id]).await?;
        let account = |row: &Row| Ok::<_, LedgerError>(AccountId::new(get::<String>(row, 0)?));
        let accounts = accounts.iter().map(account).collect::<Result<_, _>>()?;
        Ok(Some(WholeGroup { group: group(&found)?, nodes, accounts }))
    }
}

impl PostgresLedger {
    /// Runs a statement that may be executed twice, and returns whether it found a row.
    async fn is_done(&self, sql: &str, values: Parameters<'_>) -> Result<bool, LedgerError> {
        Ok(!self.pool.put(sql, values).await?.is_empty())
    }
}

fn group(row: &Row) -> Result<NodeGroup, LedgerError> {
    Ok(NodeGroup {
        id: GroupId::new(get::<String>(row, 0)?),
        account: AccountId::new(get::<String>(row, 1)?),
        name: get(row, 2)?,
        created_ms: time(row, 3)?,
    })
}

/// Reads the number that grows with each change of it.
pub(super) async fn pools_version(pool: &Pool) -> Result<u64, LedgerError> {
    let rows = pool.query(POOLS_VERSION, &[]).await?;
    rows.first().map_or(Ok(0), |row| count(row, 0))
}

/// Reads what draws must know of single nodes.
pub(super) async fn pools(pool: &Pool) -> Result<NodePools, LedgerError> {
    let mut pools = NodePools::default();
    for row in &pool.query(NOTED_NODES, &[]).await? {
        let node = NodeId::new(get::<String>(row, 0)?);
        if get::<Option<i64>>(row, 1)?.is_some() {
            pools.private.push(node.clone());
        }
        if get::<Option<i64>>(row, 2)?.is_some() {
            pools.backstops.push(node);
        }
    }
    for row in &pool.query(GROUP_MEMBERS, &[]).await? {
        pools.members.push((GroupId::new(get::<String>(row, 0)?), NodeId::new(get::<String>(row, 1)?)));
    }
    for row in &pool.query(GROUP_USERS, &[]).await? {
        pools.users.push((GroupId::new(get::<String>(row, 0)?), AccountId::new(get::<String>(row, 1)?)));
    }
    Ok(pools)
}
