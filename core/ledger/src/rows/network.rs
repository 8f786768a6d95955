//! Who there is: models by name, nodes, epochs, accounts and their keys.

use serde::{Deserialize, Serialize};

use infera_types::ids::{AccountId, Digest, ModelName, NodeId, OwnerId};
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
    /// Ends a turn.
    pub end_tokens: Vec<infera_types::numbers::TokenId>,
    /// Microseconds that the reference machine takes per token: what points are scaled by (kappa).
    pub reference_token_us: u64,
    /// Since when.
    pub created_ms: Timestamp,
}

/// A node about to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// What its runner calls it.
    pub name: String,
    /// SHA-256 of its secret.
    pub secret: Digest,
    /// Whose it is, if an account key came with it.
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
    /// Who owns it.
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
    /// Whose it is.
    pub account: AccountId,
    /// Its last four characters, for lists.
    pub hint: String,
}

/// A key on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Whose it is.
    pub account: AccountId,
    /// Its last four characters.
    pub hint: String,
}
