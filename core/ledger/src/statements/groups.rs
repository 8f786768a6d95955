//! The statements about groups of nodes and other pools. Names of nodes are free texts, and may be written like another node's id.
//! So what may be an id or a name is a name only where no node, revoked ones included, has it as its id.

/// Makes a group (`$1`) of an account (`$2`) under a name (`$3`) at `$4`, unless the account has `$5` groups; returns its id.
pub const CREATE_GROUP: &str = "INSERT INTO node_groups (id, account, name, created_ms)
    SELECT CAST($1 AS TEXT), accounts.id, CAST($3 AS TEXT), CAST($4 AS BIGINT) FROM accounts
    WHERE accounts.id = $2 AND (SELECT COUNT(*) FROM node_groups AS theirs WHERE theirs.account = $2) < $5
    ON CONFLICT (account, name) DO NOTHING RETURNING id";

/// Finds a group of an account (`$1`) by its name (`$2`).
pub const GROUP_NAMED: &str = "SELECT id FROM node_groups WHERE account = $1 AND name = $2";

/// Finds whether there is an account (`$1`).
pub const IS_ACCOUNT: &str = "SELECT 1 FROM accounts WHERE id = $1";

/// Deletes a group (`$1`) of an account (`$2`).
pub const DELETE_GROUP: &str = "DELETE FROM node_groups WHERE id = $1 AND account = $2 RETURNING id";

/// Forgets the nodes of a group (`$1`) that is deleted.
pub const FORGET_GROUP_NODES: &str = "DELETE FROM node_group_nodes WHERE group_id = $1
    AND NOT EXISTS (SELECT 1 FROM node_groups WHERE node_groups.id = $1)";

/// Forgets the users of a group (`$1`) that is deleted.
pub const FORGET_GROUP_ACCOUNTS: &str = "DELETE FROM node_group_accounts WHERE group_id = $1
    AND NOT EXISTS (SELECT 1 FROM node_groups WHERE node_groups.id = $1)";

/// Finds at most `$2` groups that an account (`$1`) has to do with: id, account, name, time. Its own come first, then those that it
/// may use, then those that its nodes are in, and last those that others invited its nodes to.
pub const GROUPS_OF: &str = "SELECT id, account, name, created_ms FROM node_groups JOIN (
        SELECT group_id, MIN(nearness) AS nearness FROM (
            SELECT theirs.id AS group_id, 0 AS nearness FROM node_groups AS theirs WHERE theirs.account = $1
            UNION ALL SELECT group_id, 1 FROM node_group_accounts WHERE node_group_accounts.account = $1
            UNION ALL SELECT group_id, CASE WHEN willing_ms IS NOT NULL THEN 2 ELSE 3 END
                FROM node_group_nodes JOIN nodes ON nodes.id = node_group_nodes.node
                WHERE nodes.owner = $1 AND nodes.revoked_ms IS NULL) AS near
        GROUP BY group_id) AS nearest ON node_groups.id = nearest.group_id
    ORDER BY nearness, created_ms, id LIMIT $2";

/// Finds a group: id, account, name, time.
pub const GROUP: &str = "SELECT id, account, name, created_ms FROM node_groups WHERE id = $1";

/// Finds the nodes of a group: node, name, owner, when it was invited, since when its owner consents.
pub const GROUP_NODES: &str =
    "SELECT nodes.id, nodes.name, nodes.owner, node_group_nodes.invited_ms, node_group_nodes.willing_ms
    FROM node_group_nodes JOIN nodes ON nodes.id = node_group_nodes.node
    WHERE group_id = $1 AND nodes.revoked_ms IS NULL ORDER BY invited_ms, nodes.id";

/// Finds the accounts that may use a group beside its own.
pub const GROUP_ACCOUNTS: &str =
    "SELECT account FROM node_group_accounts WHERE group_id = $1 ORDER BY allowed_ms, account";

/// Adds the nodes that an account (`$3`) means by `$2` to its group (`$1`) at `$4`, unless the group has `$5` nodes; its own
/// are members at once unless they are in `$7` groups, others are invited unless they have `$6` open invitations. Returns the
/// nodes.
pub const ADD_GROUP_NODE: &str = "INSERT INTO node_group_nodes (group_id, node, invited_ms, willing_ms)
    SELECT node_groups.id, nodes.id, CAST($4 AS BIGINT), CASE WHEN nodes.owner = $3 THEN CAST($4 AS BIGINT) END
    FROM node_groups JOIN nodes ON (nodes.id = $2 OR (nodes.name = $2 AND nodes.owner = $3
        AND NOT EXISTS (SELECT 1 FROM nodes AS named WHERE named.id = $2)))
    WHERE node_groups.id = $1 AND node_groups.account = $3 AND nodes.revoked_ms IS NULL
        AND (EXISTS (SELECT 1 FROM node_group_nodes AS known WHERE known.group_id = $1 AND known.node = nodes.id)
            OR ((SELECT COUNT(*) FROM node_group_nodes AS members WHERE members.group_id = $1) < $5
                AND CASE WHEN nodes.owner = $3 THEN (SELECT COUNT(*) FROM node_group_nodes AS memberships
                        WHERE memberships.node = nodes.id AND memberships.willing_ms IS NOT NULL) < $7
                    ELSE (SELECT COUNT(*) FROM node_group_nodes AS invitations
                        WHERE invitations.node = nodes.id AND invitations.willing_ms IS NULL) < $6 END))
    ON CONFLICT (group_id, node) DO UPDATE
        SET willing_ms = COALESCE(node_group_nodes.willing_ms, excluded.willing_ms)
    RETURNING node";

/// Finds whether an account (`$2`) means a node by `$1`.
pub const IS_NODE: &str = "SELECT 1 FROM nodes WHERE (id = $1 OR (name = $1 AND owner = $2
        AND NOT EXISTS (SELECT 1 FROM nodes AS named WHERE named.id = $1))) AND revoked_ms IS NULL";

/// Records the consent of an owner (`$3`) for its nodes that it means by `$2` and that a group (`$1`) invited; the first time
/// (`$4`) stays. A node that is in `$5` groups joins no other.
pub const CONSENT: &str = "UPDATE node_group_nodes SET willing_ms = COALESCE(willing_ms, CAST($4 AS BIGINT))
    WHERE group_id = $1 AND node IN (
        SELECT nodes.id FROM nodes WHERE nodes.owner = $3 AND revoked_ms IS NULL AND (nodes.id = $2
            OR (nodes.name = $2 AND NOT EXISTS (SELECT 1 FROM nodes AS named WHERE named.id = $2))))
        AND (willing_ms IS NOT NULL OR (SELECT COUNT(*) FROM node_group_nodes AS memberships
            WHERE memberships.node = node_group_nodes.node AND memberships.willing_ms IS NOT NULL) < $5)
    RETURNING node";

/// Finds whether a group (`$1`) invited a node that its owner (`$3`) means by `$2`.
pub const IS_INVITED: &str = "SELECT 1 FROM node_group_nodes JOIN nodes ON nodes.id = node_group_nodes.node
    WHERE group_id = $1 AND nodes.owner = $3 AND revoked_ms IS NULL AND (nodes.id = $2
        OR (nodes.name = $2 AND NOT EXISTS (SELECT 1 FROM nodes AS named WHERE named.id = $2)))";

/// Removes nodes that an account (`$3`) means by `$2` from a group (`$1`), if the group or the node is its own.
pub const REMOVE_GROUP_NODE: &str = "DELETE FROM node_group_nodes WHERE group_id = $1
    AND node IN (SELECT nodes.id FROM nodes WHERE (nodes.id = $2 AND EXISTS (
            SELECT 1 FROM node_groups WHERE node_groups.id = $1 AND node_groups.account = $3))
        OR (nodes.owner = $3 AND (nodes.id = $2
            OR (nodes.name = $2 AND NOT EXISTS (SELECT 1 FROM nodes AS named WHERE named.id = $2)))))
    RETURNING node";

/// Lets an account (`$2`) use a group (`$1`) of an account (`$3`) since `$4`, unless `$5` others may, or it may use `$6` of others;
/// the first time stays.
pub const ALLOW_ACCOUNT: &str = "INSERT INTO node_group_accounts (group_id, account, allowed_ms)
    SELECT node_groups.id, accounts.id, CAST($4 AS BIGINT) FROM node_groups JOIN accounts ON accounts.id = $2
    WHERE node_groups.id = $1 AND node_groups.account = $3
        AND (EXISTS (SELECT 1 FROM node_group_accounts AS known WHERE known.group_id = $1 AND known.account = $2)
            OR ((SELECT COUNT(*) FROM node_group_accounts AS users WHERE users.group_id = $1) < $5
                AND (SELECT COUNT(*) FROM node_group_accounts AS uses WHERE uses.account = $2) < $6))
    ON CONFLICT (group_id, account) DO UPDATE SET allowed_ms = node_group_accounts.allowed_ms
    RETURNING account";

/// Takes back that an account (`$2`) may use a group (`$1`), for the group's account or that account itself (`$3`).
pub const DISALLOW_ACCOUNT: &str = "DELETE FROM node_group_accounts WHERE group_id = $1 AND account = $2
    AND (account = $3 OR EXISTS (SELECT 1 FROM node_groups WHERE node_groups.id = $1 AND node_groups.account = $3))
    RETURNING account";

/// Finds the group that an account (`$1`) may use and means by `$2`. A name never looks like an id.
pub const USABLE_GROUP: &str =
    "SELECT id FROM node_groups WHERE (account = $1 AND name = $2) OR (id = $2 AND (account = $1
        OR EXISTS (SELECT 1 FROM node_group_accounts
            WHERE node_group_accounts.group_id = node_groups.id AND node_group_accounts.account = $1)))";

/// Finds a key's pool.
pub const KEY_POOL: &str = "SELECT pool FROM api_keys WHERE id = $1";

/// Sets the pool (`$2`) of a key that isn't revoked.
pub const SET_KEY_POOL: &str =
    "UPDATE api_keys SET pool = CAST($2 AS TEXT) WHERE id = $1 AND revoked_ms IS NULL RETURNING id";

/// Makes the node of an id or name (`$1`) a backstop since `$2`; the first time stays. Returns the columns of `NODES`.
pub const BEGIN_BACKSTOP: &str = "UPDATE nodes SET backstop_ms = COALESCE(backstop_ms, $2)
    WHERE (id = $1 OR (name = $1 AND NOT EXISTS (SELECT 1 FROM nodes AS named WHERE named.id = $1)))
        AND revoked_ms IS NULL RETURNING id, name, owner, registered_ms";

/// Makes the node of an id or name (`$1`) an ordinary one.
pub const END_BACKSTOP: &str = "UPDATE nodes SET backstop_ms = NULL
    WHERE (id = $1 OR (name = $1 AND NOT EXISTS (SELECT 1 FROM nodes AS named WHERE named.id = $1)))
        AND revoked_ms IS NULL RETURNING id, name, owner, registered_ms";

/// Finds the number that grows with each change of what the next three find. Triggers raise it.
pub const POOLS_VERSION: &str = "SELECT version FROM pools_version";

/// Finds the nodes that are private or backstops: node, since when it is private, since when a backstop.
pub const NOTED_NODES: &str = "SELECT id, private_ms, backstop_ms FROM nodes
    WHERE revoked_ms IS NULL AND (private_ms IS NOT NULL OR backstop_ms IS NOT NULL) ORDER BY id";

/// Finds the members of groups: group, node.
pub const GROUP_MEMBERS: &str = "SELECT node_groups.id, nodes.id FROM node_groups
    JOIN node_group_nodes ON node_group_nodes.group_id = node_groups.id
    JOIN nodes ON nodes.id = node_group_nodes.node
    WHERE node_group_nodes.willing_ms IS NOT NULL AND nodes.revoked_ms IS NULL ORDER BY node_groups.id, nodes.id";

/// Finds the accounts that may use groups: group, account.
pub const GROUP_USERS: &str = "SELECT id, account FROM node_groups
    UNION SELECT node_groups.id, node_group_accounts.account FROM node_groups
        JOIN node_group_accounts ON node_group_accounts.group_id = node_groups.id
    ORDER BY 1, 2";
