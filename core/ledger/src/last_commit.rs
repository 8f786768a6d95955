//! Remembers the outcome of the last commit, for every implementation with tables. No SQL.

use std::sync::{Mutex, PoisonError};

use super::LedgerError;

/// The size of a probe in bytes: as large as most requests, so that it fails on a disk too full for them.
pub const PROBE_BYTES: usize = 64 * 1024;

/// Remembers whether the last commit of this process succeeded.
#[derive(Debug, Default)]
pub struct LastCommit(Mutex<Option<LedgerError>>);

impl LastCommit {
    /// Records that a commit succeeded.
    pub fn succeeded(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Records that a commit failed. An error of a row itself says nothing about commits and is ignored.
    pub fn failed(&self, error: &LedgerError) {
        if error.may_pass() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.copy());
        }
    }

    /// Returns the error of the last commit, if it failed.
    #[must_use]
    pub fn failure(&self) -> Option<LedgerError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(LedgerError::copy)
    }
}

/// Returns the content of a probe: random bytes, which no store can compress.
///
/// # Errors
/// [`LedgerError::Unavailable`]: the operating system provides no randomness.
pub fn filler() -> Result<Vec<u8>, LedgerError> {
    let mut bytes = vec![0; PROBE_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        LedgerError::Unavailable(format!("no randomness from the operating system: {error}"))
    })?;
    Ok(bytes)
}
