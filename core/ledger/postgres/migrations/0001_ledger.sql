-- The ledger's tables in PostgreSQL, version 1: those of SQLite with BYTEA for bytes and an identity for the postings'
-- sequence, and a share in `totals`. Times are milliseconds since 1970, flags are 0 or 1, JSON is text (a group's is
-- bytes, it is large and never searched).

-- One row per accepted job. State: 0 queued, 1 running, 2 ended.
CREATE TABLE jobs (
    id              BYTEA    NOT NULL PRIMARY KEY,
    account         TEXT     NOT NULL,
    model           TEXT     NOT NULL,
    request         BYTEA,                          -- null once archived and past its retention
    quorum          SMALLINT NOT NULL,
    replicas        SMALLINT NOT NULL,
    gateway         TEXT     NOT NULL,
    synchronous     SMALLINT NOT NULL,
    accepted_ms     BIGINT   NOT NULL,
    deadline_ms     BIGINT   NOT NULL,
    epoch           BIGINT   NOT NULL,
    state           SMALLINT NOT NULL,
    owner           TEXT,                          -- the verifier that has it
    handouts        BIGINT   NOT NULL,             -- takes that were not given back
    is_handed_out   SMALLINT NOT NULL,             -- the last take was neither given back nor counted as lost
    lost_handouts   BIGINT   NOT NULL,
    misses          TEXT     NOT NULL,             -- JSON list
    unconfirmed_ms  BIGINT                         -- since when the broker has not confirmed a notice; null: it has
);
-- What the sweeper asks for. Partial, so that they hold live jobs only, however many ended ones there are.
CREATE INDEX jobs_unconfirmed ON jobs (unconfirmed_ms) WHERE state = 0 AND unconfirmed_ms IS NOT NULL;
CREATE INDEX jobs_queued ON jobs (model, accepted_ms) WHERE state = 0;
CREATE INDEX jobs_running ON jobs (accepted_ms, owner) WHERE state = 1;
CREATE INDEX jobs_live_deadline ON jobs (deadline_ms) WHERE state < 2;

-- What a client's idempotency key was first used for.
CREATE TABLE idempotency (
    account     TEXT NOT NULL,
    key         BYTEA NOT NULL,
    fingerprint BYTEA NOT NULL,
    job_id      BYTEA NOT NULL,
    PRIMARY KEY (account, key)
);
CREATE INDEX idempotency_job ON idempotency (job_id); -- they are forgotten with the job's body

-- How many jobs of an account have not ended: counted in the transactions that change it, so that accepting need not
-- count rows.
CREATE TABLE waiting (
    account TEXT   NOT NULL PRIMARY KEY,
    jobs    BIGINT NOT NULL
);

-- Sums over all jobs ever, counted the same way. Each process adds to rows of its own share, so that the commits of two
-- don't wait for each other; a sum is over all shares.
CREATE TABLE totals (
    name  TEXT     NOT NULL,
    share SMALLINT NOT NULL,
    value BIGINT   NOT NULL,
    PRIMARY KEY (name, share)
);

-- The end of a job. The primary key is what makes it one end; rows are never changed.
CREATE TABLE settlements (
    job_id     BYTEA  NOT NULL PRIMARY KEY,
    settled_ms BIGINT NOT NULL,
    settlement TEXT   NOT NULL                     -- JSON without the group
);

-- The replica groups of settled jobs, until they are archived and past their retention.
CREATE TABLE groups (
    job_id      BYTEA    NOT NULL PRIMARY KEY,
    verifier    TEXT     NOT NULL,
    deadline_ms BIGINT   NOT NULL,
    is_closed   SMALLINT NOT NULL,
    record      BYTEA    NOT NULL                  -- JSON; empty while only the job's verifier knows it
);
CREATE INDEX groups_open ON groups (deadline_ms) WHERE is_closed = 0;

CREATE TABLE disputes (
    job_id    BYTEA  NOT NULL PRIMARY KEY,
    status    TEXT   NOT NULL,
    detail    TEXT   NOT NULL,
    opened_ms BIGINT NOT NULL
);

-- The account book. Append-only; the sequence is the order of folding.
CREATE TABLE postings (
    sequence  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id        TEXT    NOT NULL UNIQUE,
    job_id    BYTEA   NOT NULL,
    posted_ms BIGINT  NOT NULL,
    entry     TEXT    NOT NULL                     -- JSON
);
CREATE INDEX postings_job ON postings (job_id);

-- What the projector has folded out of the postings, and how far it has come.
CREATE TABLE projected (
    name     TEXT   NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL
);
INSERT INTO projected (name, sequence) VALUES ('standing', 0); -- projectors take turns by locking it
CREATE TABLE balances (
    subject           TEXT   NOT NULL PRIMARY KEY,
    millipoints       BIGINT NOT NULL,
    prompt_tokens     BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    postings          BIGINT NOT NULL
);
CREATE TABLE standings (
    node           TEXT             NOT NULL,
    model          TEXT             NOT NULL,
    good           DOUBLE PRECISION NOT NULL,
    bad            DOUBLE PRECISION NOT NULL,
    on_time        DOUBLE PRECISION NOT NULL,
    asked          DOUBLE PRECISION NOT NULL,
    tokens         DOUBLE PRECISION NOT NULL,
    seconds        DOUBLE PRECISION NOT NULL,
    valid_count    BIGINT           NOT NULL,
    first_valid_ms BIGINT,
    updated_ms     BIGINT           NOT NULL,
    PRIMARY KEY (node, model)
);

CREATE TABLE leases (
    name     TEXT   NOT NULL PRIMARY KEY,
    holder   TEXT   NOT NULL,
    until_ms BIGINT NOT NULL
);

CREATE TABLE catalogue (
    name  TEXT NOT NULL PRIMARY KEY,
    entry TEXT NOT NULL                            -- JSON
);

CREATE TABLE nodes (
    id            TEXT   NOT NULL PRIMARY KEY,
    name          TEXT   NOT NULL UNIQUE,
    secret        BYTEA  NOT NULL,                 -- SHA-256
    owner         TEXT   NOT NULL,
    registered_ms BIGINT NOT NULL,
    revoked_ms    BIGINT
);

CREATE TABLE epochs (
    number   BIGINT NOT NULL PRIMARY KEY,
    secret   BYTEA  NOT NULL,
    began_ms BIGINT NOT NULL
);

CREATE TABLE accounts (
    id         TEXT   NOT NULL PRIMARY KEY,
    email      TEXT   NOT NULL UNIQUE,
    created_ms BIGINT NOT NULL
);

CREATE TABLE api_keys (
    hash       BYTEA  NOT NULL PRIMARY KEY,        -- SHA-256
    account    TEXT   NOT NULL,
    hint       TEXT   NOT NULL,
    issued_ms  BIGINT NOT NULL,
    revoked_ms BIGINT
);

-- The archive's index: segments, and the jobs whose record may be archived (settled, and closed if they had a group).
CREATE TABLE segments (
    id         BYTEA  NOT NULL PRIMARY KEY,
    claimed_ms BIGINT NOT NULL,
    object_key TEXT                                -- null until the object is written
);
CREATE INDEX segments_unfinished ON segments (claimed_ms) WHERE object_key IS NULL;
CREATE TABLE records (
    job_id       BYTEA  NOT NULL PRIMARY KEY,
    settled_ms   BIGINT NOT NULL,
    segment      BYTEA,                             -- null until claimed
    frame_offset BIGINT,                           -- this and below null until recorded
    frame_length BIGINT,
    line         BIGINT,
    hash         BYTEA,
    is_pruned    SMALLINT NOT NULL                 -- the request's body is gone
);
CREATE INDEX records_unclaimed ON records (settled_ms, job_id) WHERE segment IS NULL;
CREATE INDEX records_segment ON records (segment, settled_ms, job_id) WHERE segment IS NOT NULL;
CREATE INDEX records_prunable ON records (settled_ms) WHERE hash IS NOT NULL AND is_pruned = 0;
