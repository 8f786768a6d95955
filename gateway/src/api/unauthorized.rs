//! Why a request's key opens nothing (401), with the codes and sentences. What says something about a key on record is told to
//! those alone who hold that very key: one can't be guessed.

/// Why a request's key opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unauthorized {
    /// No key was sent.
    Missing,
    /// The header `Authorization` has another scheme than `Bearer`, or none.
    Scheme,
    /// One header stands twice, or two different keys were sent.
    Several,
    /// A header has bytes that aren't visible ASCII.
    NotText,
    /// What was sent isn't written as keys are.
    Malformed,
    /// No such key is on record.
    Unknown,
    /// The key was revoked.
    Revoked,
    /// The key's time is over, or that of its overlap with its successor.
    Expired,
    /// The operator blocked the key.
    KeyBlocked,
    /// The operator blocked the key's account.
    AccountBlocked,
}

impl Unauthorized {
    /// All reasons.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 10] = [
        Self::Missing,
        Self::Scheme,
        Self::Several,
        Self::NotText,
        Self::Malformed,
        Self::Unknown,
        Self::Revoked,
        Self::Expired,
        Self::KeyBlocked,
        Self::AccountBlocked,
    ];

    /// Returns the code that programs compare.
    #[must_use]
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Missing => "missing_api_key",
            Self::Scheme | Self::Several | Self::NotText | Self::Malformed | Self::Unknown => {
                "invalid_api_key"
            }
            Self::Revoked => "key_revoked",
            Self::Expired => "key_expired",
            Self::KeyBlocked => "key_blocked",
            Self::AccountBlocked => "account_blocked",
        }
    }

    /// Returns what is wrong and what to do. What was sent isn't repeated, because it may be a key with a typo.
    #[must_use]
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Missing => {
                "Not authenticated: no API key was sent. Send one as 'Authorization: Bearer <key>' or in the header 'api_key'."
            }
            Self::Scheme => {
                "Not authenticated: the header Authorization should be 'Bearer <key>', and has another scheme, or none."
            }
            Self::Several => {
                "Not authenticated: one header was sent twice, or two different API keys were. Send one key, once."
            }
            Self::NotText => {
                "Not authenticated: the header with the API key has characters that no key has. Copy the key again."
            }
            Self::Malformed => {
                "Not authenticated: what was sent is no API key of this network. A key is 'inf_' with 36 letters and digits; one \
                 that is cut off or mistyped is recognised by its checksum. Copy the key again."
            }
            Self::Unknown => {
                "Not authenticated: this API key was never issued here. It may be another network's; check the address too."
            }
            Self::Revoked => "This API key was revoked. Use another key of the account, or make one.",
            Self::Expired => {
                "This API key has expired, or its successor took its place. Use another key of the account, or make one."
            }
            Self::KeyBlocked => "This network's operator blocked this API key. Ask the operator about it.",
            Self::AccountBlocked => {
                "This network's operator blocked the account of this API key. Ask the operator about it."
            }
        }
    }
}
