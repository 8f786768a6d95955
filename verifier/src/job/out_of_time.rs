//! The end of a job whose nodes were too slow for it.

use infera_types::job::{End, FailureReason};

use super::asking::Asking;

impl Asking {
    /// Returns the end of a job whose nodes' time ran out: how much they had for what, and what the client and the operator can do.
    pub(super) fn out_of_time(&self) -> End {
        let budget_ms = self.group.budget_ms().unwrap_or_default();
        let seconds = budget_ms.div_ceil(1_000);
        let (tokens, token_us) = (self.prepared.request.max_tokens, self.prepared.entry.reference_token_us);
        let message = format!(
            "The nodes' time ran out before the answer was complete: each had {seconds} s, for up to {tokens} tokens. Ask for fewer \
             (max_tokens). The operator can give answers of this model more time, by a reference time of over {token_us} µs a token \
             (--reference-token-us of `infera model add`)."
        );
        End::Failed { reason: FailureReason::TooManyMisses, message }
    }
}
