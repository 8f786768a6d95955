-- Version 11: what accounts with many jobs are shown. The ends of jobs in the order of their commits, by whose numbers
-- clients read on; a number is used once, also if the last row was deleted.
CREATE TABLE ends (
    number  INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    account TEXT    NOT NULL,
    job_id  BLOB    NOT NULL
);
CREATE INDEX ends_account ON ends (account, number);
-- The jobs of each account in the order of their ids, with the client's pairs. A table of its own: `jobs` is updated
-- several times in a job's life, this is not.
CREATE TABLE job_lists (
    account  TEXT NOT NULL,
    job_id   BLOB NOT NULL,
    metadata TEXT,                                 -- JSON object of texts; null: no pairs
    PRIMARY KEY (account, job_id)
) WITHOUT ROWID;
-- How a job ended: 1 succeeded, 2 failed, 3 cancelled, 4 expired; null before its end, and for ends from before.
ALTER TABLE jobs ADD COLUMN ended_as SMALLINT;
-- Of the jobs from before, those are listed that have not ended: they are few, and no migration reads all that ended.
INSERT INTO job_lists (account, job_id) SELECT account, id FROM jobs WHERE state < 2;
