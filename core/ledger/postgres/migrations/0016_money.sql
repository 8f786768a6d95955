-- Version 16: money. Prices are in millionths of the currency for a million tokens, all other amounts in billionths. Models
-- without a row are free.
CREATE TABLE prices (
    model      TEXT   NOT NULL PRIMARY KEY,
    prompt     BIGINT NOT NULL,
    completion BIGINT NOT NULL
);
-- What may be spent in a calendar month (null: no limit), and whether an account pays for what it owes.
ALTER TABLE accounts ADD COLUMN spend_limit BIGINT;
ALTER TABLE accounts ADD COLUMN pays SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN spend_limit BIGINT;
-- The key under which a key's spending is counted: the first of those that were rotated into it; null: itself.
ALTER TABLE api_keys ADD COLUMN purse TEXT;
-- What jobs for models with a price cost: the price at which they were accepted, what is reserved until their end, and the
-- purse of the key that asked (null: none). The month is that of acceptance, counted from the year 0.
CREATE TABLE charges (
    job_id           BYTEA    NOT NULL PRIMARY KEY,
    month            BIGINT   NOT NULL,
    prompt_price     BIGINT   NOT NULL,
    completion_price BIGINT   NOT NULL,
    reserved         BIGINT   NOT NULL,
    is_paid          SMALLINT NOT NULL,
    purse            TEXT
);
-- What is reserved and spent, by account and by purse.
CREATE TABLE spending (
    subject  TEXT   NOT NULL,                      -- id of an account or of a purse
    month    BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    spent    BIGINT NOT NULL,
    PRIMARY KEY (subject, month)
);
ALTER TABLE usage ADD COLUMN cost BIGINT NOT NULL DEFAULT 0;
