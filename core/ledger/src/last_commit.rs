//! What became of the last commit, the same for every implementation with tables. No SQL.

use std::sync::{Mutex, PoisonError};

use super::LedgerError;

/// How much a probe writes: as much as most requests, so that it doesn't fit where they don't.
pub const PROBE_BYTES: usize = 64 * 1024;

/// Remembers whether the last commit of this process came through.
#[derive(Debug, Default)]
pub struct LastCommit(Mutex<Option<LedgerError>>);

impl LastCommit {
    /// A commit came through.
    pub fn succeeded(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A commit failed; what a row's own fault is says nothing.
    pub fn failed(&self, error: &LedgerError) {
        if error.may_pass() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.copy());
        }
    }

    /// Why the last commit failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<LedgerError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(LedgerError::copy)
    }
}

/// What a probe writes: nothing that a store could make smaller.
///
/// # Errors
/// [`LedgerError::Unavailable`]: the operating system gives no randomness.
pub fn filler() -> Result<Vec<u8>, LedgerError> {
    let mut bytes = vec![0; PROBE_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| LedgerError::Unavailable(format!("no randomness: {error}")))?;
    Ok(bytes)
}
