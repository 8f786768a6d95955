-- Version 9: what accounts with many jobs are shown. The ends of jobs, by whose numbers clients read on: assigned before
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
-- How a job ended: 1 succeeded, 2 failed, 3 cancelled, 4 expired; null before its end.
ALTER TABLE jobs ADD COLUMN ended_as SMALLINT;
-- Jobs from before are shown while their bodies are stored, about a day. No text within the JSON can look like its end:
-- its quotes are escaped. (Taken for JSON it could not be read where an answer has U+0000 in it.)
INSERT INTO job_lists (account, job_id) SELECT account, id FROM jobs WHERE request IS NOT NULL;
UPDATE jobs SET ended_as = CASE substring(settlement FROM '"end":\{"status":"([a-z]+)"')
        WHEN 'succeeded' THEN 1 WHEN 'failed' THEN 2 WHEN 'cancelled' THEN 3 WHEN 'expired' THEN 4 END
    FROM settlements WHERE settlements.job_id = jobs.id AND request IS NOT NULL;
INSERT INTO ends (account, job_id)
    SELECT jobs.account, jobs.id FROM settlements JOIN jobs ON jobs.id = settlements.job_id
    WHERE jobs.request IS NOT NULL ORDER BY settled_ms, jobs.id;
