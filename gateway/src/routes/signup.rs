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
use crate::api::operation::{Group, Operation, Shape, always, body, json as in_json};
use crate::api::reply::Reply;
use crate::fastapi::{Field, Kind, Unfit, check};

/// `POST /signup_user`.
pub(crate) static SIGNUP: Operation = Operation {
    id: "signupUser",
    group: Group::Own,
    summary: "Make an account and its first key",
    about: "Shows the key once. An address that has an account already gets no key.",
    parameters: &[],
    body: Some(body(Shape::Fields(SIGN_UP), r#"{"email": "ada@example.com"}"#)),
    reply: in_json(
        "The account, new or known.",
        Shape::Members(&[
            always("status", Shape::Words(&["created", "known"]), "Whether the account is new."),
            always("api_key", Shape::Maybe(&Shape::Text), "The key, if the account is new."),
            always("message", Shape::Text, "What to do now."),
        ]),
    ),
    errors: &[],
};

const SIGN_UP: &[Field] = &[Field::required("email", Kind::Email)
    .about("An e-mail address, to which the account belongs. Capitals make no difference.")];

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
