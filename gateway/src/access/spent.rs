//! What keys spent and what of it isn't settled: tokens that are held until a job's end is known, and sums that other gateways
//! haven't heard of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use infera_types::ids::{AccountId, Digest, JobId};
use infera_types::spending::Spent;

use super::keys::Caller;

/// The largest number of jobs for whose end tokens are held, some 100 bytes each. Those of further jobs count as used.
pub(super) const HELD_MAX: usize = 100_000;

/// What is counted by the minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Quantity {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
    /// Looks and cancels.
    Looks,
}

/// The tokens that are held for jobs whose end comes later.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<JobId, HeldTokens>>);

/// The tokens that are held for one job.
#[derive(Debug)]
pub(super) struct HeldTokens {
    /// The caller that asked for the job.
    pub(super) caller: Arc<Caller>,
    /// The tokens.
    pub(super) tokens: u64,
    /// Whether the job is another answer than the first of its request, with which the prompt is counted.
    pub(super) is_further: bool,
    /// Since when they are held.
    pub(super) since: Instant,
}

impl Held {
    /// Locks the map.
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<JobId, HeldTokens>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets tokens that were reserved two windows ago, because they are back already.
    pub(super) fn forget(&self, window: Duration, now: Instant) {
        let mut held = self.lock();
        held.retain(|_, held| now.saturating_duration_since(held.since) <= window * 2);
        held.shrink_to_fit();
    }
}

/// The largest number of keys of which something is untold. A broker that is away for long makes gateways forget the rest:
/// limits then hold at each gateway alone.
const UNTOLD_MAX: usize = 10_000;

/// What was spent here and isn't told yet.
#[derive(Debug, Default)]
pub(super) struct Untold(Mutex<HashMap<Digest, Spent>>);

impl Untold {
    /// Adds what a key spent, or, if it is negative, gave back.
    pub(super) fn add(&self, (key, account): (Digest, &AccountId), quantity: Quantity, amount: i64) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= UNTOLD_MAX && !keys.contains_key(&key) {
            return;
        }
        let spent = keys.entry(key).or_insert_with(|| Spent::nothing(key, account.clone()));
        let sum = match quantity {
            Quantity::Requests => &mut spent.requests,
            Quantity::Tokens => &mut spent.tokens,
            Quantity::Looks => &mut spent.looks,
        };
        *sum = sum.saturating_add(amount);
    }

    /// Returns all that is untold, and forgets it.
    pub(super) fn take(&self) -> Vec<Spent> {
        let keys = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let is_something = |spent: &Spent| (spent.requests, spent.tokens, spent.looks) != (0, 0, 0);
        keys.into_values().filter(is_something).collect()
    }
}
