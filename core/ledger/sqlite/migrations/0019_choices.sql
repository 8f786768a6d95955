-- Version 19: requests for several answers. Which of how many answers of its request a job is; the ids of one request's jobs differ in
-- their last three bits. shows_tokens: the ids of the answer's tokens are told.
ALTER TABLE jobs ADD COLUMN choice SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN choices SMALLINT NOT NULL DEFAULT 1;
ALTER TABLE jobs ADD COLUMN shows_tokens SMALLINT NOT NULL DEFAULT 0;
