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
use crate::api::reply::Reply;

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
    cache.forget(|caller| caller.account == account);
    let object = json!({ "id": account, "object": "account", "blocked": since.map(Timestamp::as_secs) });
    Ok(Reply::json(&object)?)
}
