-- Version 2: the idempotency keys of a job are forgotten with its body, so they are looked for by job.
CREATE INDEX idempotency_job ON idempotency (job_id);
