-- Version 9: one row that is written to see whether commits come through.
CREATE TABLE probe (
    id     SMALLINT NOT NULL PRIMARY KEY,          -- always 1
    filler BLOB     NOT NULL
);
