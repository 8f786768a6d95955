//! Tokens that are reserved when a request is accepted and settled when its answer is known: what the answer didn't use
//! comes back.

use std::sync::Arc;
use std::time::Instant;

use infera_types::ids::JobId;
use infera_types::job::{End, Settlement};

use super::allowance::Attempt;
use super::keys::Caller;
use super::rate_limit::Limits;
use super::spent::{HELD_MAX, HeldTokens, Quantity};
use crate::api::error::ApiError;
use crate::api::too_many_requests::Limit;

/// Tokens that are reserved for one request. Dropping them gives them back.
#[derive(Debug)]
#[must_use = "dropping it gives the tokens back"]
pub(crate) struct Reserved {
    limits: Arc<Limits>,
    caller: Arc<Caller>,
    tokens: u64,
}

/// Returns the tokens that a job's end used: only answers are counted.
#[must_use]
pub(crate) fn used_tokens(settlement: &Settlement) -> u64 {
    let End::Succeeded { answer, .. } = &settlement.end else { return 0 };
    u64::from(answer.prompt_tokens) + u64::try_from(answer.tokens.len()).unwrap_or(u64::MAX)
}

impl Limits {
    /// Reserves tokens for a request of the caller.
    ///
    /// # Errors
    /// [`ApiError::Limited`]; nothing is reserved.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        tokens: u64,
        attempt: Attempt,
    ) -> Result<Reserved, ApiError> {
        self.spend(caller, (Quantity::Tokens, tokens), attempt, Instant::now())
            .map_err(|wait| ApiError::Limited(Limit::Tokens, wait))?;
        Ok(Reserved { limits: Arc::clone(self), caller: Arc::clone(caller), tokens })
    }

    /// Settles the tokens that are held for a job, if there are any, by what its end used.
    pub(crate) fn settle(&self, job: JobId, used: u64) {
        let held = self.held.lock().remove(&job);
        if let Some(HeldTokens { caller, tokens, .. }) = held {
            self.correct(&caller, tokens, used);
        }
    }

    fn correct(&self, caller: &Caller, reserved: u64, used: u64) {
        let of = (caller.key, &caller.account);
        if used < reserved {
            self.give_back(of, (Quantity::Tokens, reserved - used));
        } else if used > reserved {
            self.spend_anyway(of, (Quantity::Tokens, used - reserved));
        }
    }
}

impl Reserved {
    /// Settles by what was used.
    pub(crate) fn used(mut self, tokens: u64) {
        self.limits.correct(&self.caller, self.tokens, tokens);
        self.tokens = 0;
    }

    /// Holds the tokens until the end of `job` is known ([`Limits::settle`]).
    pub(crate) fn until_end_of(mut self, job: JobId) {
        let tokens = std::mem::take(&mut self.tokens);
        let mut held = self.limits.held.lock();
        if held.len() < HELD_MAX {
            held.insert(job, HeldTokens { caller: Arc::clone(&self.caller), tokens, since: Instant::now() });
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.tokens > 0 {
            self.limits.give_back((self.caller.key, &self.caller.account), (Quantity::Tokens, self.tokens));
        }
    }
}
