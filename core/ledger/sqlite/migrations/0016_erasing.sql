-- Version 16: how long the text of jobs is kept, and its erasure. What keys say: whether their jobs are stored, and the days
-- after which the jobs' text and records are deleted (0: never).
ALTER TABLE api_keys ADD COLUMN stores SMALLINT NOT NULL DEFAULT 1;
ALTER TABLE api_keys ADD COLUMN retention_days BIGINT NOT NULL DEFAULT 0;
-- The same of a job: for how long after its end the text of one that is not stored is kept (null: it is stored), the days,
-- and when its text was erased here.
ALTER TABLE jobs ADD COLUMN erase_after_ms BIGINT;
ALTER TABLE jobs ADD COLUMN retention_days BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN erased_ms BIGINT;

-- The texts whose time to go is set. Steps: 0 set, 1 gone from here, 2 gone from the segment's present object, 3 gone. Reasons:
-- 0 the retention of its key, 1 it is not stored, 2 it was ordered.
CREATE TABLE erasures (
    job_id       BLOB     NOT NULL PRIMARY KEY,
    account      TEXT     NOT NULL,
    salt         BLOB     NOT NULL,                -- with which the text is hashed
    asked_ms     BIGINT   NOT NULL,
    due_ms       BIGINT   NOT NULL,
    reason       SMALLINT NOT NULL,
    step         SMALLINT NOT NULL,
    request_hash BLOB,                             -- salted; this and the next null until step 1
    answer_hash  BLOB,
    done_ms      BIGINT                            -- null until step 3
);
CREATE INDEX erasures_due ON erasures (due_ms, job_id) WHERE step = 0;
CREATE INDEX erasures_archived ON erasures (due_ms, job_id) WHERE step = 1;
CREATE INDEX erasures_pending ON erasures (account, due_ms) WHERE step < 3;

-- Orders to erase all jobs of an account, and how far their jobs are found.
CREATE TABLE account_erasures (
    account   TEXT     NOT NULL PRIMARY KEY,
    asked_ms  BIGINT   NOT NULL,
    behind    BLOB     NOT NULL DEFAULT x'',       -- the last job that was looked at
    is_walked SMALLINT NOT NULL,
    found     BIGINT   NOT NULL,
    live      BIGINT   NOT NULL
);
CREATE INDEX account_erasures_open ON account_erasures (asked_ms, account) WHERE is_walked = 0;

-- Segments have records of one retention, so that one can be deleted whole; -1: a record that waits until its text is erased.
ALTER TABLE records ADD COLUMN retention_days BIGINT NOT NULL DEFAULT 0;
DROP INDEX records_unclaimed;
CREATE INDEX records_unclaimed ON records (retention_days, settled_ms, job_id) WHERE segment IS NULL;
ALTER TABLE segments ADD COLUMN retention_days BIGINT NOT NULL DEFAULT 0;
ALTER TABLE segments ADD COLUMN expires_ms BIGINT;  -- null: never
ALTER TABLE segments ADD COLUMN removed_ms BIGINT;  -- when it was deleted from the archive
ALTER TABLE segments ADD COLUMN rewrites BIGINT NOT NULL DEFAULT 0;
ALTER TABLE segments ADD COLUMN old_key TEXT;       -- of an object that was replaced and is to be removed
CREATE INDEX segments_replaced ON segments (id) WHERE old_key IS NOT NULL;
CREATE INDEX segments_expiring ON segments (expires_ms, id) WHERE expires_ms IS NOT NULL AND removed_ms IS NULL;
