//! What an account owes for an answer, or for the part of one that it had.

use super::columns::whole;
use crate::rows::{Posting, PostingEntry};
use infera_types::choice::Choice;
use infera_types::job::Settlement;

/// What an account owes for an answer, or for the part of one that its client had.
pub struct Usage {
    /// The posting that records it.
    pub posting: Posting,
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
}

impl Usage {
    /// Returns what is owed for an answer that isn't its request's first: the prompt is charged with that one. None for the
    /// first, which owes all.
    #[must_use]
    pub fn of_further(&self, choice: Choice) -> Option<Self> {
        if choice.index == 0 {
            return None;
        }
        let Self { posting, completion_tokens, .. } = self;
        let entry = match &posting.entry {
            PostingEntry::Usage { account, completion_tokens, .. } => PostingEntry::Usage {
                account: account.clone(),
                prompt_tokens: 0,
                completion_tokens: *completion_tokens,
            },
            other => other.clone(),
        };
        let posting = Posting { entry, ..posting.clone() };
        Some(Self { posting, prompt_tokens: 0, completion_tokens: *completion_tokens })
    }

    /// Returns the tokens that the answer used beyond those that its job was charged with when it was offered; negative
    /// if it used fewer.
    #[must_use]
    pub fn beyond(&self, charged: i64) -> i64 {
        whole(self.prompt_tokens.saturating_add(self.completion_tokens)).saturating_sub(charged)
    }
}

/// Returns what an account owes for a settled job.
pub(super) fn usage(settlement: &Settlement) -> Option<Usage> {
    let (prompt_tokens, completion_tokens) = settlement.end.owed()?;
    let entry = PostingEntry::Usage { account: settlement.account.clone(), prompt_tokens, completion_tokens };
    let posting = Posting {
        id: format!("usage:{}", settlement.job_id),
        job_id: settlement.job_id,
        posted_ms: settlement.settled_ms,
        entry,
    };
    Some(Usage { posting, prompt_tokens, completion_tokens })
}
