-- Version 3: which accounts' nodes may speak to the broker themselves, since when; and until when each node has a token
-- for it. Null: not at all.
ALTER TABLE accounts ADD COLUMN fleet_ms BIGINT;
ALTER TABLE nodes ADD COLUMN admitted_until_ms BIGINT;
