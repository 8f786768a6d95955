//! The stored forms of mails.

use std::str::FromStr;
use std::time::Duration;

use crate::LedgerError;
use infera_types::time::Timestamp;

/// Reads a word that one of our enums was stored as.
///
/// # Errors
/// [`LedgerError::Row`]: a newer program wrote it.
pub fn mail_word<T: FromStr>(word: &str) -> Result<T, LedgerError> {
    word.parse()
        .map_err(|_| LedgerError::Row("a mail's row has a word that this program doesn't know".to_owned()))
}

/// Returns the time that is `duration` before another.
#[must_use]
pub fn before(time: Timestamp, duration: Duration) -> Timestamp {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(time.as_millis().saturating_sub(milliseconds))
}
