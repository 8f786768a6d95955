//! `POST /signup_user`: makes an account and shows its first key once.
//!
//! Each sign-up makes an account, whether or not the address has some already, so that the reply and the work say nothing of
//! others. An account weighs nothing of its own until its address is proven: by mail, where this network sends some, and by its
//! operator.

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
use crate::mail::Post;

/// `POST /signup_user`.
pub(crate) static SIGNUP: Operation = Operation {
    id: "signupUser",
    group: Group::Own,
    summary: "Make an account and its first key",
    about: "Makes a new account each time and shows its key once. Where the network sends mail, one with a link that proves the \
            address goes out.",
    parameters: &[],
    body: Some(body(Shape::Fields(SIGN_UP), r#"{"email": "ada@example.com"}"#)),
    reply: in_json(
        "The account.",
        Shape::Members(&[
            always("status", Shape::Words(&["created"]), "Always `created`."),
            always("api_key", Shape::Text, "The key."),
            always("account", Shape::Text, "The account's id, by which an operator knows it."),
            always("message", Shape::Text, "What to do now."),
        ]),
    ),
    errors: &[],
};

const SIGN_UP: &[Field] = &[Field::required("email", Kind::Email)
    .about("An e-mail address, to which the account belongs. Capitals make no difference.")];

/// What is told of a new account where no mail is sent.
const KEEP: &str = "Keep this key: it is not shown again.";

/// What is told where mail is sent.
const KEEP_AND_PROVE: &str = "Keep this key: it is not shown again. Open the link in the mail that comes to the address, and the \
                              account counts by itself.";

/// What is told where mail is sent, but this one could not be asked for.
const KEEP_AND_ASK: &str = "Keep this key: it is not shown again. The mail that proves the address could not be asked for: ask for it by \
                            POST /v1/account/address under this key.";

/// Signs up an e-mail address. Once the account is there its key is shown, whether or not the mail could be asked for: it is shown
/// nowhere else, and a client that tries again would make another account.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn signup(
    accounts: &dyn AccountBook,
    post: Option<&Post>,
    call: Call,
) -> Result<Reply, Failure> {
    let [email] = check(&call.json()?, SIGN_UP).map_err(Unfit::from)?.into_fields();
    let failed = |error| {
        tracing::error!(%error, "a sign-up failed");
        ApiError::from(&error)
    };
    // Mailboxes that differ only in case almost always belong to the same person.
    let email = email.into_text().to_ascii_lowercase();
    let key = ApiKey::generate().map_err(|error| {
        tracing::error!(%error, "no key could be made");
        ApiError::Internal
    })?;
    let account = accounts.open_account(&email, &key.first(), Timestamp::now()).await.map_err(failed)?;
    let message = match post {
        None => KEEP,
        Some(post) => match post.ask_for_proof(account.clone(), email, call.address).await {
            Ok(()) => KEEP_AND_PROVE,
            Err(error) => {
                tracing::error!(%error, %account, "the mail that proves a new account's address could not be asked for");
                KEEP_AND_ASK
            }
        },
    };
    let reply = json!({
        "status": "created",
        "api_key": key.expose(),
        "account": account,
        "message": message,
    });
    Ok(Reply::json(&reply)?)
}
