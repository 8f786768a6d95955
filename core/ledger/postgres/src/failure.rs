//! What an error of the server or of the connection to it means: whose fault, whether it is certain that nothing was
//! committed, and whether another try may help. Pure.

use std::error::Error as _;

use tokio_postgres::Error;

use infera_ledger::LedgerError;

/// Something that did not work.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the caller is told if it isn't tried again.
    pub(super) error: LedgerError,
    /// Certainly not committed, or committing it twice does no harm; and the next try may work: a deadlock's victim, a
    /// connection that had ended before.
    pub(super) is_transient: bool,
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self { error, is_transient: false }
    }
}

impl From<Error> for Failure {
    /// A statement that could not have committed anything: reading, or within an open transaction.
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
    /// A COMMIT, or a statement that commits by itself. The server's word is certain, except that it is shutting down:
    /// that may be said after the commit was written. Without an answer nothing is certain.
    pub(super) fn of_commit(error: Error) -> Self {
        match error.code().map(tokio_postgres::error::SqlState::code) {
            Some(code) if code.starts_with("57P") => LedgerError::Unknown(text(&error)).into(),
            Some(_) => error.into(),
            None if is_ours(&error) => error.into(),
            None => LedgerError::Unknown(text(&error)).into(),
        }
    }

    /// Of work that may be done twice: then an unknown outcome is a reason to do it again.
    pub(super) fn repeatable(self) -> Self {
        let is_unknown = matches!(self.error, LedgerError::Unknown(_));
        Self { is_transient: self.is_transient || is_unknown, ..self }
    }

    /// A statement before a COMMIT that was sent without waiting for it. If the server refused the statement, it
    /// refused the commit too; if the connection went, it may have committed.
    pub(super) fn before_sent_commit(error: Error) -> Self {
        if error.code().is_some() { error.into() } else { Self::of_commit(error) }
    }
}

/// What a statement does when it is carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing, or nothing before a COMMIT.
    Nothing,
    /// It commits, and carried out twice it would be wrong, or answer otherwise.
    Commits,
    /// It commits, and carried out twice it is as if it were once.
    Repeats,
}

impl Effect {
    /// What an error of such a statement means.
    pub(super) fn failure(self, error: Error) -> Failure {
        match self {
            Self::Nothing => error.into(),
            Self::Commits => Failure::of_commit(error),
            Self::Repeats => Failure::of_commit(error).repeatable(),
        }
    }

    /// What it means that there was no answer in time.
    pub(super) fn silence(self) -> Failure {
        let text = "the server did not answer".to_owned();
        match self {
            Self::Nothing => LedgerError::Unavailable(text).into(),
            Self::Commits | Self::Repeats => LedgerError::Unknown(text).into(),
        }
    }
}

/// Errors of encoding and decoding, which no connection is to blame for.
fn is_ours(error: &Error) -> bool {
    let is_io = error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    let text = error.to_string();
    !error.is_closed()
        && !is_io
        && ["parameter", "column", "encoding message", "unexpected number"]
            .iter()
            .any(|part| text.contains(part))
}

/// The server's message and code, or the client's. Never the detail, which quotes rows.
fn text(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(refusal), _) => format!("{} ({})", refusal.message(), refusal.code().code()),
        (None, Some(source)) if is_distrust(source) => format!(
            "{error}: {source}; is the ca_file that of the database's authority, and its name the one in the URL?"
        ),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// The server's certificate was not believed: its operator's and ours to mend, trying again changes nothing.
fn is_distrust(source: &(dyn std::error::Error + 'static)) -> bool {
    let inner = source.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let refusal = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(refusal, Some(rustls::Error::InvalidCertificate(_)))
}

/// The SQLSTATE classes of PostgreSQL's manual, appendix A.
fn judge(code: &str, text: String) -> Failure {
    // serialization_failure, deadlock_detected, admin_shutdown, crash_shutdown.
    let is_transient = matches!(code, "40001" | "40P01" | "57P01" | "57P02");
    let error = match code {
        // Not null, unique, check and so on; data exceptions; a row or a key that is too large.
        _ if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => LedgerError::Row(text),
        // No such table or column: somebody changed what we made. A corrupted page or index.
        "42P01" | "42703" | "42804" | "42P07" | "XX001" | "XX002" => LedgerError::Damaged(text),
        // A wrong user or password; no such database; no right to do it.
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
            ("22021", ("row", false)),         // a zero byte in a text
            ("23505", ("row", false)),         // unique
            ("54000", ("row", false)),         // an index's row is too large
            ("40001", ("unavailable", true)),  // serialization
            ("40P01", ("unavailable", true)),  // deadlock
            ("57P01", ("unavailable", true)),  // the server stops
            ("57014", ("unavailable", false)), // statement timeout: the next would take as long
            ("55P03", ("unavailable", false)), // lock timeout
            ("53100", ("unavailable", false)), // disk full
            ("25006", ("unavailable", false)), // read-only
            ("57P03", ("unavailable", false)), // the server starts
            ("28P01", ("refused", false)),     // wrong password
            ("3D000", ("refused", false)),     // no such database
            ("42501", ("refused", false)),     // no right to it
            ("42P01", ("damaged", false)),     // no such table
            ("XX001", ("damaged", false)),     // a corrupted page
        ] {
            assert_eq!(kind(code), expected, "{code}");
        }
    }
}
