-- Version 17: what is bounded. is_void: the mail had no one to go to, and counts no longer towards the mails of all clients.
ALTER TABLE mails ADD COLUMN is_void SMALLINT NOT NULL DEFAULT 0;

-- A number that grows with each change of what draws are told of groups and of single nodes, so that verifiers read it only then.
CREATE TABLE pools_version (version BIGINT NOT NULL);
INSERT INTO pools_version (version) VALUES (1);
CREATE FUNCTION note_pools() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pools_version SET version = version + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER node_groups_noted AFTER INSERT OR DELETE ON node_groups
    FOR EACH STATEMENT EXECUTE FUNCTION note_pools();
CREATE TRIGGER node_group_nodes_noted AFTER INSERT OR UPDATE OR DELETE ON node_group_nodes
    FOR EACH STATEMENT EXECUTE FUNCTION note_pools();
CREATE TRIGGER node_group_accounts_noted AFTER INSERT OR DELETE ON node_group_accounts
    FOR EACH STATEMENT EXECUTE FUNCTION note_pools();
CREATE TRIGGER nodes_noted AFTER UPDATE OF private_ms, backstop_ms, revoked_ms ON nodes
    FOR EACH STATEMENT EXECUTE FUNCTION note_pools();
