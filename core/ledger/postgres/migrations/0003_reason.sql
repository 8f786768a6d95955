-- Version 3: why a job failed (`FailureReason`'s word), null for every other end. So that an operator who looks for
-- poison reads no other end's JSON.
ALTER TABLE settlements ADD COLUMN reason TEXT;
-- No text within the JSON can look like this: its quotes are escaped. (Taken for JSON it could not be read where an
-- answer has U+0000 in it.)
UPDATE settlements SET reason = substring(settlement FROM '"end":\{"status":"failed","reason":"([a-z_]+)"')
    WHERE settlement LIKE '%"end":{"status":"failed","reason":"%';
CREATE INDEX settlements_poison ON settlements (settled_ms, job_id) WHERE reason = 'poison';
