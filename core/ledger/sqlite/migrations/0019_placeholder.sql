-- Version 19: nothing; the number is that of a change that is made beside this one.
SELECT 1;
