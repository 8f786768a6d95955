//! Tokens that are reserved when a request is accepted and settled when its answer is known: what the answer didn't use
//! comes back.

use std::sync::Arc;
use std::time::Instant;

use infera_types::choice::Choice;
use infera_types::ids::JobId;
use infera_types::job::Settlement;

use super::allowance::Attempt;
use super::keys::Caller;
use super::rate_limit::Limits;
use super::spent::{HELD_MAX, HeldTokens, Quantity};
use crate::api::error::ApiError;
use crate::api::too_many_requests::Limit;

/// The tokens that a request may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Those of its prompt and its first answer.
    pub(crate) first: u64,
    /// Those of each further answer.
    pub(crate) further: u64,
    /// How many answers it asks for.
    pub(crate) choices: u32,
}

impl Wanted {
    fn all(self) -> u64 {
        self.first.saturating_add(self.further.saturating_mul(u64::from(self.choices.saturating_sub(1))))
    }
}

/// Tokens that are reserved for one request. Dropping them gives them back.
#[derive(Debug)]
#[must_use = "dropping it gives the tokens back"]
pub(crate) struct Reserved {
    limits: Arc<Limits>,
    caller: Arc<Caller>,
    wanted: Wanted,
    tokens: u64,
}

/// The tokens that a job's end used: those that its account owes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    prompt: u64,
    answer: u64,
}

impl Used {
    /// Returns those of an end.
    pub(crate) fn of(settlement: &Settlement) -> Self {
        let (prompt, answer) = settlement.end.owed().unwrap_or_default();
        Self { prompt, answer }
    }

    /// Returns how many count for a job: the prompt counts with the first answer of its request.
    pub(crate) const fn by_choice(self, is_further: bool) -> u64 {
        if is_further { self.answer } else { self.prompt.saturating_add(self.answer) }
    }
}

impl Limits {
    /// Reserves tokens for a request of the caller.
    ///
    /// # Errors
    /// [`ApiError::Limited`]; nothing is reserved.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        wanted: Wanted,
        attempt: Attempt,
    ) -> Result<Reserved, ApiError> {
        let tokens = wanted.all();
        self.spend(caller, (Quantity::Tokens, tokens), attempt, Instant::now())
            .map_err(|wait| ApiError::Limited(Limit::Tokens, wait))?;
        Ok(Reserved { limits: Arc::clone(self), caller: Arc::clone(caller), wanted, tokens })
    }

    /// Settles the tokens that are held for a job, if there are any, by what its end used.
    pub(crate) fn settle(&self, job: JobId, used: Used) {
        let held = self.held.lock().remove(&job);
        if let Some(HeldTokens { caller, tokens, is_further, .. }) = held {
            self.correct(&caller, tokens, used.by_choice(is_further));
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

    /// Holds the tokens until the ends of all jobs of a request are known, of which `job` is one.
    pub(crate) fn until_ends_of_request(self, job: JobId) {
        let choice = Choice { index: 0, count: self.wanted.choices };
        self.until_ends_of(&choice.all(job));
    }

    /// Holds the tokens until the ends of a request's jobs are known ([`Limits::settle`]).
    pub(crate) fn until_ends_of(mut self, jobs: &[JobId]) {
        self.tokens = 0;
        let Wanted { first, further, .. } = self.wanted;
        let since = Instant::now();
        let mut held = self.limits.held.lock();
        for (index, job) in jobs.iter().enumerate() {
            let is_further = index > 0;
            let tokens = if is_further { further } else { first };
            if held.len() < HELD_MAX {
                held.insert(*job, HeldTokens { caller: Arc::clone(&self.caller), tokens, is_further, since });
            }
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
