//! The codes that mails carry: 43 characters of base64 for URLs. The first half of the bytes finds the code's row, the second half
//! is its secret, of which the ledger has only the SHA-256.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use infera_ledger::{NewCode, ShownCode};
use infera_types::ids::{CodeId, Digest};
use infera_types::time::Timestamp;

use crate::access::NoRandomness;

/// The number of bytes of each half.
const HALF: usize = 16;

/// A code. Its debug output shows nothing of the secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MailCode {
    id: CodeId,
    secret: [u8; HALF],
}

impl std::fmt::Debug for MailCode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "MailCode({}…)", self.id)
    }
}

impl MailCode {
    /// Makes a new code.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub(crate) fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 2 * HALF];
        getrandom::fill(&mut bytes).map_err(|error| NoRandomness::new(&error))?;
        Ok(Self::of(bytes))
    }

    /// Returns the code in a text, if it has the form of one.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).ok()?;
        Some(Self::of(bytes.try_into().ok()?))
    }

    fn of(bytes: [u8; 2 * HALF]) -> Self {
        let (mut id, mut secret) = ([0; HALF], [0; HALF]);
        id.copy_from_slice(&bytes[..HALF]);
        secret.copy_from_slice(&bytes[HALF..]);
        Self { id: CodeId::from_bytes(id), secret }
    }

    /// Returns the text of the code, which goes into the mail and nowhere else.
    #[must_use]
    pub(crate) fn expose(&self) -> String {
        URL_SAFE_NO_PAD.encode([*self.id.as_bytes(), self.secret].concat())
    }

    /// Returns what the ledger stores of a code that is valid until this time.
    #[must_use]
    pub(crate) fn row(&self, expires_ms: Timestamp) -> NewCode {
        NewCode { id: self.id, hash: Digest::of(&self.secret), expires_ms }
    }

    /// Returns what the ledger is shown of a code.
    #[must_use]
    pub(crate) fn shown(&self) -> ShownCode {
        ShownCode { id: self.id, hash: Digest::of(&self.secret) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_back_whole_or_not_at_all() {
        let code = MailCode::generate().unwrap();
        let text = code.expose();
        assert_eq!((text.len(), MailCode::parse(&text)), (43, Some(code.clone())));
        assert_eq!(MailCode::parse(&format!(" {text}\n")), Some(code.clone()), "as it is pasted");
        assert_ne!(MailCode::generate().unwrap(), code);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        for wrong in ["", "x", &text[1..], &format!("{text}A"), &"=".repeat(43), &"é".repeat(22), "<script>"]
        {
            assert_eq!(MailCode::parse(wrong), None, "{wrong}");
        }
        assert!(!format!("{code:?}").contains(&text[22..]));
        assert_eq!(code.row(Timestamp::from_millis(1)).hash, code.shown().hash);
    }
}
