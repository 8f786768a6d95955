//! The JSON objects that show an API key. They never hold the key itself, but for the one reply that made it.

use infera_ledger::{KeyView, Scope, Spending};
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use crate::api::amounts::put_spending;

/// Makes the object of a key as it is at `now`, with what it may spend and spent in this month.
#[must_use]
pub(crate) fn key(view: &KeyView, spending: Spending, now: Timestamp) -> Value {
    let seconds = |time: Option<Timestamp>| time.map(Timestamp::as_secs);
    let scopes: Vec<&str> = view.scopes.iter().map(Scope::word).collect();
    let mut object = json!({
        "id": view.id,
        "object": "api_key",
        "account": view.account,
        "name": view.name,
        "hint": view.hint,
        "scopes": scopes,
        "status": view.status(now),
        "created": view.issued_ms.as_secs(),
        "expires": seconds(view.expires_ms),
        "revoked": seconds(view.revoked_ms),
        "replaced_by": view.successor,
        "store": view.privacy.stores,
        "retention_days": view.privacy.retention_days,
    });
    if let Some(members) = object.as_object_mut() {
        put_spending(spending, members);
    }
    object
}

/// Makes the object of a key that was just made, with the key in it, which is shown this once.
#[must_use]
pub(crate) fn made(view: &KeyView, spending: Spending, secret: &str, now: Timestamp) -> Value {
    let mut object = key(view, spending, now);
    object["key"] = secret.into();
    object
}
