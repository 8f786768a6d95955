//! The statements about mails, and about accounts whose addresses they prove.

/// Makes an account (`$1`) at `$3`. If the address (`$2`) names an account already, this one stands under the address with `#` and
/// its id.
#[macro_export]
macro_rules! open_account {
    () => {
        "INSERT INTO accounts (id, email, created_ms)
            SELECT CAST($1 AS TEXT), CASE WHEN EXISTS (SELECT 1 FROM accounts WHERE email = CAST($2 AS TEXT))
                THEN CAST($2 AS TEXT) || '#' || CAST($1 AS TEXT) ELSE CAST($2 AS TEXT) END, CAST($3 AS BIGINT)"
    };
}

/// Makes an account.
pub const OPEN_ACCOUNT: &str = open_account!();

/// Puts a mail into the outbox: its id (`$1`, whose expression the database has), kind (`$2`), address (`$3`), account (`$4`),
/// network (`$5`) and time (`$6`), unless the mails of its kind of `$7` to `$8` are as many as `$9` in all, `$10` to the address or
/// `$11` of the network. Mails that went to no one count for the latter two only. Returns a row if it is there.
#[macro_export]
macro_rules! ask_for_mail {
    ($id:literal) => {
        concat!(
            "INSERT INTO mails (id, kind, address, account, network, asked_ms, due_ms, tries)
            SELECT ",
            $id,
            ", CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT), CAST($6 AS BIGINT),
                CAST($6 AS BIGINT), 0
            FROM (SELECT COALESCE(SUM(CASE WHEN is_void = 0 THEN 1 ELSE 0 END), 0) AS in_all,
                    COALESCE(SUM(CASE WHEN address = CAST($3 AS TEXT) THEN 1 ELSE 0 END), 0) AS of_address,
                    COALESCE(SUM(CASE WHEN network = CAST($5 AS TEXT) THEN 1 ELSE 0 END), 0) AS of_network
                FROM mails WHERE asked_ms > CAST($7 AS BIGINT) AND asked_ms <= CAST($8 AS BIGINT)
                    AND kind = CAST($2 AS TEXT)) AS lately
            WHERE in_all < CAST($9 AS BIGINT) AND of_address < CAST($10 AS BIGINT)
                AND of_network < CAST($11 AS BIGINT)
            ON CONFLICT (id) DO NOTHING RETURNING 1"
        )
    };
}

/// Takes at most `$4` mails that are due by now (`$1`), or later than a right clock can have said (`$2`), until `$3`: id, kind,
/// address, account, tries. How rows are locked is the database's own.
#[macro_export]
macro_rules! take_mails {
    ($lock:literal) => {
        concat!(
            "WITH due AS MATERIALIZED (
                SELECT id FROM mails WHERE due_ms IS NOT NULL AND (due_ms <= $1 OR due_ms > $2)
                ORDER BY due_ms, id LIMIT $4 ",
            $lock,
            ")
            UPDATE mails SET due_ms = $3, tries = tries + 1 WHERE id IN (SELECT id FROM due)
            RETURNING id, kind, address, account, tries"
        )
    };
}

/// Finds whether an account (`$1`) may prove an address (`$2`): 0 if it may, 1 if another account has proven the address, 2 if this
/// one has proven one already or is blocked. No row: there is no such account.
pub const MAY_PROVE: &str = "SELECT CASE WHEN address_ms IS NOT NULL OR blocked_ms IS NOT NULL THEN 2
        WHEN EXISTS (SELECT 1 FROM accounts AS other
            WHERE other.email = $2 AND other.id <> $1 AND other.address_ms IS NOT NULL) THEN 1 ELSE 0 END
    FROM accounts WHERE id = $1";

/// Finds the account that has proven an address (`$1`) and isn't blocked.
pub const PROVEN_ACCOUNT: &str =
    "SELECT id FROM accounts WHERE email = $1 AND address_ms IS NOT NULL AND blocked_ms IS NULL";

/// Stores a code.
pub const ISSUE_CODE: &str = "INSERT INTO mail_codes (id, hash, kind, account, address, expires_ms, wrong)
    VALUES ($1, $2, $3, $4, $5, $6, 0) ON CONFLICT (id) DO NOTHING";

/// Notes that a mail (`$1`) has no one to go to.
pub const VOID_MAIL: &str = "UPDATE mails SET is_void = 1 WHERE id = $1";

/// Sets when a mail's turn comes again.
pub const FINISH_MAIL: &str = "UPDATE mails SET due_ms = CAST($2 AS BIGINT) WHERE id = $1";

/// Forgets finished mails that were asked for by `$1`, or later than a right clock can say (`$2`).
pub const FORGET_MAILS: &str = "DELETE FROM mails WHERE due_ms IS NULL AND (asked_ms <= $1 OR asked_ms > $2)";

/// Forgets codes that have expired by now (`$1`).
pub const FORGET_CODES: &str = "DELETE FROM mail_codes WHERE expires_ms <= $1";

/// Finds a code: kind, hash, expiry, wrong secrets, account, address.
pub const CODE: &str = "SELECT kind, hash, expires_ms, wrong, account, address FROM mail_codes WHERE id = $1";

/// Counts a wrong secret.
pub const WRONG_CODE: &str = "UPDATE mail_codes SET wrong = wrong + 1 WHERE id = $1";

/// Takes an address (`$1`) from an account that has not proven it, and is another than `$2`.
pub const FREE_ADDRESS: &str = "UPDATE accounts SET email = email || '#' || id
    WHERE email = $1 AND id <> $2 AND address_ms IS NULL";

/// Finds at most `$2` events of an account (`$1`), newest first.
pub const ACCOUNT_EVENTS: &str = "SELECT event, at_ms, key_id FROM account_events WHERE account = $1
    ORDER BY sequence DESC LIMIT $2";
