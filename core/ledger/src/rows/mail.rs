//! The values of mails and of the codes that they carry.

use strum::{EnumString, IntoStaticStr};

use infera_types::ids::{AccountId, CodeId, Digest, KeyId, MailId};
use infera_types::time::Timestamp;

/// What a mail is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum MailKind {
    /// It proves that an account's holder reads the address.
    Proof,
    /// It gives the holder of a proven address a new key.
    Recovery,
}

impl MailKind {
    /// Returns the kind's word in tables and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// A mail that somebody asks for. Whether anything is to be proven or recovered is found when it is sent, so that asking costs
/// the same for every address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMail {
    /// Its id.
    pub id: MailId,
    /// What it is for.
    pub kind: MailKind,
    /// The address that it goes to, in its normal form.
    pub address: String,
    /// The account whose address is to be proven; none for a recovery.
    pub account: Option<AccountId>,
    /// The network of the client that asks, by which mails are counted.
    pub network: String,
}

/// The largest numbers of mails of one kind that may be asked for within an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailBounds {
    /// By all clients. Those that had no one to go to don't count.
    pub per_hour_max: u32,
    /// For one address.
    pub per_address_hour_max: u32,
    /// By clients of one network.
    pub per_network_hour_max: u32,
}

/// A mail whose turn it is. The caller has it alone until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueMail {
    /// Its id.
    pub id: MailId,
    /// What it is for.
    pub kind: MailKind,
    /// The address that it goes to.
    pub address: String,
    /// The account whose address is to be proven; none for a recovery.
    pub account: Option<AccountId>,
    /// How often it was taken, this time included.
    pub tries: u32,
}

/// A code that is about to be mailed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewCode {
    /// The public part, which finds the row.
    pub id: CodeId,
    /// SHA-256 of the secret part.
    pub hash: Digest,
    /// The time from which the code is no longer valid.
    pub expires_ms: Timestamp,
}

/// What the mail to an address may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressee {
    /// The code is stored and may be mailed.
    MayProve,
    /// The address is proven by another account. No code is stored.
    Taken,
    /// Nothing is to be proven or recovered, or the account is blocked: no mail goes out. No code is stored.
    NoOne,
}

/// A code as a client shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownCode {
    /// The public part.
    pub id: CodeId,
    /// SHA-256 of the secret part.
    pub hash: Digest,
}

/// What a code is shown for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeUse {
    /// To prove the account's address.
    Proof,
    /// To give the account this key.
    Recovery(RecoveredKey),
}

impl CodeUse {
    /// Returns the kind of mail whose code serves for it.
    #[must_use]
    pub const fn kind(&self) -> MailKind {
        match self {
            Self::Proof => MailKind::Proof,
            Self::Recovery(_) => MailKind::Recovery,
        }
    }
}

/// The key that takes the place of a lost one. It has the scope `user` and no end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredKey {
    /// SHA-256 of the whole key.
    pub hash: Digest,
    /// Its last four characters.
    pub hint: String,
    /// Its public id.
    pub id: KeyId,
    /// Whether all other keys of the account are revoked.
    pub revokes_others: bool,
}

/// What happened to an account by mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum AccountEventKind {
    /// Its address was proven.
    Proven,
    /// A lost key was replaced by the one that is named; the others stayed.
    Recovered,
    /// A lost key was replaced by the one that is named, and all others were revoked.
    RecoveredAndRevoked,
}

impl AccountEventKind {
    /// Returns the kind's word in the API and in tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// One line of what happened to an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountEvent {
    /// What happened.
    pub kind: AccountEventKind,
    /// When.
    pub at_ms: Timestamp,
    /// The key that was made.
    pub key: Option<KeyId>,
}
