-- Version 11: what the owner of a node wants of it: since when it is withdrawn from draws (null: it isn't), the version of
-- its program, and the models that it may be drawn for (a JSON list; null: all that it serves).
ALTER TABLE nodes ADD COLUMN withdrawn_ms BIGINT;
ALTER TABLE nodes ADD COLUMN version TEXT;
ALTER TABLE nodes ADD COLUMN models TEXT;
CREATE INDEX nodes_owner ON nodes (owner);
-- What a node's verdicts add up to on each day (in UTC, counted from 1970), folded with the balances. The last three: the
-- intervals of ten minutes with a VALID, one bit each, eight hours in each number.
CREATE TABLE node_days (
    node         TEXT   NOT NULL,
    day          BIGINT NOT NULL,
    millipoints  BIGINT NOT NULL,
    tokens       BIGINT NOT NULL,
    valid        BIGINT NOT NULL,
    invalid      BIGINT NOT NULL,
    inconclusive BIGINT NOT NULL,
    missed       BIGINT NOT NULL,
    neutral      BIGINT NOT NULL,
    up_first     BIGINT NOT NULL,
    up_second    BIGINT NOT NULL,
    up_third     BIGINT NOT NULL,
    PRIMARY KEY (node, day)
);
-- What is folded already is added up here; the projector goes on from there.
INSERT INTO node_days
    SELECT node, day, SUM(millipoints)::bigint,
        SUM(CASE verdict WHEN 'valid' THEN tokens ELSE 0 END)::bigint,
        COUNT(*) FILTER (WHERE verdict = 'valid'), COUNT(*) FILTER (WHERE verdict = 'invalid'),
        COUNT(*) FILTER (WHERE verdict = 'inconclusive'), COUNT(*) FILTER (WHERE verdict = 'missed'),
        COUNT(*) FILTER (WHERE verdict = 'neutral'),
        bit_or(CASE WHEN verdict = 'valid' AND slot < 48 THEN 1::bigint << slot ELSE 0 END),
        bit_or(CASE WHEN verdict = 'valid' AND slot BETWEEN 48 AND 95 THEN 1::bigint << (slot - 48) ELSE 0 END),
        bit_or(CASE WHEN verdict = 'valid' AND slot > 95 THEN 1::bigint << (slot - 96) ELSE 0 END)
    FROM (SELECT entry ->> 'node' AS node, posted_ms / 86400000 AS day,
            (posted_ms % 86400000 / 600000)::int AS slot, entry ->> 'verdict' AS verdict,
            (entry ->> 'millipoints')::bigint AS millipoints, (entry ->> 'tokens')::bigint AS tokens
        FROM (SELECT posted_ms, entry::json AS entry FROM postings
            WHERE sequence <= (SELECT sequence FROM projected WHERE name = 'standing')) AS folded
        WHERE entry ->> 'kind' = 'verdict') AS verdicts
    GROUP BY node, day;
