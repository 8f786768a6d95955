-- Pools of nodes: private nodes, backstops of the network, groups of nodes, and the pool that a key's jobs go to by default.
ALTER TABLE nodes ADD COLUMN private_ms BIGINT;
ALTER TABLE nodes ADD COLUMN backstop_ms BIGINT;
ALTER TABLE api_keys ADD COLUMN pool TEXT;
CREATE TABLE node_groups (
    id          TEXT NOT NULL PRIMARY KEY,
    account     TEXT NOT NULL,
    name        TEXT NOT NULL,
    created_ms  BIGINT NOT NULL,
    UNIQUE (account, name)
);
-- A node is a member once its owner consents.
CREATE TABLE node_group_nodes (
    group_id    TEXT NOT NULL,
    node        TEXT NOT NULL,
    invited_ms  BIGINT NOT NULL,
    willing_ms  BIGINT,
    PRIMARY KEY (group_id, node)
);
CREATE INDEX node_group_nodes_node ON node_group_nodes (node);
CREATE TABLE node_group_accounts (
    group_id    TEXT NOT NULL,
    account     TEXT NOT NULL,
    allowed_ms  BIGINT NOT NULL,
    PRIMARY KEY (group_id, account)
);
CREATE INDEX node_group_accounts_account ON node_group_accounts (account);
