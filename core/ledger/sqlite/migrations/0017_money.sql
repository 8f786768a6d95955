-- Version 17: money. Prices are in millionths of the currency for a million tokens, all other amounts in billionths. Models
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
-- What jobs for models with a price cost: the price at which they were accepted, what is reserved until their end, and what
-- they cost then (null before it). The month is that of acceptance, counted from the year 0.
CREATE TABLE charges (
    job_id           BLOB     NOT NULL PRIMARY KEY,
    month            BIGINT   NOT NULL,
    prompt_price     BIGINT   NOT NULL,
    completion_price BIGINT   NOT NULL,
    reserved         BIGINT   NOT NULL,
    is_paid          SMALLINT NOT NULL,
    cost             BIGINT
) WITHOUT ROWID;
-- The same added up by account and by key.
CREATE TABLE spending (
    subject  TEXT   NOT NULL,                      -- id of an account or of a key
    month    BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    spent    BIGINT NOT NULL,
    PRIMARY KEY (subject, month)
) WITHOUT ROWID;
ALTER TABLE usage ADD COLUMN cost BIGINT NOT NULL DEFAULT 0;
