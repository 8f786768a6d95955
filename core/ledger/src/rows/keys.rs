//! The values of accounts' API keys: what a key permits, how long it is valid, and how it is shown.

use std::fmt;
use std::str::FromStr;

use strum::{IntoStaticStr, VariantArray};

use super::{KeyPrivacy, PrivacyChange};
use infera_types::ids::{AccountId, Digest, KeyId, ModelName};
use infera_types::time::Timestamp;

/// What a key permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Scope {
    /// Conversations, jobs, models, the account's keys and usage, and registering the account's nodes.
    User,
    /// Registering the account's nodes, and nothing else.
    Node,
    /// Registering the account's nodes; its account's nodes may connect to the broker.
    Fleet,
    /// Everything, for every account.
    Admin,
}

impl Scope {
    /// Returns the scope's word in the API and in tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// Returns whether a holder of this scope may do everything that `other` permits.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        match self {
            Self::Admin => true,
            Self::User => matches!(other, Self::User | Self::Node),
            Self::Fleet => matches!(other, Self::Fleet | Self::Node),
            Self::Node => matches!(other, Self::Node),
        }
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// Makes the set of these scopes.
    #[must_use]
    pub fn of(scopes: &[Scope]) -> Self {
        Self(scopes.iter().fold(0, |bits, scope| bits | 1 << *scope as u8))
    }

    /// Returns the scopes of the set, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::VARIANTS.iter().copied().filter(move |scope| self.0 & (1 << *scope as u8) != 0)
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether a scope of the set permits what `scope` permits.
    #[must_use]
    pub fn permits(self, scope: Scope) -> bool {
        self.iter().any(|held| held.covers(scope))
    }

    /// Returns whether a holder of this set may do everything that `others` permit.
    #[must_use]
    pub fn covers(self, others: Self) -> bool {
        others.iter().all(|scope| self.permits(scope))
    }
}

impl fmt::Display for Scopes {
    /// Writes the words with commas, as tables and commands have them.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.iter().map(Scope::word).collect();
        formatter.write_str(&words.join(","))
    }
}

/// The error of a word that names no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no scope; the scopes are user, node, fleet and admin")]
pub struct UnknownScope(pub String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::VARIANTS.iter().copied().find(|scope| scope.word() == word);
        found.ok_or_else(|| UnknownScope(word.chars().take(40).collect()))
    }
}

impl FromStr for Scopes {
    type Err = UnknownScope;

    fn from_str(words: &str) -> Result<Self, Self::Err> {
        let scopes: Vec<Scope> =
            words.split(',').map(|word| word.trim().parse()).collect::<Result<_, _>>()?;
        Ok(Self::of(&scopes))
    }
}

/// A key that is about to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// SHA-256 of the whole key.
    pub hash: Digest,
    /// The account that it belongs to.
    pub account: AccountId,
    /// Its last four characters, for lists.
    pub hint: String,
    /// Its public id.
    pub id: KeyId,
    /// The name that its owner gave it; may be empty.
    pub name: String,
    /// What it permits.
    pub scopes: Scopes,
    /// The time from which it is no longer valid; none: it doesn't expire.
    pub expires_ms: Option<Timestamp>,
}

impl NewKey {
    /// Makes a key without a name and without an end, with the scope `user`, under a new id.
    #[must_use]
    pub fn plain(hash: Digest, account: AccountId, hint: impl Into<String>) -> Self {
        Self {
            hash,
            account,
            hint: hint.into(),
            id: KeyId::fresh(),
            name: String::new(),
            scopes: Scopes::of(&[Scope::User]),
            expires_ms: None,
        }
    }
}

/// A valid key on record. Whether it has expired is for the caller to say, who knows the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The account that it belongs to.
    pub account: AccountId,
    /// Its last four characters.
    pub hint: String,
    /// Its public id.
    pub id: KeyId,
    /// What it permits.
    pub scopes: Scopes,
    /// The time from which it is no longer valid.
    pub expires_ms: Option<Timestamp>,
    /// Whether the account is proven, so that its jobs are counted under a share of its own.
    pub proven: bool,
    /// The weight of the account's share, at least 1.
    pub weight: u32,
    /// Whether the key may ask for the tier `priority`.
    pub may_prioritise: bool,
    /// What it says of its jobs' text.
    pub privacy: KeyPrivacy,
}

/// A key that is on record under its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundKey {
    /// It is neither revoked nor blocked. It may have expired, which its record says.
    Valid(KeyRecord),
    /// It opens nothing.
    Ended(EndedKey),
}

impl FoundKey {
    /// Returns the record of a key that is neither revoked nor blocked.
    #[must_use]
    pub fn valid(self) -> Option<KeyRecord> {
        if let Self::Valid(record) = self { Some(record) } else { None }
    }
}

/// A key that is revoked or blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedKey {
    /// Its public id.
    pub id: KeyId,
    /// The account that it belongs to.
    pub account: AccountId,
    /// Why it opens nothing.
    pub end: KeyEnd,
}

/// Why a key on record opens nothing, whatever the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEnd {
    /// It is revoked, for good.
    Revoked,
    /// An operator blocks it.
    Blocked,
    /// An operator blocks its account.
    AccountBlocked,
}

impl KeyEnd {
    /// Returns why a key opens nothing that is revoked, blocked, or of a blocked account; none if it is none of these. What lasts
    /// longest is told.
    #[must_use]
    pub const fn of(is_revoked: bool, is_blocked: bool, is_account_blocked: bool) -> Option<Self> {
        match (is_revoked, is_blocked, is_account_blocked) {
            (true, _, _) => Some(Self::Revoked),
            (_, true, _) => Some(Self::Blocked),
            (_, _, true) => Some(Self::AccountBlocked),
            _ => None,
        }
    }
}

/// A key as its account and operators see it, whatever its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// Its public id.
    pub id: KeyId,
    /// The account that it belongs to.
    pub account: AccountId,
    /// Its last four characters.
    pub hint: String,
    /// The name that its owner gave it.
    pub name: String,
    /// What it permits.
    pub scopes: Scopes,
    /// When it was issued.
    pub issued_ms: Timestamp,
    /// The time from which it is no longer valid.
    pub expires_ms: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_ms: Option<Timestamp>,
    /// Since when an operator blocks it.
    pub blocked_ms: Option<Timestamp>,
    /// The key that took its place, if it was rotated.
    pub successor: Option<KeyId>,
    /// What it says of its jobs' text.
    pub privacy: KeyPrivacy,
}

impl KeyView {
    /// Returns the word for the key's state at `now`.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> &'static str {
        if self.revoked_ms.is_some() {
            "revoked"
        } else if self.blocked_ms.is_some() {
            "blocked"
        } else if self.expires_ms.is_some_and(|expires| expires <= now) {
            "expired"
        } else {
            "valid"
        }
    }
}

/// The change of a key that isn't revoked. What is none stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// The new name.
    pub name: Option<String>,
    /// The new scopes.
    pub scopes: Option<Scopes>,
    /// The new expiry; an inner none takes the expiry away.
    pub expires_ms: Option<Option<Timestamp>>,
    /// What changes of its jobs' text.
    pub privacy: PrivacyChange,
    /// The new limit on what it may spend in a calendar month, in billionths; an inner none takes the limit away.
    pub spend_limit: Option<Option<u64>>,
}

/// The replacement of a key by another one, which takes over what the old one says of its jobs' text, its group of nodes, its
/// spend limit, and its spending: both spend from one purse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The key that is replaced.
    pub id: KeyId,
    /// The key that takes its place.
    pub successor: NewKey,
    /// When the old key expires, if it doesn't earlier.
    pub until: Timestamp,
    /// The number of valid keys that its account may have, both of these counted.
    pub live_max: u32,
}

/// The outcome of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// The key has the successor, by this call or by the same one before.
    Done,
    /// The old key is unknown, another account's, revoked, blocked, expired, or has another successor.
    NotValid,
    /// The account has as many valid keys as it may have.
    Full,
}

/// What a key used of a model on one day: answers, and the parts of streamed ones that clients had which hung up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// The day, counted since 1970, of the moment at which the answers were settled (UTC).
    pub day: u64,
    /// The key; none for jobs that were accepted without one, or before keys were counted.
    pub key: Option<KeyId>,
    /// The model.
    pub model: ModelName,
    /// The answers.
    pub requests: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    pub completion_tokens: u64,
    /// What the answers cost, in billionths of the currency.
    pub cost: u64,
}

/// The outcome of adding a key to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The key is stored.
    Stored,
    /// The account has as many valid keys as it may.
    Full,
    /// There is no such account.
    NoAccount,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables store the words, so a variant that is renamed keeps its word.
    #[test]
    fn scopes_keep_their_words() {
        let all = Scopes::of(Scope::VARIANTS);
        assert_eq!(all.to_string(), "user,node,fleet,admin");
        assert_eq!("admin, node,user,fleet".parse(), Ok(all));
        assert_eq!("user".parse(), Ok(Scopes::of(&[Scope::User])));
        for wrong in ["", "root", "user,", "User"] {
            assert!(wrong.parse::<Scopes>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_holder_covers_what_it_may_do_itself() {
        let table = [
            ("user", "user,node", true),
            ("user", "fleet", false),
            ("user", "admin", false),
            ("user", "user,admin", false),
            ("node", "node", true),
            ("node", "user", false),
            ("fleet", "fleet,node", true),
            ("fleet", "user", false),
            ("fleet,user", "user,fleet,node", true),
            ("admin", "user,node,fleet,admin", true),
        ];
        for (held, asked, expected) in table {
            let (held, asked): (Scopes, Scopes) = (held.parse().unwrap(), asked.parse().unwrap());
            assert_eq!(held.covers(asked), expected, "{held} covers {asked}");
        }
    }
}
