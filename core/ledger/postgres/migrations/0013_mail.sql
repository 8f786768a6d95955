-- Version 13: addresses that are proven by mail. An address (accounts.email) names one account: the one that proved it, or else the
-- first that signed up with it. Others stand under it with '#' and their id. address_ms: since when the address is proven by mail.
ALTER TABLE accounts ADD COLUMN address_ms BIGINT;

-- Mails that were asked for. due_ms: when the next try's turn is, or until when one gateway tries; null: sent or given up, and
-- kept for an hour because they count for the bounds.
CREATE TABLE mails (
    id       BYTEA  NOT NULL PRIMARY KEY,
    kind     TEXT   NOT NULL,
    address  TEXT   NOT NULL,
    account  TEXT,                                 -- null: of a recovery
    network  TEXT   NOT NULL,
    asked_ms BIGINT NOT NULL,
    due_ms   BIGINT,
    tries    BIGINT NOT NULL
);
CREATE INDEX mails_due ON mails (due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX mails_asked ON mails (asked_ms);

-- The codes that mails carry, as hashes of their secret parts.
CREATE TABLE mail_codes (
    id         BYTEA  NOT NULL PRIMARY KEY,
    hash       BYTEA  NOT NULL,
    kind       TEXT   NOT NULL,
    account    TEXT   NOT NULL,
    address    TEXT   NOT NULL,
    expires_ms BIGINT NOT NULL,
    wrong      BIGINT NOT NULL
);
CREATE INDEX mail_codes_account ON mail_codes (account);
CREATE INDEX mail_codes_expires ON mail_codes (expires_ms);

-- What happened to accounts by mail.
CREATE TABLE account_events (
    sequence BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account  TEXT   NOT NULL,
    at_ms    BIGINT NOT NULL,
    event    TEXT   NOT NULL,
    key_id   TEXT
);
CREATE INDEX account_events_account ON account_events (account, sequence);
