//! `/v1/keys`: an account's API keys, by their public ids. A key can do to another key only what it may do itself: it needs
//! the other's scopes, and it makes no key that outlives it. A key with the scope `admin` acts on any account.

mod described;

use std::time::Duration;

use infera_ledger::{
    Added, KeyBook, KeyChange, KeyPrivacy, KeyView, LedgerError, NewKey, PrivacyChange, Scope, Scopes,
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
use crate::api::shapes::SCOPES;
use crate::fastapi::{Bound, Checked, Field, Flaw, Json, Kind, Mistakes, Range, Step, Unfit, check};

pub(in crate::routes) use described::ACCOUNT;
pub(crate) use described::{BLOCK, CHANGE, CREATE, END, LIST, ROTATE, SHOW, UNBLOCK};

/// The largest number of valid keys of an account: one for each of many services, and far fewer than would make lists long.
const LIVE_MAX: u32 = 100;

/// The largest number of keys that a list shows, newest first. Revoked keys stay on record.
const LISTED_MAX: u32 = 1_000;

/// The largest length of a name, in characters.
const NAME_MAX: usize = 100;

/// The longest validity that can be asked for, in seconds: ten years. A key without an end is asked for by leaving it out.
const EXPIRES_MAX_S: i64 = 10 * 365 * 86_400;

/// How long a rotated key stays valid if the request doesn't say, in seconds: long enough to roll out its successor by hand.
const OVERLAP_DEFAULT_S: i64 = 3_600;

/// The longest overlap, in seconds: a week. What needs longer can have a second key.
const OVERLAP_MAX_S: i64 = 7 * 86_400;

/// The body of a change.
const CHANGED: &[Field] = &[
    Field::optional("name", Kind::Nullable(&Kind::Text))
        .about("A name to know the key by. It has no control characters.")
        .range(Range::Plain(0, NAME_MAX)),
    Field::optional("scopes", Kind::Nullable(&Kind::List(&Kind::Text)))
        .about("What the key permits: `user` for everything that an account does, `node` for its nodes alone. The caller's key needs the same.")
        .range(Range::ItemsAmong(SCOPES)),
    Field::optional("expires_in_s", Kind::Nullable(&Kind::Integer))
        .about("The seconds after which the key ends by itself; `null` for never.")
        .range(Range::Integers { least: 1, most: Bound::Integer(EXPIRES_MAX_S) }),
    Field::optional("store", Kind::Nullable(&Kind::Flag))
        .about("Whether the key's jobs are stored, if they don't say so themselves by `store`. A new key's are."),
    Field::optional("retention_days", Kind::Nullable(&Kind::Integer))
        .about("The days from a job's end after which the text and the archived records of the key's jobs are deleted; `null` for never.")
        .range(Range::Integers { least: 1, most: Bound::Setting("retention_days_max") }),
];

/// The body of a new key.
const KEY: &[Field] = &[
    CHANGED[0],
    CHANGED[1],
    CHANGED[2],
    CHANGED[3],
    CHANGED[4],
    Field::optional("account", Kind::Nullable(&Kind::Text))
        .about("The account that the key is for, which only a key with the scope `admin` may name."),
];
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
    let data: Vec<_> = keys.iter().map(|view| key_objects::key(view, now)).collect();
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
    let secret = generate()?;
    let key = NewKey { name: asked.name.unwrap_or_default(), scopes, expires_ms, ..secret.row(account) };
    match book.add_key(&key, LIVE_MAX, now).await.map_err(failed)? {
        Added::Stored => {}
        Added::Full => return Err(ApiError::KeysFull(LIVE_MAX).into()),
        Added::NoAccount => return Err(ApiError::NotFound.into()),
    }
    say_privacy(book, &key.id, asked.privacy).await?;
    made(book, &key.id, &secret, now).await
}

/// Shows one key.
///
/// # Errors
/// [`ApiError::NotFound`] also for other accounts' keys; the ledger's error.
pub(crate) async fn show(book: &dyn KeyBook, call: &Call) -> Result<Reply, Failure> {
    let view = find(book, &*call.caller()?, call).await?;
    Ok(Reply::json(&key_objects::key(&view, Timestamp::now()))?)
}

/// Changes a key's name, scopes or expiry; what the body leaves out stays.
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
    let change = KeyChange { name: asked.name, scopes: asked.scopes, expires_ms, privacy: asked.privacy };
    let changed = book.change_key(&view.id, &change).await.map_err(failed)?.ok_or(ApiError::KeyEnded)?;
    cache.forget(|caller| caller.id == changed.id);
    Ok(Reply::json(&key_objects::key(&changed, now))?)
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
    cache.forget(|caller| caller.id == ended.id);
    Ok(Reply::json(&key_objects::key(&ended, now))?)
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
    let secret = generate()?;
    let successor = NewKey {
        name: old.name.clone(),
        scopes: old.scopes,
        expires_ms: old.expires_ms,
        ..secret.row(old.account.clone())
    };
    let until = now.after(Duration::from_secs(overlap_s));
    if !book.rotate_key(&old.id, &successor, until, now).await.map_err(failed)? {
        return Err(ApiError::KeyEnded.into());
    }
    // The successor isn't known to its owner yet, so that none of its jobs goes before this.
    let KeyPrivacy { stores, retention_days } = old.privacy;
    let privacy = PrivacyChange { stores: Some(stores), retention_days: Some(retention_days) };
    say_privacy(book, &successor.id, privacy).await?;
    cache.forget(|caller| caller.id == old.id);
    made(book, &successor.id, &secret, now).await
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
    cache.forget(|caller| caller.id == view.id);
    Ok(Reply::json(&key_objects::key(&view, now))?)
}

/// Maps an error of the ledger and logs it.
pub(super) fn failed(error: LedgerError) -> ApiError {
    tracing::error!(%error, "keys could not be read or changed");
    ApiError::from(&error)
}

async fn made(book: &dyn KeyBook, id: &KeyId, secret: &ApiKey, now: Timestamp) -> Result<Reply, Failure> {
    let view = book.key_by_id(id).await.map_err(failed)?.ok_or(ApiError::Internal)?;
    Ok(Reply::json(&key_objects::made(&view, secret.expose(), now))?)
}

/// Changes what a new key says of its jobs' text, if its body says anything.
async fn say_privacy(book: &dyn KeyBook, id: &KeyId, privacy: PrivacyChange) -> Result<(), ApiError> {
    if privacy.is_empty() {
        return Ok(());
    }
    let change = KeyChange { privacy, ..KeyChange::default() };
    book.change_key(id, &change).await.map_err(failed)?.map(drop).ok_or(ApiError::KeyEnded)
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

/// What a body asks of a key. What is none stays as it is, or is as usual.
struct Asked {
    name: Option<String>,
    scopes: Option<Scopes>,
    expires_in_s: Option<Option<u64>>,
    account: Option<String>,
    privacy: PrivacyChange,
}

impl Asked {
    fn read(call: &Call, fields: &'static [Field], retention_days_max: u32) -> Result<Self, Failure> {
        let body = call.json()?;
        let [name, scopes, expires, store, retention, account] =
            check(&body, fields).map_err(Unfit::from)?.into_fields();
        let mut mistakes = Mistakes::default();
        let mut wrong = |field: &'static str, message: String| {
            let given = body.get(field).unwrap_or(&Json::Null);
            mistakes.add(&[Step::name(field)], Flaw::new("value_error", message), given);
        };
        let name = text(name);
        let is_fit = |name: &String| name.chars().count() <= NAME_MAX && !name.contains(char::is_control);
        if !name.as_ref().is_none_or(is_fit) {
            wrong(
                "name",
                format!("String should have at most {NAME_MAX} characters, none of them a control character"),
            );
        }
        let scopes = match scopes {
            Checked::List(words) => {
                let words: Vec<String> = words.into_iter().map(Checked::into_text).collect();
                let scopes = words.join(",").parse::<Scopes>();
                scopes
                    .map_err(|error| wrong("scopes", format!("Input should be a list of scopes: {error}")))
                    .ok()
            }
            _ => None,
        };
        let expires_in_s = match expires {
            Checked::Integer(seconds @ 1..=EXPIRES_MAX_S) => Some(u64::try_from(seconds).ok()),
            Checked::Integer(_) => {
                wrong(
                    "expires_in_s",
                    format!("Input should be between 1 and {EXPIRES_MAX_S} seconds, or null"),
                );
                None
            }
            Checked::Null => Some(None),
            _ => None,
        };
        let retention_days = match retention {
            Checked::Integer(days) => {
                let days = u32::try_from(days).ok().filter(|days| (1..=retention_days_max).contains(days));
                if days.is_none() {
                    let message = format!("Input should be between 1 and {retention_days_max} days, or null");
                    wrong("retention_days", message);
                }
                Some(days)
            }
            Checked::Null => Some(None),
            _ => None,
        };
        let privacy = PrivacyChange { stores: store.flag(), retention_days };
        let asked = Self { name, scopes, expires_in_s, account: text(account), privacy };
        Ok(mistakes.none_or(asked).map_err(Unfit::from)?)
    }
}

/// Returns the text of a checked value, if it is one.
pub(super) fn text(checked: Checked) -> Option<String> {
    if let Checked::Text(text) = checked { Some(text) } else { None }
}

/// Makes the error of one member of a body.
pub(super) fn wrong(body: &Json, field: &'static str, message: &str) -> Unfit {
    let mut mistakes = Mistakes::default();
    let flaw = Flaw::new("value_error", message.to_owned());
    mistakes.add(&[Step::name(field)], flaw, body.get(field).unwrap_or(&Json::Null));
    Unfit::from(mistakes)
}

/// Reads the overlap of a rotation; the body may be empty.
fn overlap_s(call: &Call) -> Result<u64, Failure> {
    if call.body.bytes().is_empty() {
        return Ok(OVERLAP_DEFAULT_S.unsigned_abs());
    }
    let body = call.json()?;
    let [overlap] = check(&body, ROTATION).map_err(Unfit::from)?.into_fields();
    let seconds = overlap.integer().unwrap_or(OVERLAP_DEFAULT_S);
    if !(0..=OVERLAP_MAX_S).contains(&seconds) {
        let message = format!("Input should be between 0 and {OVERLAP_MAX_S} seconds");
        return Err(wrong(&body, "overlap_s", &message).into());
    }
    Ok(seconds.unsigned_abs())
}
