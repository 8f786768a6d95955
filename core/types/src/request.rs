//! What a client may ask: the request in the form that nodes get, and how much agreement is wanted.

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::ids::{Digest, ModelName};
use crate::knobs::Knobs;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}

/// A request in the form that is stored, hashed and sent to nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    /// The model that is to answer.
    pub model: ModelName,
    /// The conversation so far.
    pub messages: Vec<ChatMessage>,
    /// The most tokens that the answer may have.
    pub max_tokens: u32,
    /// Scales the noise of job-bound sampling; 0 is greedy.
    pub temperature: f64,
    /// Makes the same request reproduce the same tokens: it replaces the epoch's secret and the job's id in the
    /// sampling key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// What else decides how tokens are chosen and where the answer ends.
    #[serde(default, skip_serializing_if = "Knobs::are_plain")]
    pub knobs: Knobs,
    /// How many of the likeliest tokens are reported with each token of the answer; absent where no log-probabilities are
    /// asked for. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u8>,
    /// When tokens go to the client before the answer is whole; absent where none do. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Release>,
}

/// A client's seed: an integer of 64 bits, with or without a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Seed {
    /// One that fits with a sign.
    Signed(i64),
    /// One that is larger.
    Large(u64),
}

impl JobRequest {
    /// Returns the SHA-256 of the request's JSON in field order: the `request digest` of the sampling key. It covers
    /// everything that changes the answer, and nothing else.
    #[must_use]
    pub fn digest(&self) -> Digest {
        /// The request without what changes no answer.
        #[derive(Serialize)]
        struct Decisive<'a> {
            model: &'a ModelName,
            messages: &'a [ChatMessage],
            max_tokens: u32,
            temperature: f64,
            #[serde(skip_serializing_if = "Option::is_none")]
            seed: Option<Seed>,
            #[serde(skip_serializing_if = "Knobs::are_plain")]
            knobs: &'a Knobs,
        }
        let Self { model, messages, max_tokens, temperature, seed, knobs, top_logprobs: _, stream: _ } = self;
        let (max_tokens, temperature, seed) = (*max_tokens, *temperature, *seed);
        let decisive = Decisive { model, messages, max_tokens, temperature, seed, knobs };
        // Serialising plain strings and numbers to memory cannot fail; if it did, the digest of an empty text would
        // match no other request.
        Digest::of(&serde_json::to_vec(&decisive).unwrap_or_default())
    }
}

/// How much agreement a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationPolicy {
    /// How many replicas of different owners must agree: 2 or 3 (1 with `replicas: 1`).
    pub quorum: u8,
    /// How many nodes are asked: 3, or 1 for an unverified answer.
    pub replicas: u8,
}

impl Default for VerificationPolicy {
    /// Returns two of three: the tail latency is that of the second fastest node, and one liar cannot win alone.
    fn default() -> Self {
        Self { quorum: 2, replicas: 3 }
    }
}

/// When the tokens of a streamed answer go to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Release {
    /// As soon as a quorum's nodes have said the same. The default, because then nothing that one liar says is ever shown.
    #[default]
    Agreed,
    /// As soon as one node has said them; the verdict follows with the end.
    First,
    /// After the settlement, all at once.
    Verified,
}

impl Release {
    /// Returns the word, the same as in requests.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }
}
