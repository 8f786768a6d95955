-- Version 4: why a job failed (`FailureReason`'s word), null for every other end. So that an operator who looks for
-- poison reads no other end's JSON.
ALTER TABLE settlements ADD COLUMN reason TEXT;
-- No text within the JSON can look like this: its quotes are escaped.
UPDATE settlements SET reason = json_extract(settlement, '$.end.reason')
    WHERE settlement LIKE '%"end":{"status":"failed","reason":"%';
CREATE INDEX settlements_poison ON settlements (settled_ms, job_id) WHERE reason = 'poison';
