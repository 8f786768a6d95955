-- Version 6: SHA-256 of what is stored and read again: a job's request, a settlement's JSON, a group's. Null for rows from
-- before.
ALTER TABLE jobs ADD COLUMN request_hash BLOB;
ALTER TABLE settlements ADD COLUMN hash BLOB;
ALTER TABLE groups ADD COLUMN hash BLOB;
