-- Version 9, under the number of the same change to SQLite's tables: how jobs wait for their turn. A held job is in no
-- queue of the broker until the feeder offers it. Jobs of programs of the version before, which publish every job
-- themselves, count as offered. Shares and accounts are compared by their bytes, in whatever order the database sorts.
-- `share_weight`, because statements of the version before would find a `weight` ambiguous.
ALTER TABLE jobs ADD COLUMN lane SMALLINT NOT NULL DEFAULT 0;              -- 0 a client waits, 1 collected later
ALTER TABLE jobs ADD COLUMN tier SMALLINT NOT NULL DEFAULT 1;              -- 0 flex, 1 default, 2 priority
ALTER TABLE jobs ADD COLUMN share TEXT COLLATE "C" NOT NULL DEFAULT '';    -- what it is counted under
ALTER TABLE jobs ADD COLUMN share_weight BIGINT NOT NULL DEFAULT 1;
ALTER TABLE jobs ADD COLUMN held SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN prompt_estimate BIGINT NOT NULL DEFAULT 0;     -- in tokens
ALTER TABLE jobs ADD COLUMN charged BIGINT NOT NULL DEFAULT 0;             -- tokens, when it was offered
-- Answers who waits, how many of a share are offered, and which held jobs are the oldest of each flow.
DROP INDEX jobs_queued;
CREATE INDEX jobs_queued ON jobs (model, held, lane, share, tier, account COLLATE "C", accepted_ms) WHERE state = 0;
-- What an account's answers usually take (null before the first), and the sum of what they took beyond what their jobs
-- were charged with.
ALTER TABLE waiting ADD COLUMN usual_tokens BIGINT;
ALTER TABLE waiting ADD COLUMN excess_tokens BIGINT NOT NULL DEFAULT 0;
-- Since when an account counts by itself; null: under the network of its client. Accounts that exist are proven.
ALTER TABLE accounts ADD COLUMN proven_ms BIGINT;
UPDATE accounts SET proven_ms = created_ms;
ALTER TABLE accounts ADD COLUMN weight BIGINT NOT NULL DEFAULT 1;
ALTER TABLE api_keys ADD COLUMN may_prioritise SMALLINT NOT NULL DEFAULT 0;
