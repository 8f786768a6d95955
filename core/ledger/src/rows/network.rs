//! The network's records: models by name, nodes, epochs, accounts and their keys.

use serde::{Deserialize, Serialize};

use infera_types::ids::{AccountId, Digest, ModelName, NodeId, OwnerId};
use infera_types::job::ChatMessage;
use infera_types::time::Timestamp;

/// The meaning of a model's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueEntry {
    /// The name that clients write and that queues are named by.
    pub name: ModelName,
    /// The digests of the model folders that may answer for the name. The first one keys the sampling noise.
    pub digests: Vec<Digest>,
    /// The SHA-256 of `tokenizer.json`, which all digests share.
    pub tokenizer: Digest,
    /// The most tokens that prompt and answer may have together.
    pub context_max: u32,
    /// The most bytes of the messages' texts (without the whitespace around each) that one token of a prompt can
    /// stand for. Absent if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said_bytes_per_token: Option<u32>,
    /// How the weights are stored, in the words of listings of models, such as `fp32` or `int4`. Absent if that is
    /// unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// The tokens that end a turn.
    pub end_tokens: Vec<infera_types::numbers::TokenId>,
    /// Microseconds that the reference machine takes per token, by which points are scaled (kappa).
    pub reference_token_us: u64,
    /// The bytes of the first digest's ONNX file with its weights, which a node has to hold. Absent if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// When the entry was made.
    pub created_ms: Timestamp,
    /// When the model was removed. Its entry stays: jobs that were accepted before are answered by it, and the name keeps its
    /// meaning. Absent for a model that is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_ms: Option<Timestamp>,
}

impl CatalogueEntry {
    /// Returns whether the model was removed: no job for it is accepted any more.
    #[must_use]
    pub const fn is_removed(&self) -> bool {
        self.removed_ms.is_some()
    }

    /// Returns the fewest tokens that a prompt of these messages can have; 0 if that is unknown.
    #[must_use]
    pub fn tokens_min(&self, messages: &[ChatMessage]) -> u64 {
        let Some(per_token) = self.said_bytes_per_token else { return 0 };
        let said: usize = messages.iter().map(|message| message.content.trim().len()).sum();
        u64::try_from(said).unwrap_or(u64::MAX).div_ceil(u64::from(per_token.max(1)))
    }
}

/// A node that is about to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// The name that its runner chose.
    pub name: String,
    /// SHA-256 of its secret.
    pub secret: Digest,
    /// The account that it belongs to, if it was registered with an account key.
    pub account: Option<AccountId>,
}

/// The outcome of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The node, new or found again.
    Node(NodeRecord),
    /// The name is taken with another secret, which is the runner's fault.
    WrongSecret,
}

/// The outcome of a node's request for admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeCheck {
    /// The secret is right, and its account's nodes may connect to the broker.
    Admitted(NodeRecord),
    /// The secret is right, but the node has no account or its account lacks the scope `fleet`; an operator can
    /// change that.
    NoFleet(NodeRecord),
    /// The secret is right, but the node was revoked for good.
    Revoked,
    /// No node of that name has that secret.
    Unknown,
}

/// A node on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its internal id.
    pub id: NodeId,
    /// The name that its runner chose.
    pub name: String,
    /// Its owner.
    pub owner: OwnerId,
    /// When it was registered.
    pub registered_ms: Timestamp,
}

/// A period with one secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number.
    pub number: u64,
    /// Its secret, which keys noise and draws and is never sent.
    pub secret: Digest,
}

/// The outcome of a sign-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedUp {
    /// The account.
    pub account: AccountId,
    /// Whether it is new; if not, nothing about it may be shown.
    pub is_new: bool,
}

/// The key that a new account gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstKey {
    /// SHA-256 of the whole key.
    pub hash: Digest,
    /// Its last four characters, for lists.
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
            quantization: None,
            end_tokens: Vec::new(),
            reference_token_us: 1,
            bytes: None,
            created_ms: Timestamp::from_millis(0),
            removed_ms: None,
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

    /// Earlier versions wrote entries without the fields, and can read those with them.
    #[test]
    fn an_entry_without_later_fields_is_read() {
        let old = serde_json::to_string(&entry(None)).unwrap();
        for field in ["said_bytes_per_token", "quantization", "\"bytes\"", "removed_ms"] {
            assert!(!old.contains(field), "{field}");
        }
        assert_eq!(serde_json::from_str::<CatalogueEntry>(&old).unwrap(), entry(None));
        let new = serde_json::to_string(&entry(Some(13))).unwrap();
        assert_eq!(serde_json::from_str::<CatalogueEntry>(&new).unwrap(), entry(Some(13)));
    }
}
