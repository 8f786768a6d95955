//! How many requests of one key, and of one account, are in flight at once. A request beyond the bound waits for a moment,
//! in a bounded line, before it is refused: most requests end soon, and a client that sends as many as it may at once is
//! never refused for the moment in which one reply crosses its next request. What other gateways report counts too; a turn that
//! comes free there is given here with the next report.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use infera_types::ids::{AccountId, Digest, GatewayId};
use tokio::sync::oneshot;

use super::allowance::Attempt;
use super::elsewhere::Elsewhere;
use super::keys::Caller;
use crate::api::waits::spread;

/// The shortest and the longest wait that a refused client is told.
const TOLD_MIN: Duration = Duration::from_secs(1);
const TOLD_MAX: Duration = Duration::from_secs(30);

/// A retry may exceed the bound by one part in this many.
const OVERDRAFT_PART: u32 = 10;

/// The bounds on requests in flight; 0 means none.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnBounds {
    /// The bound of one key.
    pub(super) key_max: u32,
    /// The bound of one account.
    pub(super) account_max: u32,
    /// How long a request waits for its turn.
    pub(super) wait: Duration,
}

/// The requests in flight of all accounts.
#[derive(Debug)]
pub(super) struct Turns {
    bounds: TurnBounds,
    flights: Flights,
}

type Flights = Arc<Mutex<HashMap<AccountId, Flight>>>;

/// The requests in flight of one account.
#[derive(Debug, Default)]
struct Flight {
    keys: HashMap<Digest, u32>,
    total: u32,
    waiting: VecDeque<(Digest, oneshot::Sender<()>)>,
    /// How long a turn lasts on the average, for the time that a refused client is told.
    usual: Duration,
    /// The times at which refused clients will come again.
    told: VecDeque<Instant>,
    refusals: u32,
    /// What its keys have in flight at other gateways.
    elsewhere: Elsewhere,
    /// The counts that other gateways were told; keys without any are left out.
    told_others: HashMap<Digest, u32>,
}

/// One request in flight. Dropping it frees its turn.
#[derive(Debug)]
pub(crate) struct Turn {
    account: AccountId,
    key: Digest,
    begun: Instant,
    bounds: TurnBounds,
    flights: Flights,
}

impl TurnBounds {
    /// Returns whether there is no bound at all.
    const fn are_none(self) -> bool {
        self.key_max == 0 && self.account_max == 0
    }

    /// Returns whether a key with `of_key` requests in flight, of an account with `of_account`, may have another.
    fn permit(&self, of_key: u32, of_account: u32, attempt: Attempt) -> bool {
        let more = |max: u32| {
            let overdraft = if attempt == Attempt::Again { max.div_ceil(OVERDRAFT_PART) } else { 0 };
            max.saturating_add(overdraft)
        };
        let fits = |count: u32, max: u32| max == 0 || count < more(max);
        fits(of_key, self.key_max) && fits(of_account, self.account_max)
    }
}

impl Flight {
    fn of_key(&self, key: Digest) -> u32 {
        self.keys.get(&key).copied().unwrap_or(0)
    }

    /// Returns whether a key may have another request in flight, with what it has at other gateways.
    fn may_begin(&self, key: Digest, bounds: TurnBounds, attempt: Attempt) -> bool {
        let (of_key, of_account) = self.elsewhere.counts(key);
        bounds.permit(self.of_key(key).saturating_add(of_key), self.total.saturating_add(of_account), attempt)
    }

    /// Returns whether a key may have `more` requests in flight beside those it has.
    fn may_begin_all(&self, key: Digest, bounds: TurnBounds, (more, attempt): (u32, Attempt)) -> bool {
        let (of_key, of_account) = self.elsewhere.counts(key);
        let before_last =
            |count: u32, elsewhere: u32| count.saturating_add(elsewhere).saturating_add(more - 1);
        bounds.permit(before_last(self.of_key(key), of_key), before_last(self.total, of_account), attempt)
    }

    fn begin(&mut self, key: Digest) {
        *self.keys.entry(key).or_default() += 1;
        self.total += 1;
    }

    /// Ends a turn, and gives turns to those who wait and may have one now.
    fn end(&mut self, key: Digest, bounds: TurnBounds) {
        if let Some(count) = self.keys.get_mut(&key) {
            *count -= 1;
            self.total -= 1;
            if *count == 0 {
                self.keys.remove(&key);
            }
        }
        self.serve(bounds);
    }

    /// Gives turns to those who wait and may have one now.
    fn serve(&mut self, bounds: TurnBounds) {
        let mut index = 0;
        while let Some((key, _)) = self.waiting.get(index) {
            let key = *key;
            if !self.may_begin(key, bounds, Attempt::First) {
                index += 1;
                continue;
            }
            // A receiver that is gone wants no turn.
            if let Some((_, sender)) = self.waiting.remove(index)
                && sender.send(()).is_ok()
            {
                self.begin(key);
            }
        }
    }

    fn is_idle(&self) -> bool {
        let is_known_elsewhere = !self.elsewhere.is_empty() || !self.told_others.is_empty();
        self.total == 0 && self.waiting.is_empty() && self.told.is_empty() && !is_known_elsewhere
    }

    /// Returns the counts that other gateways don't know, or, if they are told the `whole`, all; these are known then.
    fn untold(&mut self, whole: bool) -> Vec<(Digest, u32)> {
        let over: Vec<Digest> =
            self.told_others.keys().filter(|key| !self.keys.contains_key(*key)).copied().collect();
        let told = &self.told_others;
        let is_untold = |(key, count): &(&Digest, &u32)| whole || told.get(*key) != Some(*count);
        let mut untold: Vec<(Digest, u32)> =
            self.keys.iter().filter(is_untold).map(|(key, count)| (*key, *count)).collect();
        self.told_others.extend(untold.iter().copied());
        for key in over {
            self.told_others.remove(&key);
            untold.push((key, 0));
        }
        untold
    }

    /// Returns the time that a refused client is told: turns come free one after the other, and those who were refused before
    /// it take the first ones.
    fn tell(&mut self, bounds: TurnBounds, now: Instant) -> Duration {
        while self.told.front().is_some_and(|due| *due <= now) {
            self.told.pop_front();
        }
        self.refusals = self.refusals.wrapping_add(1);
        let max = [bounds.key_max, bounds.account_max].into_iter().filter(|max| *max > 0).min().unwrap_or(1);
        let ahead = u32::try_from(self.told.len()).unwrap_or(u32::MAX).saturating_add(1);
        let wait = (self.usual / max).saturating_mul(ahead).clamp(TOLD_MIN, TOLD_MAX);
        // Those who keep asking nevertheless aren't remembered without end.
        if self.told.len() < 4 * usize::try_from(max).unwrap_or(usize::MAX) {
            let at = self.told.partition_point(|due| *due <= now + wait);
            self.told.insert(at, now + wait);
        }
        wait + spread(wait / 5, self.refusals)
    }
}

fn lock(flights: &Flights) -> MutexGuard<'_, HashMap<AccountId, Flight>> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    /// Makes the turns of no request yet.
    pub(super) fn new(bounds: TurnBounds) -> Self {
        Self { bounds, flights: Arc::default() }
    }

    /// Returns the largest number of requests that one key can have in flight, by its bound and its account's; none without bounds.
    pub(super) fn most(&self) -> Option<u32> {
        [self.bounds.key_max, self.bounds.account_max].into_iter().filter(|max| *max > 0).min()
    }

    /// Returns a turn, at once or after a wait.
    ///
    /// # Errors
    /// The time after which the client should try again.
    pub(super) async fn take(&self, caller: &Caller, attempt: Attempt) -> Result<Turn, Duration> {
        let waiter = {
            let mut flights = lock(&self.flights);
            let flight = flights.entry(caller.account.clone()).or_default();
            if flight.may_begin(caller.key, self.bounds, attempt) {
                flight.begin(caller.key);
                return Ok(self.turn(caller));
            }
            let waiting_max = self.bounds.key_max.max(self.bounds.account_max);
            let is_full = flight.waiting.len() >= usize::try_from(waiting_max).unwrap_or(usize::MAX);
            if self.bounds.wait.is_zero() || is_full {
                return Err(flight.tell(self.bounds, Instant::now()));
            }
            let (sender, receiver) = oneshot::channel();
            flight.waiting.push_back((caller.key, sender));
            Waiter { receiver, turns: self, caller, is_served: false }
        };
        waiter.wait().await
    }

    /// Returns `more` turns at once, or none.
    ///
    /// # Errors
    /// The time after which the client should try again.
    pub(super) fn take_more(
        &self,
        caller: &Caller,
        more: u32,
        attempt: Attempt,
    ) -> Result<Vec<Turn>, Duration> {
        if more == 0 {
            return Ok(Vec::new());
        }
        let mut flights = lock(&self.flights);
        let flight = flights.entry(caller.account.clone()).or_default();
        if !flight.may_begin_all(caller.key, self.bounds, (more, attempt)) {
            return Err(flight.tell(self.bounds, Instant::now()));
        }
        (0..more).for_each(|_| flight.begin(caller.key));
        drop(flights);
        Ok((0..more).map(|_| self.turn(caller)).collect())
    }

    fn turn(&self, caller: &Caller) -> Turn {
        Turn {
            account: caller.account.clone(),
            key: caller.key,
            begun: Instant::now(),
            bounds: self.bounds,
            flights: Arc::clone(&self.flights),
        }
    }

    /// Returns how many more requests the key may have in flight, and its bound; none if there is no bound.
    pub(super) fn left(&self, caller: &Caller) -> Option<(u32, u32)> {
        let flights = lock(&self.flights);
        let flight = flights.get(&caller.account);
        let (of_key, of_account) = flight.map_or((0, 0), |flight| {
            let (of_key, of_account) = flight.elsewhere.counts(caller.key);
            (flight.of_key(caller.key).saturating_add(of_key), flight.total.saturating_add(of_account))
        });
        let left = |max: u32, count: u32| (max > 0).then(|| (max.saturating_sub(count), max));
        let both = [left(self.bounds.key_max, of_key), left(self.bounds.account_max, of_account)];
        both.into_iter().flatten().min()
    }

    /// Notes what a key has in flight at another gateway, and gives the turns that came free there. Without bounds here nothing is
    /// noted, whatever others report: nothing would use it, or expire it.
    pub(super) fn hear(
        &self,
        gateway: &GatewayId,
        (key, account): (Digest, &AccountId),
        count: u32,
        now: Instant,
    ) {
        if self.bounds.are_none() {
            return;
        }
        let mut flights = lock(&self.flights);
        if count == 0 && !flights.contains_key(account) {
            return;
        }
        let flight = flights.entry(account.clone()).or_default();
        flight.elsewhere.hear(gateway, key, count, now);
        flight.serve(self.bounds);
    }

    /// Returns what other gateways have to be told: the counts of keys that changed since, or, for the `whole`, of all keys.
    /// Turns are given that a gateway held which is gone.
    pub(super) fn untold(&self, whole: bool, now: Instant) -> Vec<(Digest, AccountId, u32)> {
        if self.bounds.are_none() {
            return Vec::new();
        }
        let mut untold = Vec::new();
        for (account, flight) in lock(&self.flights).iter_mut() {
            flight.elsewhere.expire(now);
            flight.serve(self.bounds);
            untold.extend(flight.untold(whole).into_iter().map(|(key, count)| (key, account.clone(), count)));
        }
        untold
    }

    /// Forgets accounts of which nothing is in flight.
    pub(super) fn clean(&self, now: Instant) {
        let mut flights = lock(&self.flights);
        flights.retain(|_, flight| {
            flight.told.retain(|due| *due > now);
            !flight.is_idle()
        });
        flights.shrink_to_fit();
    }
}

/// A request that waits for its turn. If it goes away, so does its place, or the turn that it was just given.
struct Waiter<'a> {
    receiver: oneshot::Receiver<()>,
    turns: &'a Turns,
    caller: &'a Caller,
    is_served: bool,
}

impl Waiter<'_> {
    async fn wait(mut self) -> Result<Turn, Duration> {
        let wait = self.turns.bounds.wait;
        if let Ok(Ok(())) = tokio::time::timeout(wait, &mut self.receiver).await {
            self.is_served = true;
            return Ok(self.turns.turn(self.caller));
        }
        let mut flights = lock(&self.turns.flights);
        // The turn may have come in this very moment.
        if self.receiver.try_recv().is_ok() {
            self.is_served = true;
            return Ok(self.turns.turn(self.caller));
        }
        let flight = flights.entry(self.caller.account.clone()).or_default();
        Err(flight.tell(self.turns.bounds, Instant::now()))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.is_served {
            return;
        }
        // Turns are given under the lock, so that none is given between these lines.
        let mut flights = lock(&self.turns.flights);
        self.receiver.close();
        let was_given = self.receiver.try_recv().is_ok();
        if let Some(flight) = flights.get_mut(&self.caller.account) {
            flight.waiting.retain(|(_, sender)| !sender.is_closed());
            if was_given {
                flight.end(self.caller.key, self.turns.bounds);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get_mut(&self.account) {
            let lasted = self.begun.elapsed();
            flight.usual = if flight.usual.is_zero() { lasted } else { (flight.usual * 15 + lasted) / 16 };
            flight.end(self.key, self.bounds);
        }
    }
}

#[cfg(test)]
mod tests;
