//! Groups of nodes, the pools of keys, and backstop nodes.

use async_trait::async_trait;
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteLedger;
use super::failure::Failure;
use super::network::node_record;
use super::values::{Numbered as _, Word, count, millis, optional_time, time};
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
impl PoolBook for SqliteLedger {
    async fn usable_group(&self, account: &AccountId, named: &str) -> Result<Option<GroupId>, LedgerError> {
        let (account, named) = (account.clone(), named.to_owned());
        self.read(move |connection| {
            let found = text(connection, USABLE_GROUP, &[&Word(account.as_str()), &Word(&named)])?;
            Ok(found.map(GroupId::new))
        })
        .await
    }

    async fn key_pool(&self, id: &KeyId) -> Result<NodePool, LedgerError> {
        let id = id.clone();
        self.read(move |connection| {
            let mut statement = connection.numbered(KEY_POOL)?;
            let found = statement
                .query_row([Word(id.as_str())], |row| row.get::<_, Option<String>>(0))
                .optional()?
                .flatten();
            Ok(found.map_or(NodePool::Open, |pool| NodePool::of_share(&pool)))
        })
        .await
    }

    async fn set_key_pool(&self, id: &KeyId, pool: &NodePool) -> Result<bool, LedgerError> {
        let (id, share) = (id.clone(), pool.share());
        self.write(move |connection| {
            let share = share.as_ref().map(|share| Word(share.as_str()));
            Ok(text(connection, SET_KEY_POOL, &[&Word(id.as_str()), &share])?.is_some())
        })
        .await
    }

    async fn set_backstop(
        &self,
        named: &str,
        is_backstop: bool,
        now: Timestamp,
    ) -> Result<Option<NodeRecord>, LedgerError> {
        let named = named.to_owned();
        self.write(move |connection| {
            let found = if is_backstop {
                let mut statement = connection.numbered(BEGIN_BACKSTOP)?;
                statement.query_row(params![Word(&named), millis(now)], node_record).optional()?
            } else {
                let mut statement = connection.numbered(END_BACKSTOP)?;
                statement.query_row(params![Word(&named)], node_record).optional()?
            };
            Ok(found)
        })
        .await
    }
}

#[async_trait]
impl NodeGroupBook for SqliteLedger {
    async fn create_group(
        &self,
        group: &NewGroup,
        bounds: &GroupBounds,
        now: Timestamp,
    ) -> Result<GroupMade, LedgerError> {
        let (group, bounds) = (group.clone(), *bounds);
        self.write(move |connection| create(connection, &group, bounds, now)).await
    }

    async fn change_group(
        &self,
        order: &GroupOrder,
        bounds: &GroupBounds,
        now: Timestamp,
    ) -> Result<GroupChanged, LedgerError> {
        let (order, bounds) = (order.clone(), *bounds);
        self.write(move |connection| change(connection, &order, bounds, now)).await
    }

    async fn delete_group(&self, by: &AccountId, group: &GroupId) -> Result<bool, LedgerError> {
        let (by, group) = (by.clone(), group.clone());
        self.write(move |connection| {
            let (by, group) = (Word(by.as_str()), Word(group.as_str()));
            if text(connection, DELETE_GROUP, &[&group, &by])?.is_none() {
                return Ok(false);
            }
            for forget in [FORGET_GROUP_NODES, FORGET_GROUP_ACCOUNTS] {
                connection.numbered(forget)?.execute(params![group])?;
            }
            Ok(true)
        })
        .await
    }

    async fn groups_of(&self, account: &AccountId, limit: u32) -> Result<Vec<NodeGroup>, LedgerError> {
        let account = account.clone();
        self.read(move |connection| {
            let mut statement = connection.numbered(GROUPS_OF)?;
            let groups = statement.query_map(params![Word(account.as_str()), limit], group)?;
            Ok(groups.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn group(&self, id: &GroupId) -> Result<Option<WholeGroup>, LedgerError> {
        let id = id.clone();
        self.read(move |connection| whole(connection, &id)).await
    }
}

/// Returns the text in the first column of a statement's row, if there is one.
fn text(
    connection: &Connection,
    sql: &'static str,
    values: &[&dyn ToSql],
) -> Result<Option<String>, Failure> {
    Ok(connection.numbered(sql)?.query_row(values, |row| row.get(0)).optional()?)
}

fn create(
    connection: &Connection,
    group: &NewGroup,
    bounds: GroupBounds,
    now: Timestamp,
) -> Result<GroupMade, Failure> {
    let (id, account, name) =
        (Word(group.id.as_str()), Word(group.account.as_str()), Word(group.name.as_str()));
    let made = text(connection, CREATE_GROUP, &[&id, &account, &name, &millis(now), &bounds.groups_max])?;
    if made.is_some() {
        return Ok(GroupMade::Made);
    }
    if let Some(known) = text(connection, GROUP_NAMED, &[&account, &name])? {
        return Ok(if known == group.id.as_str() { GroupMade::Made } else { GroupMade::NameTaken });
    }
    let is_account = connection.numbered(IS_ACCOUNT)?.exists([account])?;
    Ok(if is_account { GroupMade::Full } else { GroupMade::NoAccount })
}

fn change(
    connection: &Connection,
    order: &GroupOrder,
    bounds: GroupBounds,
    now: Timestamp,
) -> Result<GroupChanged, Failure> {
    let (group, by, now) = (Word(order.group.as_str()), Word(order.by.as_str()), millis(now));
    let mut statement = connection.numbered(GROUP)?;
    let found = statement.query_row(params![group], self::group).optional()?;
    let Some(found) = found else { return Ok(GroupChanged::NoGroup) };
    let is_own = found.account == order.by;
    let no_group_or = |other| if is_own { other } else { GroupChanged::NoGroup };
    let done = |sql, values: &[&dyn ToSql]| Ok::<_, Failure>(text(connection, sql, values)?.is_some());
    Ok(match &order.change {
        GroupChange::AddNode(node) if is_own => {
            let (nodes, invitations) = (&bounds.nodes_max, &bounds.invitations_max);
            let values: [&dyn ToSql; 7] =
                [&group, &Word(node), &by, &now, nodes, invitations, &bounds.memberships_max];
            if done(ADD_GROUP_NODE, &values)? {
                GroupChanged::Done
            } else if connection.numbered(IS_NODE)?.exists(params![Word(node), by])? {
                GroupChanged::Full
            } else {
                GroupChanged::NoNode
            }
        }
        GroupChange::AddNode(node) => {
            if done(CONSENT, &[&group, &Word(node), &by, &now, &bounds.memberships_max])? {
                GroupChanged::Done
            } else if connection.numbered(IS_INVITED)?.exists(params![group, Word(node), by])? {
                GroupChanged::Full
            } else {
                GroupChanged::NoGroup
            }
        }
        GroupChange::RemoveNode(node) => {
            let is_done = done(REMOVE_GROUP_NODE, &[&group, &Word(node), &by])?;
            if is_done { GroupChanged::Done } else { no_group_or(GroupChanged::NoNode) }
        }
        GroupChange::Allow(_) if !is_own => GroupChanged::NoGroup,
        GroupChange::Allow(account) => {
            let account = Word(account.as_str());
            let bounds: [&dyn ToSql; 2] = [&bounds.accounts_max, &bounds.uses_max];
            if done(ALLOW_ACCOUNT, &[&group, &account, &by, &now, bounds[0], bounds[1]])? {
                GroupChanged::Done
            } else if connection.numbered(IS_ACCOUNT)?.exists([account])? {
                GroupChanged::Full
            } else {
                GroupChanged::NoAccount
            }
        }
        GroupChange::Disallow(account) => {
            let is_done = done(DISALLOW_ACCOUNT, &[&group, &Word(account.as_str()), &by])?;
            if is_done { GroupChanged::Done } else { no_group_or(GroupChanged::NoAccount) }
        }
    })
}

fn group(row: &Row<'_>) -> rusqlite::Result<NodeGroup> {
    Ok(NodeGroup {
        id: GroupId::new(row.get::<_, String>(0)?),
        account: AccountId::new(row.get::<_, String>(1)?),
        name: row.get(2)?,
        created_ms: time(row, 3)?,
    })
}

fn whole(connection: &Connection, id: &GroupId) -> Result<Option<WholeGroup>, Failure> {
    let id = Word(id.as_str());
    let found = connection.numbered(GROUP)?.query_row(params![id], group).optional()?;
    let Some(group) = found else { return Ok(None) };
    let mut statement = connection.numbered(GROUP_NODES)?;
    let nodes = statement.query_map(params![id], |row| {
        Ok(GroupNode {
            node: NodeId::new(row.get::<_, String>(0)?),
            name: row.get(1)?,
            owner: OwnerId::new(row.get::<_, String>(2)?),
            invited_ms: time(row, 3)?,
            willing_ms: optional_time(row, 4)?,
        })
    })?;
    let nodes = nodes.collect::<rusqlite::Result<_>>()?;
    let mut statement = connection.numbered(GROUP_ACCOUNTS)?;
    let accounts = statement.query_map(params![id], |row| Ok(AccountId::new(row.get::<_, String>(0)?)))?;
    let accounts = accounts.collect::<rusqlite::Result<_>>()?;
    Ok(Some(WholeGroup { group, nodes, accounts }))
}

/// Reads the number that grows with each change of it.
pub(super) fn pools_version(connection: &Connection) -> Result<u64, Failure> {
    Ok(connection.numbered(POOLS_VERSION)?.query_row([], |row| count(row, 0))?)
}

/// Reads what draws must know of single nodes.
pub(super) fn pools(connection: &Connection) -> Result<NodePools, Failure> {
    let mut pools = NodePools::default();
    let mut statement = connection.numbered(NOTED_NODES)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let node = NodeId::new(row.get::<_, String>(0)?);
        if row.get::<_, Option<i64>>(1)?.is_some() {
            pools.private.push(node.clone());
        }
        if row.get::<_, Option<i64>>(2)?.is_some() {
            pools.backstops.push(node);
        }
    }
    let pairs = |sql| -> Result<Vec<(GroupId, String)>, Failure> {
        let mut statement = connection.numbered(sql)?;
        let pairs =
            statement.query_map([], |row| Ok((GroupId::new(row.get::<_, String>(0)?), row.get(1)?)))?;
        Ok(pairs.collect::<rusqlite::Result<_>>()?)
    };
    pools.members = pairs(GROUP_MEMBERS)?.into_iter().map(|(id, node)| (id, NodeId::new(node))).collect();
    pools.users = pairs(GROUP_USERS)?.into_iter().map(|(id, user)| (id, AccountId::new(user))).collect();
    Ok(pools)
}
