-- Version 18: what is bounded. is_void: the mail had no one to go to, and counts no longer towards the mails of all clients.
ALTER TABLE mails ADD COLUMN is_void SMALLINT NOT NULL DEFAULT 0;

-- A number that grows with each change of what draws are told of groups and of single nodes, so that verifiers read it only then.
CREATE TABLE pools_version (version BIGINT NOT NULL);
INSERT INTO pools_version (version) VALUES (1);
CREATE TRIGGER node_groups_insert_noted AFTER INSERT ON node_groups BEGIN UPDATE pools_version SET version = version + 1; END;
CREATE TRIGGER node_groups_delete_noted AFTER DELETE ON node_groups BEGIN UPDATE pools_version SET version = version + 1; END;
CREATE TRIGGER node_group_nodes_insert_noted AFTER INSERT ON node_group_nodes BEGIN UPDATE pools_version SET version = version + 1; END;
CREATE TRIGGER node_group_nodes_update_noted AFTER UPDATE ON node_group_nodes BEGIN UPDATE pools_version SET version = version + 1; END;
CREATE TRIGGER node_group_nodes_delete_noted AFTER DELETE ON node_group_nodes BEGIN UPDATE pools_version SET version = version + 1; END;
CREATE TRIGGER node_group_accounts_insert_noted AFTER INSERT ON node_group_accounts BEGIN UPDATE pools_version SET version = version + 1; END;
CREATE TRIGGER node_group_accounts_delete_noted AFTER DELETE ON node_group_accounts BEGIN UPDATE pools_version SET version = version + 1; END;
CREATE TRIGGER nodes_noted AFTER UPDATE OF private_ms, backstop_ms, revoked_ms ON nodes
    BEGIN UPDATE pools_version SET version = version + 1; END;
