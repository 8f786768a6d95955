//! What an operator says of how accounts share the network: which are proven, what they weigh, and which keys may ask for
//! the tier `priority`. Both programs take these orders, each on its ledger.

use std::ops::RangeInclusive;

use infera_ledger::{AccountBook, LedgerError, ShareBook};
use infera_types::ids::Digest;
use infera_types::time::Timestamp;

use super::account_name::known_as;
use super::keys::ApiKey;

/// The weights that an account may have. A thousand times an ordinary account's share is all that there is in practice.
pub const WEIGHTS: RangeInclusive<i64> = 1..=1_000;

/// Why an order isn't carried out.
#[derive(Debug, thiserror::Error)]
pub enum ShareOrderError {
    /// What was given is no key: the operator's mistake. It isn't repeated, since it may be a key with a typo.
    #[error(
        "standard input holds no API key (inf_…, 40 characters) and no SHA-256 of one (64 hexadecimal digits)"
    )]
    NoKey,
    /// The ledger has no such key; trying again changes nothing.
    #[error("no such key is valid: it was never issued here, or it is revoked")]
    Unknown,
    /// The ledger has no such account; trying again changes nothing.
    #[error("no account signed up as {0}, or has that id: POST /signup_user first")]
    NoAccount(String),
    /// The ledger is at fault.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Records that an account is proven, and returns a sentence about it.
///
/// # Errors
/// [`ShareOrderError`].
pub async fn prove(email: &str, book: &dyn ShareBook) -> Result<String, ShareOrderError> {
    let account = book.prove(&known_as(email), Timestamp::now()).await?;
    let account = account.ok_or_else(|| no_account(email))?;
    Ok(format!("{account} is proven: its jobs are counted by themselves"))
}

/// Sets an account's weight, and returns a sentence about it.
///
/// # Errors
/// [`ShareOrderError`].
pub async fn weigh(email: &str, weight: u32, book: &dyn ShareBook) -> Result<String, ShareOrderError> {
    let account = book.weigh(&known_as(email), weight).await?.ok_or_else(|| no_account(email))?;
    Ok(format!("{account} has the weight {weight} once it is proven; jobs that wait already keep theirs"))
}

/// Gives the key in `text`, which may be the key itself or its SHA-256, the right to the tier `priority`, or takes it away,
/// and returns a sentence about it.
///
/// # Errors
/// [`ShareOrderError`].
pub async fn allow_priority<B>(text: &str, is_allowed: bool, book: &B) -> Result<String, ShareOrderError>
where
    B: AccountBook + ShareBook,
{
    let hash = ApiKey::parse(text).map(|key| key.hash()).or_else(|| text.parse::<Digest>().ok());
    let hash = hash.ok_or(ShareOrderError::NoKey)?;
    let record = book.key(hash).await?.ok_or(ShareOrderError::Unknown)?;
    if !book.allow_priority(hash, is_allowed).await? {
        return Err(ShareOrderError::Unknown);
    }
    let may = if is_allowed { "may" } else { "may no longer" };
    Ok(format!(
        "the key that ends with {} of account {} {may} ask for service_tier priority",
        record.hint, record.account
    ))
}

fn no_account(email: &str) -> ShareOrderError {
    ShareOrderError::NoAccount(email.to_owned())
}
