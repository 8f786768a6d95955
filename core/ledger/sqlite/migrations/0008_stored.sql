-- Version 8: how many bytes of requests lie here, of each account and in all: counted where they come and go, so that
-- accepting need not add up rows.
ALTER TABLE waiting ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;
INSERT INTO waiting (account, jobs, bytes)
    SELECT account, 0, SUM(length(request)) FROM jobs WHERE request IS NOT NULL GROUP BY account
    ON CONFLICT (account) DO UPDATE SET bytes = excluded.bytes;
INSERT INTO totals (name, value) SELECT 'body_bytes', COALESCE(SUM(length(request)), 0) FROM jobs;
