//! Decides whether a code that is shown is the one that was mailed.

use std::time::Duration;

use subtle::ConstantTimeEq as _;

use crate::rows::{MailKind, ShownCode};
use infera_types::ids::Digest;
use infera_types::time::Timestamp;

/// How many wrong secrets may be shown with a code's id. A person pastes wrongly once or twice; 128 random bits can't be guessed
/// in any number of tries, so the bound only ends what is certainly no person.
pub const WRONG_MAX: u32 = 5;

/// How long mails count for the bounds.
pub const COUNTED: Duration = Duration::from_secs(60 * 60);

/// The latest time, counted from now, at which a mail's turn can have been set: the longest pause between tries is half an hour
/// and up to as much again by chance. A later one was written by a clock that was ahead.
pub const TURN_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// A code on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredCode {
    /// What it was mailed for.
    pub kind: MailKind,
    /// SHA-256 of its secret part.
    pub hash: Digest,
    /// The time from which it is no longer valid.
    pub expires_ms: Timestamp,
    /// How many wrong secrets were shown with its id.
    pub wrong: u32,
}

/// What a code that is shown is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeCheck {
    /// It is valid.
    Right,
    /// Its secret is wrong, which is to be counted.
    Wrong,
    /// It is not valid any more, or not for this.
    Void,
}

/// Compares what is shown with what is on record.
#[must_use]
pub fn check(stored: &StoredCode, shown: &ShownCode, kind: MailKind, now: Timestamp) -> CodeCheck {
    if stored.kind != kind || stored.wrong >= WRONG_MAX || stored.expires_ms <= now {
        return CodeCheck::Void;
    }
    let is_same: bool = stored.hash.as_bytes()[..].ct_eq(&shown.hash.as_bytes()[..]).into();
    if is_same { CodeCheck::Right } else { CodeCheck::Wrong }
}

#[cfg(test)]
mod tests {
    use infera_types::ids::CodeId;

    use super::*;

    #[test]
    fn a_code_serves_for_its_kind_in_its_time_and_with_its_secret() {
        let at = Timestamp::from_millis;
        let shown = |secret: &[u8]| ShownCode { id: CodeId::new(), hash: Digest::of(secret) };
        let code = |wrong| StoredCode {
            kind: MailKind::Proof,
            hash: Digest::of(b"secret"),
            expires_ms: at(10),
            wrong,
        };
        for (wrong, secret, kind, now, expected) in [
            (0, &b"secret"[..], MailKind::Proof, 9, CodeCheck::Right),
            (4, b"secret", MailKind::Proof, 9, CodeCheck::Right),
            (0, b"guess", MailKind::Proof, 9, CodeCheck::Wrong),
            (5, b"secret", MailKind::Proof, 9, CodeCheck::Void),
            (5, b"guess", MailKind::Proof, 9, CodeCheck::Void),
            (0, b"secret", MailKind::Proof, 10, CodeCheck::Void),
            (0, b"secret", MailKind::Recovery, 9, CodeCheck::Void),
        ] {
            assert_eq!(
                check(&code(wrong), &shown(secret), kind, at(now)),
                expected,
                "{wrong} {kind:?} {now}"
            );
        }
    }
}
