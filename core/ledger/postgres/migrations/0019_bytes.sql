-- Version 19: rows are smaller. Groups and postings are written packed once every verifier reads them so, which verifiers say with
-- their leases; those of the version before say nothing. Rows of before stay as they are and are read.
ALTER TABLE leases ADD COLUMN reads SMALLINT NOT NULL DEFAULT 1;
-- A packed posting has a key (a kind and sixteen bytes) in place of its id, and a line in place of its entry.
ALTER TABLE postings ADD COLUMN key BYTEA, ADD COLUMN line BYTEA, ALTER COLUMN id DROP NOT NULL,
    ALTER COLUMN entry DROP NOT NULL;
CREATE UNIQUE INDEX postings_key ON postings (key) WHERE key IS NOT NULL;
-- `is_pruned` of a record: 0 all is here, 3 its group is gone, 1 its body too, 2 kept because its object was lost.
CREATE INDEX records_ungrouped ON records (settled_ms) WHERE hash IS NOT NULL AND is_pruned = 3;
