//! How many requests of one key, and of one account, are in flight at once. A request beyond the bound waits for a moment,
//! in a bounded line, before it is refused: most requests end soon, and a client that sends as many as it may at once is
//! never refused for the moment in which one reply crosses its next request.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use infera_types::ids::{AccountId, Digest};
use tokio::sync::oneshot;

use super::allowance::{Attempt, spread};
use super::keys::Caller;

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
        let mut index = 0;
        while let Some((key, _)) = self.waiting.get(index) {
            let key = *key;
            if !bounds.permit(self.of_key(key), self.total, Attempt::First) {
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
        self.total == 0 && self.waiting.is_empty() && self.told.is_empty()
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

    /// Returns a turn, at once or after a wait.
    ///
    /// # Errors
    /// The time after which the client should try again.
    pub(super) async fn take(&self, caller: &Caller, attempt: Attempt) -> Result<Turn, Duration> {
        let waiter = {
            let mut flights = lock(&self.flights);
            let flight = flights.entry(caller.account.clone()).or_default();
            if self.bounds.permit(flight.of_key(caller.key), flight.total, attempt) {
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
        let of_key = flight.map_or(0, |flight| flight.of_key(caller.key));
        let of_account = flight.map_or(0, |flight| flight.total);
        let left = |max: u32, count: u32| (max > 0).then(|| (max.saturating_sub(count), max));
        let both = [left(self.bounds.key_max, of_key), left(self.bounds.account_max, of_account)];
        both.into_iter().flatten().min()
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
mod tests {
    use infera_ledger::Scopes;
    use infera_types::ids::KeyId;

    use super::*;

    fn caller(account: &AccountId, key: u8) -> Caller {
        Caller {
            key: Digest::of(&[key]),
            account: account.clone(),
            id: KeyId::fresh(),
            scopes: Scopes::default(),
            expires_ms: None,
            is_proven: false,
            weight: 1,
            may_prioritise: false,
        }
    }

    fn turns(key_max: u32, account_max: u32, wait_ms: u64) -> Turns {
        Turns::new(TurnBounds { key_max, account_max, wait: Duration::from_millis(wait_ms) })
    }

    #[tokio::test]
    async fn the_accounts_bound_is_that_of_all_its_keys() {
        let turns = turns(2, 3, 0);
        let account = AccountId::fresh();
        let (one, other) = (caller(&account, 1), caller(&account, 2));
        let stranger = caller(&AccountId::fresh(), 3);
        let first = turns.take(&one, Attempt::First).await.unwrap();
        let _second = turns.take(&one, Attempt::First).await.unwrap();
        assert_eq!(turns.left(&one), Some((0, 2)));
        assert!(turns.take(&one, Attempt::First).await.is_err(), "the key's bound");
        assert_eq!(turns.left(&other), Some((1, 3)));
        let _third = turns.take(&other, Attempt::First).await.unwrap();
        assert!(turns.take(&other, Attempt::First).await.is_err(), "the account's bound");
        assert!(turns.take(&stranger, Attempt::First).await.is_ok());
        let _overdraft = turns.take(&one, Attempt::Again).await.unwrap();
        assert!(turns.take(&one, Attempt::Again).await.is_err(), "one part in ten");
        drop(first);
        assert!(turns.take(&other, Attempt::First).await.is_err(), "the overdraft counts");
    }

    #[tokio::test]
    async fn a_request_waits_for_its_turn_and_those_who_leave_lose_none() {
        let turns = Arc::new(turns(1, 0, 10_000));
        let one = Arc::new(caller(&AccountId::fresh(), 1));
        let first = turns.take(&one, Attempt::First).await.unwrap();
        let wait = || {
            let (turns, one) = (Arc::clone(&turns), Arc::clone(&one));
            tokio::spawn(async move { turns.take(&one, Attempt::First).await })
        };
        let gone = wait();
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.is_err());
        let (second, full) = (wait(), wait());
        assert!(full.await.unwrap().is_err(), "as many wait as may be in flight");
        drop(first);
        let second = second.await.unwrap().unwrap();
        assert_eq!(turns.left(&one), Some((0, 1)));
        drop(second);
        assert_eq!(turns.left(&one), Some((1, 1)));
        turns.clean(Instant::now() + TOLD_MAX * 2);
        assert!(lock(&turns.flights).is_empty());
    }

    #[tokio::test]
    async fn no_turn_is_lost_among_many_who_come_and_go() {
        let turns = Arc::new(turns(4, 0, 20));
        let one = Arc::new(caller(&AccountId::fresh(), 1));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..200_u64 {
            let (turns, one) = (Arc::clone(&turns), Arc::clone(&one));
            tasks.spawn(async move {
                let patience = Duration::from_millis(number % 7);
                if let Ok(Ok(turn)) = tokio::time::timeout(patience, turns.take(&one, Attempt::First)).await {
                    assert!(turns.left(&one).is_some_and(|(left, _)| left < 4));
                    tokio::time::sleep(Duration::from_millis(number % 3)).await;
                    drop(turn);
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        assert_eq!(turns.left(&one), Some((4, 4)));
    }

    #[test]
    fn refused_clients_are_told_different_times_in_the_order_of_the_turns() {
        let bounds = TurnBounds { key_max: 4, account_max: 0, wait: Duration::ZERO };
        let mut flight = Flight { usual: Duration::from_secs(8), ..Flight::default() };
        let now = Instant::now();
        let told: Vec<Duration> = (0..6).map(|_| flight.tell(bounds, now)).collect();
        for (number, told) in (1_u32..).zip(&told) {
            let due = Duration::from_secs(2) * number;
            assert!((due..=due * 6 / 5).contains(told), "{number}: {told:?}");
        }
        assert!(
            flight.tell(bounds, now + Duration::from_secs(60)) < Duration::from_secs(3),
            "they have come again"
        );
    }
}
