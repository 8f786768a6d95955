//! The meaning of an error of SQLite for the caller of the ledger.

use rusqlite::ErrorCode;

use infera_ledger::LedgerError;

/// A [`LedgerError`] on its way to the caller. It is a type of this crate, so that `?` can convert SQLite's errors.
#[derive(Debug)]
pub(super) struct Failure(LedgerError);

impl Failure {
    /// Makes a failure that is the row's own fault.
    pub(super) fn row(problem: impl Into<String>) -> Self {
        Self(LedgerError::Row(problem.into()))
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self(error)
    }
}

impl From<Failure> for LedgerError {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

impl From<rusqlite::Error> for Failure {
    /// Converts an error of one statement. (The writer judges a failed commit.)
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        Self(match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => LedgerError::Damaged(text),
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) | None => {
                LedgerError::Row(text)
            }
            Some(_) => LedgerError::Unavailable(text),
        })
    }
}
