//! The statements about money that SQLite and PostgreSQL share word for word.

/// Sets the price of a model (`$1`) that the catalogue has: for prompts (`$2`) and for answers (`$3`).
pub const SET_PRICE: &str = "INSERT INTO prices (model, prompt, completion)
    SELECT name, CAST($2 AS BIGINT), CAST($3 AS BIGINT) FROM catalogue WHERE name = $1
    ON CONFLICT (model) DO UPDATE SET prompt = excluded.prompt, completion = excluded.completion
    RETURNING 1";

/// Sets the limit (`$2`) of an account (`$1`: its address or its id), and returns its id.
pub const LIMIT_ACCOUNT: &str =
    "UPDATE accounts SET spend_limit = CAST($2 AS BIGINT) WHERE email = $1 OR id = $1 RETURNING id";

/// Sets whether an account (`$1`: its address or its id) pays, and returns its id.
pub const SET_PAYS: &str = "UPDATE accounts SET pays = $2 WHERE email = $1 OR id = $1 RETURNING id";

/// Finds what an account (`$1`) may spend, and spent in a month (`$2`): whether it pays, limit, spent, reserved.
pub const SPENDING_OF_ACCOUNT: &str =
    "SELECT accounts.pays, accounts.spend_limit, COALESCE(spending.spent, 0),
        COALESCE(spending.reserved, 0)
    FROM accounts LEFT JOIN spending ON spending.subject = accounts.id AND spending.month = $2
    WHERE accounts.id = $1";

/// The columns of what a key may spend, and spent in a month (`$2`): id, limit, spent, reserved.
macro_rules! key_spending {
    () => {
        "SELECT api_keys.id, api_keys.spend_limit, COALESCE(spending.spent, 0), COALESCE(spending.reserved, 0)
        FROM api_keys LEFT JOIN spending
            ON spending.subject = COALESCE(api_keys.purse, api_keys.id) AND spending.month = $2 "
    };
}

/// Finds what a key (`$1`) may spend, and spent in a month (`$2`).
pub const SPENDING_OF_KEY: &str = concat!(key_spending!(), "WHERE api_keys.id = $1");

/// Finds what at most `$3` keys of an account (`$1`) may spend, and spent in a month (`$2`): those that a list of keys shows.
pub const SPENDING_OF_KEYS: &str = concat!(
    key_spending!(),
    "WHERE api_keys.account = $1 ORDER BY api_keys.issued_ms DESC, api_keys.id LIMIT $3"
);
