-- Version 10: what accounts with many jobs are shown. The ends of jobs in the order of their commits, by whose numbers
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
-- How a job ended: 1 succeeded, 2 failed, 3 cancelled, 4 expired; null before its end.
ALTER TABLE jobs ADD COLUMN ended_as SMALLINT;
-- Jobs from before are shown while their bodies are stored, about a day. No text within the JSON can look like its end:
-- its quotes are escaped.
INSERT INTO job_lists (account, job_id) SELECT account, id FROM jobs WHERE request IS NOT NULL;
UPDATE jobs SET ended_as = CASE json_extract((SELECT settlement FROM settlements WHERE job_id = jobs.id), '$.end.status')
        WHEN 'succeeded' THEN 1 WHEN 'failed' THEN 2 WHEN 'cancelled' THEN 3 WHEN 'expired' THEN 4 END
    WHERE state = 2 AND request IS NOT NULL;
INSERT INTO ends (account, job_id)
    SELECT jobs.account, jobs.id FROM settlements JOIN jobs ON jobs.id = settlements.job_id
    WHERE jobs.request IS NOT NULL ORDER BY settled_ms, jobs.id;
