//! `/v1/keys`: an account's API keys, by their public ids. A key can do to another key only what it may do itself: it needs
//! the other's scopes, and it makes no key that outlives it. A key with the scope `admin` acts on any account.

mod asked;
mod described;

use std::time::Duration;

use infera_ledger::{
    Added, KeyBook, KeyChange, KeyView, LedgerError, NewKey, Rotated, Rotation, Scope, Scopes,
};
use infera_types::ids::{AccountId, KeyId};
use infera_types::time::Timestamp;
use serde_json::json;

use super::call::Call;
use crate::access::{ApiKey, Caller, KeyCache};
use crate::api::denied::Denied;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::key_objects;
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::fastapi::{Bound, Field, Kind, Range, Unfit, check_closed};

use asked::{Asked, CHANGED, KEY};
pub(in crate::routes) use asked::{text, wrong};
pub(in crate::routes) use described::ACCOUNT;
pub(crate) use described::{BLOCK, CHANGE, CREATE, END, LIST, ROTATE, SHOW, UNBLOCK};

/// The largest number of valid keys of an account: one for each of many services, and far fewer than would make lists long.
const LIVE_MAX: u32 = 100;

/// The largest number of keys that a list shows, newest first. Revoked keys stay on record.
const LISTED_MAX: u32 = 1_000;

/// How long a rotated key stays valid if the request doesn't say, in seconds: long enough to roll out its successor by hand.
const OVERLAP_DEFAULT_S: i64 = 3_600;

/// The longest overlap, in seconds: a week. What needs longer can have a second key.
const OVERLAP_MAX_S: i64 = 7 * 86_400;

const ROTATION: &[Field] = &[Field::optional("overlap_s", Kind::Nullable(&Kind::Integer))
    .about("How long the old key stays valid, in seconds.")
    .range(Range::Integers { least: 0, most: Bound::Integer(OVERLAP_MAX_S) })
    .default(Bound::Integer(OVERLAP_DEFAULT_S))];

/// Whether a block begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocking {
    /// The block begins.
    Begin,
    /// The block ends.
    End,
}

impl Blocking {
    /// Returns since when a block that is ordered at `now` applies; none if it ends.
    #[must_use]
    pub(super) fn since(self, now: Timestamp) -> Option<Timestamp> {
        (self == Self::Begin).then_some(now)
    }
}

/// Lists the keys of the caller's account, or of the account that an operator names by `?account=`.
///
/// # Errors
/// [`Denied::OtherAccount`], or the ledger's error.
pub(crate) async fn list(book: &dyn KeyBook, call: &Call) -> Result<Reply, Failure> {
    let caller = call.caller()?;
    let query = Query::read(call.head.uri.query(), &["account"]);
    let named = query.text("account").map(str::to_owned);
    let account = account(&caller, query.none_wrong(named)?)?;
    let keys = book.keys(&account, LISTED_MAX).await.map_err(failed)?;
    let now = Timestamp::now();
    let spending = book.keys_spending(&account, LISTED_MAX, now).await.map_err(failed)?;
    let of = |view: &KeyView| spending.get(&view.id).copied().unwrap_or_default();
    let data: Vec<_> = keys.iter().map(|view| key_objects::key(view, of(view), now)).collect();
    Ok(Reply::json(&json!({ "object": "list", "data": data }))?)
}

/// Makes a key and shows it once.
///
/// # Errors
/// Mistakes in the body; [`ApiError::NotPermitted`], [`ApiError::KeysFull`], [`ApiError::NotFound`] for an account that
/// doesn't exist; the ledger's error.
pub(crate) async fn create(
    book: &dyn KeyBook,
    call: &Call,
    retention_days_max: u32,
) -> Result<Reply, Failure> {
    let (caller, now) = (call.caller()?, Timestamp::now());
    let asked = Asked::read(call, KEY, retention_days_max)?;
    let account = account(&caller, asked.account)?;
    let scopes = asked.scopes.unwrap_or(Scopes::of(&[Scope::User]));
    let expires_ms = asked.expires_in_s.flatten().map(|seconds| now.after(Duration::from_secs(seconds)));
    permit(&caller, scopes, expires_ms)?;
    unlimited(book, &caller, now).await?;
    let secret = generate()?;
    let key = NewKey { name: asked.name.unwrap_or_default(), scopes, expires_ms, ..secret.row(account) };
    match book.add_key(&key, LIVE_MAX, now).await.map_err(failed)? {
        Added::Stored => {}
        Added::Full => return Err(ApiError::KeysFull(LIVE_MAX).into()),
        Added::NoAccount => return Err(ApiError::NotFound.into()),
    }
    // The key isn't shown to anyone yet, so that none of its jobs goes before this.
    let rest = KeyChange { privacy: asked.privacy, spend_limit: asked.spend_limit, ..KeyChange::default() };
    if rest != KeyChange::default() {
        book.change_key(&key.id, &rest).await.map_err(failed)?.ok_or(ApiError::KeyEnded)?;
    }
    made(book, &key.id, &secret, now).await
}

/// Shows one key.
///
/// # Errors
/// [`ApiError::NotFound`] also for other accounts' keys; the ledger's error.
pub(crate) async fn show(book: &dyn KeyBook, call: &Call) -> Result<Reply, Failure> {
    let view = find(book, &*call.caller()?, call).await?;
    shown(book, &view, Timestamp::now()).await
}

/// Changes a key's name, scopes, expiry or spend limit; what the body leaves out stays.
///
/// # Errors
/// As [`create`]; [`ApiError::KeyEnded`] if the key is revoked.
pub(crate) async fn change(
    (book, cache): (&dyn KeyBook, &KeyCache),
    call: &Call,
    retention_days_max: u32,
) -> Result<Reply, Failure> {
    let (caller, now) = (call.caller()?, Timestamp::now());
    let asked = Asked::read(call, CHANGED, retention_days_max)?;
    let view = find(book, &caller, call).await?;
    permit(&caller, view.scopes, caller.expires_ms)?;
    let expires_ms =
        asked.expires_in_s.map(|expires| expires.map(|seconds| now.after(Duration::from_secs(seconds))));
    let becomes = expires_ms.unwrap_or(view.expires_ms);
    if asked.scopes.is_some() || expires_ms.is_some() {
        permit(&caller, asked.scopes.unwrap_or(view.scopes), becomes)?;
    }
    if asked.spend_limit.is_some() {
        unlimited(book, &caller, now).await?;
    }
    let Asked { name, scopes, privacy, spend_limit, .. } = asked;
    let change = KeyChange { name, scopes, expires_ms, privacy, spend_limit };
    let changed = book.change_key(&view.id, &change).await.map_err(failed)?.ok_or(ApiError::KeyEnded)?;
    cache.forget(|id, _| *id == changed.id);
    shown(book, &changed, now).await
}

/// Revokes a key for good.
///
/// # Errors
/// As [`show`]; [`ApiError::NotPermitted`].
pub(crate) async fn end(book: &dyn KeyBook, cache: &KeyCache, call: &Call) -> Result<Reply, Failure> {
    let (caller, now) = (call.caller()?, Timestamp::now());
    let view = find(book, &caller, call).await?;
    permit(&caller, view.scopes, caller.expires_ms)?;
    let ended = book.end_key(&view.id, now).await.map_err(failed)?.ok_or(ApiError::NotFound)?;
    cache.forget(|id, _| *id == ended.id);
    shown(book, &ended, now).await
}

/// Makes a successor with the same name, scopes and expiry, and lets the old key expire after `overlap_s`.
///
/// # Errors
/// As [`create`]; [`ApiError::KeyEnded`] if the key isn't valid or was replaced before.
pub(crate) async fn rotate(book: &dyn KeyBook, cache: &KeyCache, call: &Call) -> Result<Reply, Failure> {
    let (caller, now) = (call.caller()?, Timestamp::now());
    let overlap_s = overlap_s(call)?;
    let old = find(book, &caller, call).await?;
    permit(&caller, old.scopes, old.expires_ms)?;
    // Its own successor has its limit; another key's may have a higher one.
    if old.id != caller.id {
        unlimited(book, &caller, now).await?;
    }
    let secret = generate()?;
    let successor = NewKey {
        name: old.name.clone(),
        scopes: old.scopes,
        expires_ms: old.expires_ms,
        ..secret.row(old.account.clone())
    };
    let until = now.after(Duration::from_secs(overlap_s));
    let rotation = Rotation { id: old.id, successor, until, live_max: LIVE_MAX };
    match book.rotate_key(&rotation, now).await.map_err(failed)? {
        Rotated::Done => {}
        Rotated::NotValid => return Err(ApiError::KeyEnded.into()),
        Rotated::Full => return Err(ApiError::KeysFull(LIVE_MAX).into()),
    }
    cache.forget(|id, _| *id == rotation.id);
    made(book, &rotation.successor.id, &secret, now).await
}

/// Blocks a key, or takes its block back.
///
/// # Errors
/// [`ApiError::NotFound`], or the ledger's error.
pub(crate) async fn block(
    book: &dyn KeyBook,
    cache: &KeyCache,
    call: &Call,
    blocking: Blocking,
) -> Result<Reply, Failure> {
    let (id, now) = (KeyId::new(call.id.as_str()), Timestamp::now());
    let view = book.block_key(&id, blocking.since(now)).await.map_err(failed)?.ok_or(ApiError::NotFound)?;
    cache.forget(|id, _| *id == view.id);
    shown(book, &view, now).await
}

/// Maps an error of the ledger and logs it.
pub(super) fn failed(error: LedgerError) -> ApiError {
    tracing::error!(%error, "keys could not be read or changed");
    ApiError::from(&error)
}

/// Refuses a caller whose key has a spend limit of its own, which it could get around with other keys.
async fn unlimited(book: &dyn KeyBook, caller: &Caller, now: Timestamp) -> Result<(), ApiError> {
    match book.key_spending(&caller.id, now).await.map_err(failed)?.limit {
        Some(_) => Err(ApiError::NotPermitted(Denied::BeyondSpendLimit)),
        None => Ok(()),
    }
}

async fn shown(book: &dyn KeyBook, view: &KeyView, now: Timestamp) -> Result<Reply, Failure> {
    let spending = book.key_spending(&view.id, now).await.map_err(failed)?;
    Ok(Reply::json(&key_objects::key(view, spending, now))?)
}

async fn made(book: &dyn KeyBook, id: &KeyId, secret: &ApiKey, now: Timestamp) -> Result<Reply, Failure> {
    let view = book.key_by_id(id).await.map_err(failed)?.ok_or(ApiError::Internal)?;
    let spending = book.key_spending(id, now).await.map_err(failed)?;
    Ok(Reply::json(&key_objects::made(&view, spending, secret.expose(), now))?)
}

fn generate() -> Result<ApiKey, ApiError> {
    ApiKey::generate().map_err(|error| {
        tracing::error!(%error, "no key could be made");
        ApiError::Internal
    })
}

/// Returns the account that a request concerns: the caller's own, or, for an operator, the one that it names.
pub(super) fn account(caller: &Caller, named: Option<String>) -> Result<AccountId, ApiError> {
    match named {
        None => Ok(caller.account.clone()),
        Some(named) if named == caller.account.as_str() => Ok(caller.account.clone()),
        Some(named) if caller.scopes.permits(Scope::Admin) => Ok(AccountId::new(named)),
        Some(_) => Err(ApiError::NotPermitted(Denied::OtherAccount)),
    }
}

/// Checks that the caller's key may make or change a key with these scopes that is valid until `expires_ms`.
pub(super) fn permit(caller: &Caller, scopes: Scopes, expires_ms: Option<Timestamp>) -> Result<(), ApiError> {
    if !caller.scopes.covers(scopes) {
        return Err(ApiError::NotPermitted(Denied::BeyondScopes));
    }
    match caller.expires_ms {
        Some(own) if expires_ms.is_none_or(|expires| expires > own) => {
            Err(ApiError::NotPermitted(Denied::BeyondExpiry))
        }
        _ => Ok(()),
    }
}

/// Returns the key in the path, if it is one of the caller's account or the caller is an operator.
pub(super) async fn find(book: &dyn KeyBook, caller: &Caller, call: &Call) -> Result<KeyView, ApiError> {
    let view = book.key_by_id(&KeyId::new(call.id.as_str())).await.map_err(failed)?;
    let is_visible = |view: &KeyView| view.account == caller.account || caller.scopes.permits(Scope::Admin);
    view.filter(is_visible).ok_or(ApiError::NotFound)
}

/// Reads the overlap of a rotation; the body may be empty.
fn overlap_s(call: &Call) -> Result<u64, Failure> {
    if call.body.bytes().is_empty() {
        return Ok(OVERLAP_DEFAULT_S.unsigned_abs());
    }
    let body = call.json()?;
    let [overlap] = check_closed(&body, ROTATION).map_err(Unfit::from)?.into_fields();
    let seconds = overlap.integer().unwrap_or(OVERLAP_DEFAULT_S);
    if !(0..=OVERLAP_MAX_S).contains(&seconds) {
        let message = format!("Input should be between 0 and {OVERLAP_MAX_S} seconds");
        return Err(wrong(&body, "overlap_s", &message).into());
    }
    Ok(seconds.unsigned_abs())
}
