//! What a valid key doesn't permit, and the sentences about it (403).

use infera_ledger::{Scope, Scopes};

/// What a key doesn't permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The route needs a scope that the key lacks.
    Scope {
        /// The scope that is needed.
        needed: Scope,
        /// The scopes that the key has.
        has: Scopes,
    },
    /// The key that is to be made or changed has scopes that the caller's key lacks.
    BeyondScopes,
    /// The key that is to be made would be valid for longer than the caller's key.
    BeyondExpiry,
    /// The caller's key has a spend limit, which it could get around with other keys.
    BeyondSpendLimit,
    /// Another account's keys are for operators alone.
    OtherAccount,
}

impl Denied {
    /// Returns what is wrong and what to do.
    #[must_use]
    pub(crate) fn message(self) -> String {
        match self {
            Self::Scope { needed, has } => {
                let (needed, has) = (needed.word(), has.to_string());
                format!(
                    "This path needs the scope '{needed}', and this key has '{has}' alone. Use a key of that scope; GET /v1/keys \
                     lists the account's keys with their scopes."
                )
            }
            Self::BeyondScopes => "A key makes and changes only keys whose scopes it has itself.".to_owned(),
            Self::BeyondExpiry => {
                "A key that expires makes only keys that expire no later. Send a smaller expires_in_s, or use a key that \
                 doesn't expire."
                    .to_owned()
            }
            Self::BeyondSpendLimit => {
                "A key with a spend limit makes no other keys and sets no limits. Use one without a limit.".to_owned()
            }
            Self::OtherAccount => "Only a key with the scope 'admin' may name an account.".to_owned(),
        }
    }
}
