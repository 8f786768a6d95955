-- Version 5: SHA-256 of what is stored and read again: a job's request, a settlement's JSON, a group's. Null for rows from
-- before.
ALTER TABLE jobs ADD COLUMN request_hash BYTEA;
ALTER TABLE settlements ADD COLUMN hash BYTEA;
ALTER TABLE groups ADD COLUMN hash BYTEA;
