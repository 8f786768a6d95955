-- Version 5: a node has one VALID for a job, so that it is paid for it once, however many verifiers asked it. Null for
-- every other posting, and for those of before.
ALTER TABLE postings ADD COLUMN valid_node TEXT;
CREATE UNIQUE INDEX postings_valid ON postings (job_id, valid_node) WHERE valid_node IS NOT NULL;
