//! What a client had of a streamed answer when it hung up.

use serde::{Deserialize, Serialize};

use crate::ids::AssignmentId;
use crate::numbers::is_zero;

/// What a client that hung up had of a streamed answer. Programs of before read it as a cancellation that costs nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// How many tokens of the answer were passed on to the client; they are billed, and the prompt.
    pub tokens: u32,
    /// How many of these a quorum of owners had told: as many are paid for. Fewer than were passed on only where one node's word was
    /// released.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub agreed_tokens: u32,
    /// The assignments whose nodes had told all of those, and nothing else in place of what was passed on: these are paid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreed: Vec<AssignmentId>,
}
