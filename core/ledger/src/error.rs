//! The failures of a ledger, and whether a retry is worthwhile.

/// A failure of the ledger itself. A refusal that a caller may be told is a value, not an error.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Nothing was committed; a retry is safe.
    #[error("ledger unavailable: {0}")]
    Unavailable(String),
    /// Nothing was committed, and a retry won't help until an operator changes what the text names.
    #[error("ledger refused: {0}")]
    Refused(String),
    /// The commit's outcome is unknown: read the row back by id before answering anybody.
    #[error("outcome of a commit is unknown: {0}")]
    Unknown(String),
    /// This row cannot be stored or read. A retry won't help, and other rows are not affected.
    #[error("row refused: {0}")]
    Row(String),
    /// The stored data is damaged; an operator must look.
    #[error("ledger damaged: {0}")]
    Damaged(String),
}

impl LedgerError {
    /// Returns whether the same call may succeed later, possibly after an operator's action: the row is not at fault.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Refused(_) | Self::Unknown(_))
    }

    /// Copies the error for each caller whose work shared a commit.
    #[must_use]
    pub fn copy(&self) -> Self {
        match self {
            Self::Unavailable(text) => Self::Unavailable(text.clone()),
            Self::Refused(text) => Self::Refused(text.clone()),
            Self::Unknown(text) => Self::Unknown(text.clone()),
            Self::Row(text) => Self::Row(text.clone()),
            Self::Damaged(text) => Self::Damaged(text.clone()),
        }
    }
}
