-- Version 10: what accounts with many jobs are shown. The ends of jobs, by whose numbers clients read on: assigned before
-- the commit, and shown up to the number below which every one is committed (`projected`, the row `ends`).
CREATE TABLE ends (
    number  BIGINT GENERATED ALWAYS AS IDENTITY,
    account TEXT  NOT NULL,
    job_id  BYTEA NOT NULL,
    PRIMARY KEY (account, number)
);
INSERT INTO projected (name, sequence) VALUES ('ends', 0);
-- The jobs of each account in the order of their ids, with the client's pairs. A table of its own: `jobs` is updated
-- several times in a job's life, which would write to each of its indexes every time; this is not.
CREATE TABLE job_lists (
    account  TEXT  NOT NULL,
    job_id   BYTEA NOT NULL,
    metadata TEXT,                                 -- JSON object of texts; null: no pairs
    PRIMARY KEY (account, job_id)
);
-- How a job ended: 1 succeeded, 2 failed, 3 cancelled, 4 expired; null before its end, and for ends from before.
ALTER TABLE jobs ADD COLUMN ended_as SMALLINT;
-- Of the jobs from before, those are listed that have not ended: they are few, and no migration reads all that ended.
INSERT INTO job_lists (account, job_id) SELECT account, id FROM jobs WHERE state < 2;
