//! How often one address may do what needs no key: sign up, and register and check nodes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use super::client_network::ClientNetwork;
use super::limit_headers::Left;
use crate::api::waits::{next_number, spread};

type Limiter = RateLimiter<
    ClientNetwork,
    DefaultKeyedStateStore<ClientNetwork>,
    DefaultClock,
    StateInformationMiddleware,
>;

/// The largest number of addresses that are remembered, some 150 bytes each. More than this within a minute is an attack, and
/// addresses that aren't known are refused meanwhile.
const ADDRESSES_MAX: usize = 100_000;

/// What all addresses may still do of one thing; no limit if there is no counter.
#[derive(Debug)]
pub(super) struct ByAddress(Option<Counter>);

#[derive(Debug)]
struct Counter {
    limit: u32,
    /// The time in which one more becomes free.
    period: Duration,
    limiter: Limiter,
    /// When an address has its full allowance again, which governor doesn't tell.
    full: Mutex<HashMap<ClientNetwork, Instant>>,
}

impl ByAddress {
    /// Makes the allowances of addresses that may do something `limit` times in a window; 0 means no limit.
    pub(super) fn new(limit: u32, window: Duration) -> Self {
        Self(NonZeroU32::new(limit).and_then(|burst| {
            let period = window / limit;
            let quota = Quota::with_period(period)?.allow_burst(burst);
            let limiter = RateLimiter::keyed(quota).with_middleware();
            Some(Counter { limit, period, limiter, full: Mutex::default() })
        }))
    }

    /// Counts something that an address does. A refusal isn't counted.
    ///
    /// # Errors
    /// The time after which the client should try again. Those that were refused together are told different times.
    pub(super) fn spend(&self, address: IpAddr) -> Result<(), Duration> {
        self.0.as_ref().map_or(Ok(()), |counter| counter.spend(address.into()))
    }

    /// Returns what an address has left; none if there is no limit.
    pub(super) fn left(&self, address: IpAddr) -> Option<Left> {
        self.0.as_ref().map(|counter| counter.left(address.into()))
    }

    /// Forgets addresses that have their full allowance again.
    pub(super) fn clean(&self) {
        if let Some(counter) = &self.0 {
            counter.clean();
        }
    }
}

impl Counter {
    fn spend(&self, network: ClientNetwork) -> Result<(), Duration> {
        let (mut full, number) = (self.full(), next_number());
        if full.len() >= ADDRESSES_MAX && !full.contains_key(&network) {
            // Half a window, and up to as much again: addresses are forgotten as their allowances fill up.
            let half = self.period * self.limit / 2;
            return Err(half + spread(half, number));
        }
        match self.limiter.check_key(&network) {
            Ok(state) => {
                let spent = self.limit.saturating_sub(state.remaining_burst_capacity());
                full.insert(network, Instant::now() + self.period * spent);
                Ok(())
            }
            Err(refusal) => {
                Err(refusal.wait_time_from(self.limiter.clock().now()) + spread(self.period, number))
            }
        }
    }

    fn left(&self, network: ClientNetwork) -> Left {
        let full = self.full().get(&network).copied();
        let reset = full.map_or(Duration::ZERO, |full| full.saturating_duration_since(Instant::now()));
        let spent = u64::try_from(reset.as_nanos().div_ceil(self.period.as_nanos())).unwrap_or(u64::MAX);
        let limit = u64::from(self.limit);
        Left { limit, left: limit.saturating_sub(spent), reset }
    }

    fn clean(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
        let (mut full, now) = (self.full(), Instant::now());
        full.retain(|_, full| *full > now);
        full.shrink_to_fit();
    }

    fn full(&self) -> MutexGuard<'_, HashMap<ClientNetwork, Instant>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn address(number: u32) -> IpAddr {
        IpAddr::V4((number << 8).into())
    }

    /// Those that were refused together are told times of their own, none before one more is free.
    #[test]
    fn addresses_are_counted_apart_and_refused_with_different_waits() {
        let signups = ByAddress::new(5, MINUTE);
        for _ in 0..5 {
            assert_eq!(signups.spend(address(1)), Ok(()));
        }
        let mut told: Vec<Duration> = (0..5).filter_map(|_| signups.spend(address(1)).err()).collect();
        assert_eq!(signups.spend(address(2)), Ok(()), "another address");
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), 5);
        let due = Duration::from_secs(11)..=Duration::from_secs(24);
        assert!(told.iter().all(|wait| due.contains(wait)), "{told:?}");
    }

    #[test]
    fn what_is_left_is_told_and_idle_addresses_are_forgotten() {
        let checks = ByAddress::new(2, MINUTE);
        let left =
            || checks.left(address(1)).map(|left| (left.limit, left.left, left.reset.as_secs_f64().round()));
        assert_eq!(left(), Some((2, 2, 0.0)));
        assert_eq!(checks.spend(address(1)), Ok(()));
        assert_eq!(left(), Some((2, 1, 30.0)));
        checks.clean();
        assert_eq!(left(), Some((2, 1, 30.0)), "it isn't idle yet");
        let brief = ByAddress::new(2, Duration::from_millis(2));
        assert_eq!(brief.spend(address(1)), Ok(()));
        std::thread::sleep(Duration::from_millis(20));
        brief.clean();
        let counter = brief.0.as_ref().expect("a limit");
        assert_eq!((counter.full().len(), counter.limiter.len()), (0, 0));
        let unlimited = ByAddress::new(0, MINUTE);
        assert_eq!((unlimited.spend(address(1)), unlimited.left(address(1)).is_none()), (Ok(()), true));
    }
}
