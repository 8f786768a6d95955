//! What the network has on record: models by name, nodes, epochs, accounts and their keys.

use serde::{Deserialize, Serialize};

use infera_types::ids::{AccountId, Digest, ModelName, NodeId, OwnerId};
use infera_types::job::ChatMessage;
use infera_types::time::Timestamp;

/// What a model's name means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueEntry {
    /// The name that clients write and queues are called by.
    pub name: ModelName,
    /// Digests of the model folders that may answer for it. The first keys the sampling noise.
    pub digests: Vec<Digest>,
    /// SHA-256 of `tokenizer.json`: all digests share it.
    pub tokenizer: Digest,
    /// Prompt and answer together, in tokens.
    pub context_max: u32,
    /// The most bytes of what is said in messages, whitespace around each left out, that one token of a prompt can stand
    /// for. Absent where nothing is known of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said_bytes_per_token: Option<u32>,
    /// Ends a turn.
    pub end_tokens: Vec<infera_types::numbers::TokenId>,
    /// Microseconds that the reference machine takes per token: what points are scaled by (kappa).
    pub reference_token_us: u64,
    /// Since when.
    pub created_ms: Timestamp,
}

impl CatalogueEntry {
    /// A prompt of these messages has no fewer tokens; 0 where nothing is known.
    #[must_use]
    pub fn tokens_min(&self, messages: &[ChatMessage]) -> u64 {
        let Some(per_token) = self.said_bytes_per_token else { return 0 };
        let said: usize = messages.iter().map(|message| message.content.trim().len()).sum();
        u64::try_from(said).unwrap_or(u64::MAX).div_ceil(u64::from(per_token.max(1)))
    }
}

/// A node about to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// What its runner calls it.
    pub name: String,
    /// SHA-256 of its secret.
    pub secret: Digest,
    /// The account that it belongs to, if an account key came with it.
    pub account: Option<AccountId>,
}

/// What became of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The node, new or found again.
    Node(NodeRecord),
    /// The name is taken and the secret is another: the runner's fault.
    WrongSecret,
}

/// What became of a node's wish to come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeCheck {
    /// It is who it says, and its account's nodes may speak to the broker themselves.
    Admitted(NodeRecord),
    /// It is who it says, but its account has no scope `fleet`, or it has no account: the operator's to change.
    NoFleet(NodeRecord),
    /// It is who it says, and was revoked for good.
    Revoked,
    /// No node of that name has that secret.
    Unknown,
}

/// A node on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its inner id.
    pub id: NodeId,
    /// What its runner calls it.
    pub name: String,
    /// Its owner.
    pub owner: OwnerId,
    /// Since when.
    pub registered_ms: Timestamp,
}

/// A span of time with one secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number.
    pub number: u64,
    /// Its secret: keys noise and draws, never sent to anyone.
    pub secret: Digest,
}

/// What became of a sign-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedUp {
    /// The account.
    pub account: AccountId,
    /// Whether it is new; if not, nothing about it may be shown.
    pub is_new: bool,
}

/// The key that an account begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstKey {
    /// SHA-256 of the whole key.
    pub hash: Digest,
    /// Its last four characters, for lists.
    pub hint: String,
}

/// A key about to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// SHA-256 of the whole key.
    pub hash: Digest,
    /// The account that it belongs to.
    pub account: AccountId,
    /// Its last four characters, for lists.
    pub hint: String,
}

/// A key on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The account that it belongs to.
    pub account: AccountId,
    /// Its last four characters.
    pub hint: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(said_bytes_per_token: Option<u32>) -> CatalogueEntry {
        CatalogueEntry {
            name: ModelName::new("m"),
            digests: Vec::new(),
            tokenizer: Digest::of(b""),
            context_max: 512,
            said_bytes_per_token,
            end_tokens: Vec::new(),
            reference_token_us: 1,
            created_ms: Timestamp::from_millis(0),
        }
    }

    #[test]
    fn bytes_bound_tokens_from_below() {
        let said = |contents: &[&str]| -> Vec<ChatMessage> {
            let message =
                |content: &&str| ChatMessage { role: "user".to_owned(), content: (*content).to_owned() };
            contents.iter().map(message).collect()
        };
        for (per_token, contents, expected) in [
            (None, &["aaaa"][..], 0),
            (Some(4), &["aaaa"], 1),
            (Some(4), &["aaaaa"], 2),
            (Some(4), &["aa", "  \n aaa\t"], 2),
            (Some(4), &["   ", ""], 0),
            (Some(0), &["aa"], 2),
        ] {
            assert_eq!(entry(per_token).tokens_min(&said(contents)), expected, "{per_token:?} {contents:?}");
        }
    }

    /// Programs of before wrote entries without the field, and read those with it.
    #[test]
    fn an_entry_without_the_bound_is_read() {
        let old = serde_json::to_string(&entry(None)).unwrap();
        assert!(!old.contains("said_bytes_per_token"));
        assert_eq!(serde_json::from_str::<CatalogueEntry>(&old).unwrap(), entry(None));
        let new = serde_json::to_string(&entry(Some(13))).unwrap();
        assert_eq!(serde_json::from_str::<CatalogueEntry>(&new).unwrap(), entry(Some(13)));
    }
}
