//! What an operator orders about API keys on the command line, carried out on a ledger. The API does the same for accounts
//! themselves (`routes/keys`).

use std::time::Duration;

use infera_ledger::{
    AccountBook, Added, KeyBook, KeyChange, KeyPrivacy, KeyView, LedgerError, NewKey, PrivacyChange, Rotated,
    Rotation, Scope, Scopes, UnknownScope,
};
use infera_types::ids::{AccountId, KeyId};
use infera_types::time::Timestamp;

use super::account_name::account_named;
use super::keys::{ApiKey, NoRandomness};

/// The number of valid keys that an operator's order may give to an account: an operator may exceed what the API allows.
const LIVE_MAX: u32 = 10_000;

/// The largest number of keys that are listed.
const LISTED_MAX: u32 = 10_000;

/// Why an order about keys isn't carried out.
#[derive(Debug, thiserror::Error)]
pub enum KeyOrderError {
    /// There is no such account: the operator's mistake.
    #[error("there is no account {0}: name its id (acct…) or the address that it signed up with")]
    NoAccount(String),
    /// There is no such key: the operator's mistake.
    #[error("there is no key {0}: `key list` names those of an account")]
    NoKey(String),
    /// The key isn't valid, so it has no successor.
    #[error("{0} is revoked, blocked, expired or replaced already; make another key with `key create`")]
    NotValid(KeyId),
    /// The account has as many valid keys as it may.
    #[error("the account has {LIVE_MAX} valid keys; revoke some")]
    Full,
    /// A scope doesn't exist: the operator's mistake.
    #[error(transparent)]
    Scope(#[from] UnknownScope),
    /// The operating system gives no random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The ledger is at fault.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A key that was made. The key itself is shown once.
#[derive(Clone, Debug)]
pub struct MadeKey {
    /// Its public id.
    pub id: KeyId,
    /// Its account.
    pub account: AccountId,
    /// The key.
    pub key: ApiKey,
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct KeyOrder<'a> {
    /// The account's id or address.
    pub account: &'a str,
    /// The name, for lists.
    pub name: &'a str,
    /// The scopes, with commas.
    pub scopes: &'a str,
    /// How long it is valid; none: it doesn't expire.
    pub valid_for: Option<Duration>,
    /// What it says of its jobs' text.
    pub privacy: PrivacyChange,
}

/// Makes an operator's key for the account of `address`, which is made if it doesn't exist.
///
/// # Errors
/// [`KeyOrderError`].
pub async fn create_admin<L>(ledger: &L, address: &str) -> Result<MadeKey, KeyOrderError>
where
    L: AccountBook + KeyBook,
{
    let now = Timestamp::now();
    let account = ledger.sign_up(&address.to_ascii_lowercase(), None, now).await?.account;
    let scopes = Scopes::of(&[Scope::User, Scope::Admin]);
    add(ledger, account, |row| NewKey { name: "admin".to_owned(), scopes, ..row }).await
}

/// Makes a key.
///
/// # Errors
/// [`KeyOrderError`].
pub async fn create(book: &dyn KeyBook, order: KeyOrder<'_>) -> Result<MadeKey, KeyOrderError> {
    let scopes: Scopes = order.scopes.parse()?;
    let account = account(book, order.account).await?;
    let expires_ms = order.valid_for.map(|time| Timestamp::now().after(time));
    let made =
        add(book, account, |row| NewKey { name: order.name.to_owned(), scopes, expires_ms, ..row }).await?;
    if !order.privacy.is_empty() {
        retain(book, made.id.as_str(), order.privacy).await?;
    }
    Ok(made)
}

/// Changes what a key says of its jobs' text, and returns the key.
///
/// # Errors
/// [`KeyOrderError`].
pub async fn retain(book: &dyn KeyBook, id: &str, privacy: PrivacyChange) -> Result<KeyView, KeyOrderError> {
    let change = KeyChange { privacy, ..KeyChange::default() };
    let changed = book.change_key(&KeyId::new(id), &change).await?;
    changed.ok_or_else(|| KeyOrderError::NoKey(id.to_owned()))
}

/// Returns a sentence about what a key says of its jobs' text.
#[must_use]
pub fn retains(view: &KeyView) -> String {
    let KeyPrivacy { stores, retention_days } = view.privacy;
    let stored = if stores { "are stored" } else { "are not stored, unless they say so" };
    let days = match retention_days {
        Some(days) => format!("deleted after {days} days"),
        None => "kept for as long as records are".to_owned(),
    };
    format!("{}: its jobs {stored}; their text is {days}", view.id)
}

async fn add(
    book: &dyn KeyBook,
    account: AccountId,
    with: impl FnOnce(NewKey) -> NewKey,
) -> Result<MadeKey, KeyOrderError> {
    let key = ApiKey::generate()?;
    let row = with(key.row(account.clone()));
    match book.add_key(&row, LIVE_MAX, Timestamp::now()).await? {
        Added::Stored => Ok(MadeKey { id: row.id, account, key }),
        Added::Full => Err(KeyOrderError::Full),
        Added::NoAccount => Err(KeyOrderError::NoAccount(account.to_string())),
    }
}

/// Returns an account's keys, newest first.
///
/// # Errors
/// [`KeyOrderError`].
pub async fn list(book: &dyn KeyBook, named: &str) -> Result<Vec<KeyView>, KeyOrderError> {
    let account = account(book, named).await?;
    Ok(book.keys(&account, LISTED_MAX).await?)
}

/// Makes a key's successor with the same name, scopes and expiry; the key itself stays valid for `overlap` at most.
///
/// # Errors
/// [`KeyOrderError`].
pub async fn rotate(book: &dyn KeyBook, id: &str, overlap: Duration) -> Result<MadeKey, KeyOrderError> {
    let now = Timestamp::now();
    let old = book.key_by_id(&KeyId::new(id)).await?.ok_or_else(|| KeyOrderError::NoKey(id.to_owned()))?;
    let key = ApiKey::generate()?;
    let KeyView { name, scopes, expires_ms, account, .. } = old;
    let successor = NewKey { name, scopes, expires_ms, ..key.row(account.clone()) };
    let rotation = Rotation { id: old.id, successor, until: now.after(overlap), live_max: LIVE_MAX };
    match book.rotate_key(&rotation, now).await? {
        Rotated::Done => Ok(MadeKey { id: rotation.successor.id, account, key }),
        Rotated::NotValid => Err(KeyOrderError::NotValid(rotation.id)),
        Rotated::Full => Err(KeyOrderError::Full),
    }
}

/// Revokes a key by its id.
///
/// # Errors
/// [`KeyOrderError`].
pub async fn revoke(book: &dyn KeyBook, id: &str) -> Result<KeyView, KeyOrderError> {
    let ended = book.end_key(&KeyId::new(id), Timestamp::now()).await?;
    ended.ok_or_else(|| KeyOrderError::NoKey(id.to_owned()))
}

/// Blocks a key or an account, or takes the block back, and returns its id.
///
/// # Errors
/// [`KeyOrderError`].
pub async fn block(book: &dyn KeyBook, what: &str, blocks: bool) -> Result<String, KeyOrderError> {
    let since = blocks.then(Timestamp::now);
    if what.starts_with("key_") {
        let view = book.block_key(&KeyId::new(what), since).await?;
        return view.map(|view| view.id.to_string()).ok_or_else(|| KeyOrderError::NoKey(what.to_owned()));
    }
    let account = account(book, what).await?;
    if book.block_account(&account, since).await? {
        Ok(account.to_string())
    } else {
        Err(KeyOrderError::NoAccount(what.to_owned()))
    }
}

/// Returns the line that a list has for a key: id, status, scopes, last characters and name.
#[must_use]
pub fn line(view: &KeyView, now: Timestamp) -> String {
    let KeyView { id, scopes, hint, name, .. } = view;
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{id} {} {scopes} …{hint} {name}", view.status(now)).trim_end().to_owned()
}

async fn account(book: &dyn KeyBook, named: &str) -> Result<AccountId, KeyOrderError> {
    account_named(book, named).await?.ok_or_else(|| KeyOrderError::NoAccount(named.to_owned()))
}
