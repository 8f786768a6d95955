//! Tokens that are reserved before a request is accepted, for each of the jobs that it is to become, and settled when that job's end
//! is known: what its answer didn't use comes back. So what counts is what the ledger settles, however a client waits for it.

use std::sync::Arc;
use std::time::Instant;

use infera_types::ids::JobId;
use infera_types::job::Settlement;

use super::allowance::Attempt;
use super::keys::Caller;
use super::rate_limit::Limits;
use super::spent::{HELD_MAX, HeldTokens, Quantity};
use crate::api::error::ApiError;
use crate::api::too_many_requests::Limit;

/// The tokens that the jobs of a request may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Those of its prompt and its first answer.
    pub(crate) first: u64,
    /// Those of each further answer.
    pub(crate) further: u64,
}

impl Wanted {
    /// Returns those of a request for this many answers.
    fn of(self, answers: usize) -> u64 {
        let further = u64::try_from(answers.saturating_sub(1)).unwrap_or(u64::MAX);
        self.first.saturating_add(self.further.saturating_mul(further))
    }
}

/// Tokens that are reserved for the jobs of one request. Each job's part stays reserved until its end is known, also when this is
/// dropped: a job whose client goes away may still be answered.
#[derive(Debug)]
pub(crate) struct Reserved {
    limits: Arc<Limits>,
    caller: Arc<Caller>,
    jobs: Vec<JobId>,
    /// Those that no job's end gives back, because no more are remembered.
    unheld: u64,
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
    /// Reserves tokens for a request of the caller that is to become these jobs, in the order of its answers.
    ///
    /// # Errors
    /// [`ApiError::Limited`]; nothing is reserved.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        jobs: &[JobId],
        wanted: Wanted,
        attempt: Attempt,
    ) -> Result<Reserved, ApiError> {
        let tokens = wanted.of(jobs.len());
        self.spend(caller, (Quantity::Tokens, tokens), attempt, Instant::now())
            .map_err(|wait| ApiError::Limited(Limit::Tokens, wait))?;
        let unheld = if self.hold(caller, jobs, wanted) { 0 } else { tokens };
        Ok(Reserved { limits: Arc::clone(self), caller: Arc::clone(caller), jobs: jobs.to_vec(), unheld })
    }

    /// Holds tokens for each of a request's jobs, from before the job can end. Returns whether there was room for all.
    fn hold(&self, caller: &Arc<Caller>, jobs: &[JobId], wanted: Wanted) -> bool {
        let since = Instant::now();
        let mut held = self.held.lock();
        if held.len().saturating_add(jobs.len()) > HELD_MAX {
            return false;
        }
        for (index, job) in jobs.iter().enumerate() {
            let is_further = index > 0;
            let tokens = if is_further { wanted.further } else { wanted.first };
            held.insert(*job, HeldTokens { caller: Arc::clone(caller), tokens, is_further, since });
        }
        true
    }

    /// Settles the tokens that are held for a job, if there are any, by what its end used.
    pub(crate) fn settle(&self, job: JobId, used: Used) {
        let held = self.held.lock().remove(&job);
        if let Some(HeldTokens { caller, tokens, is_further, .. }) = held {
            self.correct(&caller, tokens, used.by_choice(is_further));
        }
    }

    /// Gives back what was reserved and not used, or spends what was used beyond it.
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
    /// Returns whether a job is one of those that the tokens are reserved for.
    pub(crate) fn is_for(&self, job: JobId) -> bool {
        self.jobs.contains(&job)
    }

    /// Settles by the ends of jobs that are known. What is reserved for other jobs stays so until their ends are.
    pub(crate) fn settle(self, ends: &[(JobId, Used)]) {
        for (job, used) in ends {
            self.limits.settle(*job, *used);
        }
        // They may be the jobs of an earlier request that this one found again, for which others are held.
        if ends.iter().any(|(job, _)| !self.is_for(*job)) {
            return self.give_back();
        }
        if self.unheld > 0 && ends.len() == self.jobs.len() {
            let used = |(job, used): &(JobId, Used)| used.by_choice(self.jobs.first() != Some(job));
            self.limits.correct(&self.caller, self.unheld, ends.iter().map(used).sum());
        }
    }

    /// Gives the tokens back, because the request made no jobs.
    pub(crate) fn give_back(self) {
        let held: u64 = {
            let mut held = self.limits.held.lock();
            self.jobs.iter().filter_map(|job| held.remove(job)).map(|held| held.tokens).sum()
        };
        let tokens = self.unheld.saturating_add(held);
        if tokens > 0 {
            self.limits.give_back((self.caller.key, &self.caller.account), (Quantity::Tokens, tokens));
        }
    }
}
