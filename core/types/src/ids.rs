//! Ids and names as types, so that a node's id cannot be passed where a job's id is meant. They can be made, printed
//! and parsed, and have no other behaviour.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// An id that could not be parsed. The text is meant for the sender of the id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a {expected} id")]
pub struct IdError {
    expected: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new id; ids made later sort later (UUID version 7).
            #[must_use]
            #[expect(clippy::new_without_default, reason = "a default that differs at every call would surprise")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// Makes an id of exactly these bytes, for tests and for ids derived from a hash.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Returns the sixteen bytes that hashes and tables use.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!($prefix, "{}"), self.0.as_simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let error = IdError { expected: stringify!($name) };
                let digits = text.strip_prefix($prefix).filter(|digits| digits.len() == 32);
                let parsed = digits.and_then(|digits| Uuid::try_parse(digits).ok());
                parsed.map(Self).ok_or(error)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Makes an id of this text.
            #[must_use]
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// Returns the id's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

uuid_id!(
    /// One accepted request.
    JobId, "job_"
);
uuid_id!(
    /// One piece of work given to one node: the unit of scoring and pay.
    AssignmentId, "asg_"
);
uuid_id!(
    /// One object of the archive, holding many settled records.
    SegmentId, "seg_"
);
uuid_id!(
    /// One mail that is to be sent.
    MailId, "mail_"
);
uuid_id!(
    /// One code that a mail carries. The id finds the code's row and is no secret.
    CodeId, "code_"
);

text_id!(
    /// An account, which pays for jobs and owns nodes.
    AccountId
);
text_id!(
    /// An API key's public id, which says nothing of the key.
    KeyId
);
text_id!(
    /// A node's internal id, which we make from `[a-z0-9]` so that it is safe in every queue name and routing key. It
    /// is never the name that the node's runner chose, which could be `*`.
    NodeId
);
text_id!(
    /// A node's owner: an account's id, or [`OwnerId::anonymous`] for nodes registered without an account.
    OwnerId
);
text_id!(
    /// A named group of nodes.
    GroupId
);
text_id!(
    /// One verifier process, new at each start.
    VerifierId
);
text_id!(
    /// One gateway process, new at each start.
    GatewayId
);
text_id!(
    /// The name of a model as clients write it; the catalogue says what it means.
    ModelName
);

impl OwnerId {
    /// Returns the one owner that all nodes without an account share, so that two of them never sit in one group.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new("anonymous")
    }

    /// Returns the one owner that all backstop nodes have in draws for strangers' jobs: the network itself.
    #[must_use]
    pub fn network() -> Self {
        Self::new("network")
    }

    /// Returns the owner that this account is.
    #[must_use]
    pub fn of_account(account: &AccountId) -> Self {
        Self::new(account.as_str())
    }
}

fn random_word(prefix: &str) -> String {
    format!("{prefix}{}", Uuid::new_v4().as_simple())
}

impl NodeId {
    /// Makes a new internal id: `n` and 32 hexadecimal digits.
    #[must_use]
    pub fn fresh() -> Self {
        Self(random_word("n"))
    }
}

impl AccountId {
    /// Makes a new account id: `acct` and 32 hexadecimal digits.
    #[must_use]
    pub fn fresh() -> Self {
        Self(random_word("acct"))
    }
}

impl KeyId {
    /// Makes a new key id: `key_` and 32 hexadecimal digits.
    #[must_use]
    pub fn fresh() -> Self {
        Self(random_word("key_"))
    }
}

impl GroupId {
    /// How every id begins, and no name of a group does.
    pub const PREFIX: &'static str = "grp_";

    /// Makes a new group id: `grp_` and 32 hexadecimal digits.
    #[must_use]
    pub fn fresh() -> Self {
        Self(random_word(Self::PREFIX))
    }
}

impl VerifierId {
    /// Makes a new verifier id: `v` and 32 hexadecimal digits.
    #[must_use]
    pub fn fresh() -> Self {
        Self(random_word("v"))
    }
}

impl GatewayId {
    /// Makes a new gateway id: `g` and 32 hexadecimal digits.
    #[must_use]
    pub fn fresh() -> Self {
        Self(random_word("g"))
    }
}

/// A SHA-256 digest: of a request, a prompt, a model's files or a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Computes the digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Makes a digest of exactly these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Digest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError { expected: "SHA-256" })?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse() {
        let id = JobId::new();
        assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        for wrong in [
            "",
            "job_",
            "job_12",
            "asg_00000000000000000000000000000000",
            "job_zz000000000000000000000000000000",
        ] {
            assert!(wrong.parse::<JobId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn later_ids_sort_later() {
        let first = JobId::new();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(first < JobId::new());
    }

    #[test]
    fn digest_is_sha256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), expected);
        assert_eq!(expected.parse::<Digest>(), Ok(Digest::of(b"abc")));
    }

    #[test]
    fn fresh_words_are_safe_in_routing_keys() {
        for word in [NodeId::fresh().as_str(), VerifierId::fresh().as_str(), GatewayId::fresh().as_str()] {
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{word}");
        }
    }
}
