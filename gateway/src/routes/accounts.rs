//! `POST /v1/accounts/{id}/block` and `/unblock`: what operators may do to an account.

use infera_ledger::KeyBook;
use infera_types::ids::AccountId;
use infera_types::time::Timestamp;
use serde_json::json;

use super::call::Call;
use super::keys::{Blocking, failed};
use crate::access::KeyCache;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::operation::{Group, Member, Operation, Parameter, Place, Shape, always, json as in_json};
use crate::api::reply::Reply;

const fn operation(id: &'static str, summary: &'static str, about: &'static str) -> Operation {
    Operation {
        id,
        group: Group::Keys,
        summary,
        about,
        parameters: &[ID],
        body: None,
        reply: in_json("The account.", Shape::Members(ACCOUNT)),
        errors: &["not_found"],
    }
}

const ACCOUNT: &[Member] = &[
    always("id", Shape::Text, "The account's id."),
    always("object", Shape::Words(&["account"]), "The kind of object."),
    always("blocked", Shape::Maybe(&Shape::Time), "Since when it is blocked."),
];

const ID: Parameter = Parameter {
    place: Place::Path,
    name: "id",
    shape: Shape::Text,
    about: "The account's id.",
    example: "acct_01993a5f2c7e7b6c9d1f0a2b3c4d5e6f",
};

/// `POST /v1/accounts/{id}/block`.
pub(crate) static BLOCK: Operation = operation(
    "blockAccount",
    "Block an account",
    "Its keys open nothing and its nodes are let in no more; accepted jobs go on. The caller's key needs the scope `admin`.",
);

/// `POST /v1/accounts/{id}/unblock`.
pub(crate) static UNBLOCK: Operation = operation(
    "unblockAccount",
    "Take back an account's block",
    "Its keys and nodes are let in again. The caller's key needs the scope `admin`.",
);

/// Blocks an account, or takes its block back: its keys open nothing meanwhile, and its nodes are let in no more. Jobs that
/// were accepted before go on.
///
/// # Errors
/// [`ApiError::NotFound`], or the ledger's error.
pub(crate) async fn block(
    book: &dyn KeyBook,
    cache: &KeyCache,
    call: &Call,
    blocking: Blocking,
) -> Result<Reply, Failure> {
    let account = AccountId::new(call.id.as_str());
    let since = blocking.since(Timestamp::now());
    if !book.block_account(&account, since).await.map_err(failed)? {
        return Err(ApiError::NotFound.into());
    }
    cache.forget(|_, whose| *whose == account);
    let object = json!({ "id": account, "object": "account", "blocked": since.map(Timestamp::as_secs) });
    Ok(Reply::json(&object)?)
}
