//! `POST /signup_user`: makes an account and shows its first key once.
//!
//! If the address has an account already, no key is made and none is shown: otherwise anyone who knows the address
//! could take the account over. The reply reveals whether an address has an account. This is a known weakness, which
//! the limit of sign-ups per network address slows down; it will end once keys are sent by mail.

use infera_ledger::AccountBook;
use infera_types::time::Timestamp;
use serde_json::json;

use super::call::Call;
use crate::access::ApiKey;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::reply::Reply;
use crate::fastapi::{Field, Kind, Unfit, check};

const SIGN_UP: &[Field] = &[Field::required("email", Kind::Email)];

/// Signs up an e-mail address.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn signup(accounts: &dyn AccountBook, call: Call) -> Result<Reply, Failure> {
    let [email] = check(&call.json()?, SIGN_UP).map_err(Unfit::from)?.into_fields();
    let failed = |error| {
        tracing::error!(%error, "a sign-up failed");
        ApiError::from(&error)
    };
    let now = Timestamp::now();
    // Mailboxes that differ only in case almost always belong to the same person, who must not get several accounts.
    let email = email.into_text().to_ascii_lowercase();
    let key = ApiKey::generate().map_err(|error| {
        tracing::error!(%error, "no key could be made");
        ApiError::Internal
    })?;
    let signed_up = accounts.sign_up(&email, Some(key.first()), now).await.map_err(failed)?;
    if !signed_up.is_new {
        let message = "This address has an account; its key was shown when it was made.";
        return Ok(Reply::json(&json!({ "status": "known", "api_key": null, "message": message }))?);
    }
    let message = "Keep this key: it is not shown again.";
    Ok(Reply::json(&json!({ "status": "created", "api_key": key.expose(), "message": message }))?)
}
