-- Version 20: rows are smaller. Settlements, groups and postings are written packed, as blobs in the columns that had text;
-- rows of before stay as they are and are read. A posting's id is a kind and sixteen bytes.
--
-- One index finds a job's postings and holds each node's one VALID for it.
CREATE UNIQUE INDEX postings_job_node ON postings (job_id, valid_node);
DROP INDEX postings_valid;
DROP INDEX postings_job;
-- `is_pruned` of a record: 0 all is here, 3 its group is gone, 1 its body too, 2 kept because its object was lost.
CREATE INDEX records_ungrouped ON records (settled_ms) WHERE hash IS NOT NULL AND is_pruned = 3;
