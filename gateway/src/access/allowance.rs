//! How much of one thing, such as requests or tokens, may still be spent at a steady rate, and when those who were refused
//! should come again. Everything here is a pure function of values and a `now`.
//!
//! What was spent comes back evenly over the window, and as much as the limit may be spent at once. A refusal costs nothing.
//! It keeps a place in line for its client: the time that the client is told is one at which its amount will be there and is
//! promised to no other. New requests leave alone what is promised. So a client that comes when it was told to is served at
//! its second try, however many others were refused with it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::api::waits::spread;

/// A client rests for at least this part of the window, so that it then finds enough for a while and isn't refused again at
/// once: one client that sends without pause is refused twenty times in a window at most.
const REST_PART: u32 = 20;

/// The rests that clients in line take after each other are at most this many times that part together.
const RESTS_MAX: u32 = 4;

/// How long a place in line is kept beyond its time, as a part of the window: clients that read whole seconds come up to one
/// second late, and a busy machine adds some.
const KEPT_PART: u32 = 12;

/// A retry may exceed the limit by one part in this many.
const OVERDRAFT_PART: u64 = 10;

/// What a request says of earlier tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It is the first.
    First,
    /// It repeats an earlier one.
    Again,
    /// It doesn't say.
    Unknown,
}

/// A limit over a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// The limit; at least 1.
    pub(super) limit: u64,
    /// The window in which all of it comes back.
    pub(super) window: Duration,
}

impl Rate {
    /// Makes a rate; none if the limit is 0, which means that there is no limit.
    #[must_use]
    pub(super) fn new(limit: u64, window: Duration) -> Option<Self> {
        (limit > 0).then_some(Self { limit, window })
    }

    fn window_ns(&self) -> u64 {
        u64::try_from(self.window.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Returns how long one takes to come back, in nanoseconds.
    fn one_ns(&self) -> u64 {
        (self.window_ns() / self.limit).max(1)
    }

    fn time_of(&self, amount: u64) -> Duration {
        Duration::from_nanos(self.one_ns().saturating_mul(amount))
    }
}

/// A place in line.
#[derive(Clone, Copy, Debug)]
struct Place {
    due: Instant,
    amount: u64,
}

/// What one key or account may still spend of one thing.
#[derive(Debug)]
pub(super) struct Allowance {
    rate: Rate,
    /// When all of it is back.
    full_at: Instant,
    /// The places in line, by their times.
    line: VecDeque<Place>,
    promised: u64,
    refusals: u32,
}

impl Allowance {
    /// Makes an allowance of which nothing is spent.
    #[must_use]
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, full_at: now, line: VecDeque::new(), promised: 0, refusals: 0 }
    }

    /// Returns the limit.
    #[must_use]
    pub(super) const fn limit(&self) -> u64 {
        self.rate.limit
    }

    /// Returns how long it takes until all of it is back.
    #[must_use]
    pub(super) fn reset(&self, now: Instant) -> Duration {
        self.full_at.saturating_duration_since(now)
    }

    /// Returns how much is left, whether promised or not; 0 after an overdraft.
    #[must_use]
    pub(super) fn left(&self, now: Instant) -> u64 {
        u64::try_from(self.balance(now)).unwrap_or(0)
    }

    /// Returns whether nothing is spent and no place is kept, so that forgetting the allowance changes nothing.
    #[must_use]
    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        self.expire(now);
        self.full_at <= now && self.line.is_empty()
    }

    fn balance(&self, now: Instant) -> i64 {
        let spent_ns = u64::try_from(self.reset(now).as_nanos()).unwrap_or(u64::MAX);
        let spent = spent_ns.div_ceil(self.rate.one_ns());
        let signed = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
        signed(self.rate.limit) - signed(spent)
    }

    /// Returns the amount that is counted: more than the whole limit would never be there.
    fn counted(&self, amount: u64) -> i64 {
        i64::try_from(amount.min(self.rate.limit)).unwrap_or(i64::MAX)
    }

    /// Gives up the places of clients that didn't come.
    fn expire(&mut self, now: Instant) {
        let kept = self.rate.window / KEPT_PART;
        while let Some(place) = self.line.front().filter(|place| place.due + kept < now) {
            self.promised -= place.amount;
            self.line.pop_front();
        }
    }

    /// Returns whether `amount` may be spent now: out of what isn't promised, or out of a place in line whose time has come,
    /// or, by a retry, as an overdraft.
    #[must_use]
    pub(super) fn may_spend(&mut self, amount: u64, attempt: Attempt, now: Instant) -> bool {
        self.expire(now);
        let (balance, wanted) = (self.balance(now), self.counted(amount));
        let overdraft = i64::try_from(self.rate.limit / OVERDRAFT_PART).unwrap_or(i64::MAX);
        let promised = i64::try_from(self.promised).unwrap_or(i64::MAX);
        let is_due = attempt != Attempt::First && self.line.front().is_some_and(|place| place.due <= now);
        balance - promised >= wanted
            || (is_due && balance >= wanted)
            || (attempt == Attempt::Again && balance + overdraft >= wanted)
    }

    /// Spends `amount`, and gives up the place in line whose time has come, if the request can be that place's.
    pub(super) fn spend(&mut self, amount: u64, attempt: Attempt, now: Instant) {
        let amount = amount.min(self.rate.limit);
        self.full_at = self.full_at.max(now) + self.rate.time_of(amount);
        if attempt != Attempt::First
            && let Some(place) = self.line.front().filter(|place| place.due <= now)
        {
            self.promised -= place.amount;
            self.line.pop_front();
        }
    }

    /// Spends what another gateway let through, even beyond the limit. What is owed is bounded by one window more.
    pub(super) fn spend_elsewhere(&mut self, amount: u64, now: Instant) {
        let owed_max = now + self.rate.window * 2;
        self.full_at =
            (self.full_at.max(now) + self.rate.time_of(amount.min(self.rate.limit * 2))).min(owed_max);
    }

    /// Gives back what was spent and not used.
    pub(super) fn give_back(&mut self, amount: u64, now: Instant) {
        let time = self.rate.time_of(amount.min(self.rate.limit));
        self.full_at = self.full_at.checked_sub(time).unwrap_or(now);
    }

    /// Returns when `amount` will be there beside all that is promised, after the rests of those who are in line; none if
    /// that is more than a window away, so that no place can be kept.
    #[must_use]
    pub(super) fn due(&self, amount: u64, now: Instant) -> Option<Instant> {
        let wanted = self.promised.saturating_add(amount.min(self.rate.limit));
        if wanted > self.rate.limit {
            return None;
        }
        let spendable = self.full_at.max(now) + self.rate.time_of(wanted);
        let there = spendable.checked_sub(self.rate.window).unwrap_or(now);
        let rests = u32::try_from(self.line.len()).unwrap_or(u32::MAX).saturating_add(1).min(RESTS_MAX);
        let due = there.max(now + self.rate.window / REST_PART * rests);
        (due <= now + self.rate.window).then_some(due)
    }

    /// Keeps a place in line until `due`.
    pub(super) fn promise(&mut self, amount: u64, due: Instant) {
        let amount = amount.min(self.rate.limit);
        let at = self.line.partition_point(|place| place.due <= due);
        self.line.insert(at, Place { due, amount });
        self.promised += amount;
    }

    /// Returns the time that a refused client is told: until its place is due, or most of a window if it has none, and a bit
    /// more, so that clients that were refused together come back spread out.
    #[must_use]
    pub(super) fn told(&mut self, due: Option<Instant>, now: Instant) -> Duration {
        self.refusals = self.refusals.wrapping_add(1);
        match due {
            Some(due) => {
                let wait = due.saturating_duration_since(now);
                (wait + spread((wait / 10).min(self.rate.window / 60), self.refusals)).min(self.rate.window)
            }
            None => self.rate.window * 3 / 4 + spread(self.rate.window / 4, self.refusals),
        }
    }
}

#[cfg(test)]
mod tests;
