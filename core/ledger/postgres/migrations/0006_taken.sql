-- Version 6: when a lease was taken or renewed. One that was taken later than now, by a clock that was ahead, is none.
ALTER TABLE leases ADD COLUMN taken_ms BIGINT NOT NULL DEFAULT 0;
