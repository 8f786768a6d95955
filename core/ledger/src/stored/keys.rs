//! The stored forms of keys' scopes, and of what keys used.

use super::whole;
use crate::{LedgerError, Scopes};
use infera_types::day::Day;
use infera_types::ids::KeyId;
use infera_types::time::Timestamp;

/// Returns the day of a time, counted since 1970 (UTC).
#[must_use]
pub fn day(time: Timestamp) -> i64 {
    whole(Day::of(time).number())
}

/// Returns the key of a usage row; the empty text stands for none.
#[must_use]
pub fn used_key(text: String) -> Option<KeyId> {
    (!text.is_empty()).then(|| KeyId::new(text))
}

/// Reads a key's scopes.
///
/// # Errors
/// [`LedgerError::Row`]: a word is none of ours, so that the key must not be used.
pub fn scopes(words: &str) -> Result<Scopes, LedgerError> {
    words.parse().map_err(|error| LedgerError::Row(format!("a key's scopes can't be read: {error}")))
}
