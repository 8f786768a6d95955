//! The meaning of an error of the server or of the connection to it: whose fault it is, whether it is certain that
//! nothing was committed, and whether another try may succeed. Pure.

use std::error::Error as _;

use tokio_postgres::Error;

use infera_ledger::LedgerError;

/// A failed operation.
#[derive(Debug)]
pub(super) struct Failure {
    /// The error that the caller gets if the operation is not tried again.
    pub(super) error: LedgerError,
    /// Whether another try is harmless and may succeed: nothing was committed, or committing twice does no harm.
    /// Examples: the victim of a deadlock, a connection that had already ended.
    pub(super) is_transient: bool,
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self { error, is_transient: false }
    }
}

impl From<Error> for Failure {
    /// Converts the error of a statement that cannot have committed anything: it reads, or is within an open
    /// transaction.
    fn from(error: Error) -> Self {
        let text = text(&error);
        match error.code().map(tokio_postgres::error::SqlState::code) {
            Some(code) => judge(code, text),
            None if is_ours(&error) => LedgerError::Row(text).into(),
            None => Self { error: LedgerError::Unavailable(text), is_transient: true },
        }
    }
}

impl Failure {
    /// Converts the error of a COMMIT, or of a statement that commits by itself. The server's answer is certain,
    /// except that it is shutting down: it may say so after the commit was written. Without an answer nothing is
    /// certain.
    pub(super) fn of_commit(error: Error) -> Self {
        match error.code().map(tokio_postgres::error::SqlState::code) {
            Some(code) if code.starts_with("57P") => LedgerError::Unknown(text(&error)).into(),
            Some(_) => error.into(),
            None if is_ours(&error) => error.into(),
            None => LedgerError::Unknown(text(&error)).into(),
        }
    }

    /// Makes the failure one of work that may be done twice: then an unknown outcome is a reason to do it again.
    pub(super) fn repeatable(self) -> Self {
        let is_unknown = matches!(self.error, LedgerError::Unknown(_));
        Self { is_transient: self.is_transient || is_unknown, ..self }
    }

    /// Converts the error of a statement whose COMMIT was sent without waiting for it. If the server refused the
    /// statement, it refused the commit too; if the connection broke, it may have committed.
    pub(super) fn before_sent_commit(error: Error) -> Self {
        if error.code().is_some() { error.into() } else { Self::of_commit(error) }
    }
}

/// The effect of executing a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It commits nothing, or nothing before a COMMIT.
    Nothing,
    /// It commits, and executing it twice would be wrong or give another answer.
    Commits,
    /// It commits, and executing it twice has the same effect as once.
    Repeats,
}

impl Effect {
    /// Converts an error of such a statement.
    pub(super) fn failure(self, error: Error) -> Failure {
        match self {
            Self::Nothing => error.into(),
            Self::Commits => Failure::of_commit(error),
            Self::Repeats => Failure::of_commit(error).repeatable(),
        }
    }

    /// Returns the failure of such a statement if no answer came in time.
    pub(super) fn silence(self) -> Failure {
        let text = "the server did not answer in time".to_owned();
        match self {
            Self::Nothing => LedgerError::Unavailable(text).into(),
            Self::Commits | Self::Repeats => LedgerError::Unknown(text).into(),
        }
    }
}

/// Returns whether this is an error of encoding or decoding, which is not the connection's fault.
fn is_ours(error: &Error) -> bool {
    let is_io = error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    let text = error.to_string();
    !error.is_closed()
        && !is_io
        && ["parameter", "column", "encoding message", "unexpected number"]
            .iter()
            .any(|part| text.contains(part))
}

/// Returns the server's message and code, or the client library's. The detail is left out, because it quotes rows.
fn text(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(refusal), _) => format!("{} ({})", refusal.message(), refusal.code().code()),
        (None, Some(source)) if is_distrust(source) => format!(
            "{error}: {source}; check that ca_file has the CA of the database's certificate, and that the URL has the certificate's name"
        ),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// Returns whether the server's certificate was not trusted: an operator has to mend it, and a retry changes nothing.
fn is_distrust(source: &(dyn std::error::Error + 'static)) -> bool {
    let inner = source.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let refusal = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(refusal, Some(rustls::Error::InvalidCertificate(_)))
}

/// Judges an error by the SQLSTATE classes of PostgreSQL's manual, appendix A.
fn judge(code: &str, text: String) -> Failure {
    // serialization_failure, deadlock_detected, admin_shutdown, crash_shutdown.
    let is_transient = matches!(code, "40001" | "40P01" | "57P01" | "57P02");
    let error = match code {
        // Not null, unique, check and so on; data exceptions; a row or a key that is too large. The row is at fault.
        _ if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => LedgerError::Row(text),
        // A table or column is missing: the schema was changed behind our back. Or a page or an index is corrupted.
        "42P01" | "42703" | "42804" | "42P07" | "XX001" | "XX002" => LedgerError::Damaged(text),
        // The user or password is wrong, the database does not exist, or permission is missing.
        _ if code.starts_with("28") => LedgerError::Refused(text),
        "3D000" | "42501" => LedgerError::Refused(text),
        _ => LedgerError::Unavailable(text),
    };
    Failure { error, is_transient }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_whose_fault_it_is() {
        let kind = |code: &str| {
            let Failure { error, is_transient } = judge(code, String::new());
            let kind = match error {
                LedgerError::Row(_) => "row",
                LedgerError::Damaged(_) => "damaged",
                LedgerError::Unavailable(_) => "unavailable",
                LedgerError::Refused(_) => "refused",
                LedgerError::Unknown(_) => "unknown",
            };
            (kind, is_transient)
        };
        for (code, expected) in [
            ("22021", ("row", false)),         // zero byte in a text
            ("23505", ("row", false)),         // unique violation
            ("54000", ("row", false)),         // an index's row is too large
            ("40001", ("unavailable", true)),  // serialization failure
            ("40P01", ("unavailable", true)),  // deadlock
            ("57P01", ("unavailable", true)),  // the server shuts down
            ("57014", ("unavailable", false)), // statement timeout: the next would take as long
            ("55P03", ("unavailable", false)), // lock timeout
            ("53100", ("unavailable", false)), // disk full
            ("25006", ("unavailable", false)), // read-only
            ("57P03", ("unavailable", false)), // the server starts up
            ("28P01", ("refused", false)),     // wrong password
            ("3D000", ("refused", false)),     // no such database
            ("42501", ("refused", false)),     // no permission
            ("42P01", ("damaged", false)),     // no such table
            ("XX001", ("damaged", false)),     // a corrupted page
        ] {
            assert_eq!(kind(code), expected, "{code}");
        }
    }
}
