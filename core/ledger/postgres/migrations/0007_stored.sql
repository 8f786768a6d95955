-- Version 7: how many bytes of requests lie here, of each account and in all: counted where they come and go, so that
-- accepting need not add up rows. A share of the latter may be negative: who prunes is not who accepted.
ALTER TABLE waiting ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;
INSERT INTO waiting (account, jobs, bytes)
    SELECT account, 0, SUM(octet_length(request))::bigint FROM jobs WHERE request IS NOT NULL GROUP BY account
    ON CONFLICT (account) DO UPDATE SET bytes = excluded.bytes;
INSERT INTO totals (name, share, value)
    SELECT 'body_bytes', 0, COALESCE(SUM(octet_length(request)), 0)::bigint FROM jobs;
