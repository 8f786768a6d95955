//! What can go wrong with a ledger, and whether it is worth trying again.

/// What went wrong with the ledger itself. What a caller may be told is a value, not an error.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Not committed; safe to retry.
    #[error("ledger unavailable: {0}")]
    Unavailable(String),
    /// Not committed, and trying again won't help until an operator changes what it says.
    #[error("ledger refused: {0}")]
    Refused(String),
    /// It may or may not be committed: read back by id before answering anybody.
    #[error("outcome of a commit is unknown: {0}")]
    Unknown(String),
    /// This row can't be stored or read; retrying won't help, and other rows are not harmed.
    #[error("row refused: {0}")]
    Row(String),
    /// The stored data is damaged; an operator must look.
    #[error("ledger damaged: {0}")]
    Damaged(String),
}

impl LedgerError {
    /// Whether trying the same again may help, if only after an operator did something: it isn't the row's fault.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Refused(_) | Self::Unknown(_))
    }
}
