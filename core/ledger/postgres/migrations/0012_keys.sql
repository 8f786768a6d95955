-- Version 12: what is known of API keys beside their hash. A key has a public id; scopes are words with commas; a key that was
-- rotated names its successor and expires. A key or an account that is blocked opens nothing while it is.
ALTER TABLE api_keys ADD COLUMN id TEXT;
ALTER TABLE api_keys ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN scopes TEXT NOT NULL DEFAULT 'user';
ALTER TABLE api_keys ADD COLUMN expires_ms BIGINT;
ALTER TABLE api_keys ADD COLUMN blocked_ms BIGINT;
ALTER TABLE api_keys ADD COLUMN successor TEXT;
UPDATE api_keys SET id = 'key_' || replace(gen_random_uuid()::text, '-', '');
CREATE UNIQUE INDEX api_keys_id ON api_keys (id);
CREATE INDEX api_keys_account ON api_keys (account, issued_ms);
ALTER TABLE accounts ADD COLUMN blocked_ms BIGINT;

-- The key under which a job was asked for; null for jobs from before. What each key used of each model on each day (since
-- 1970, UTC), counted in the transaction that ends a job.
ALTER TABLE jobs ADD COLUMN key_id TEXT;
CREATE TABLE usage (
    account           TEXT   NOT NULL,
    day               BIGINT NOT NULL,
    key_id            TEXT   NOT NULL,             -- empty for jobs from before
    model             TEXT   NOT NULL,
    requests          BIGINT NOT NULL,
    prompt_tokens     BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    PRIMARY KEY (account, day, key_id, model)
);
