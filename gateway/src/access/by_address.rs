//! How often one address may do what needs no key: sign up, and register and check nodes. An address that is refused is told
//! a time at which its turn comes, as keys are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::allowance::{Allowance, Attempt, Rate};
use super::client_network::ClientNetwork;
use super::limit_headers::Left;
use crate::api::waits::{next_number, spread};

/// The largest number of addresses that are remembered, some 150 bytes each. More than this within a minute is an attack, and
/// addresses that aren't known are refused meanwhile.
const ADDRESSES_MAX: usize = 100_000;

/// What all addresses may still do of one thing.
#[derive(Debug)]
pub(super) struct ByAddress {
    /// The limit of one address; none if there is none.
    rate: Option<Rate>,
    allowances: Mutex<HashMap<ClientNetwork, Allowance>>,
}

impl ByAddress {
    /// Makes the allowances of addresses that may do something `limit` times in a window; 0 means no limit.
    pub(super) fn new(limit: u32, window: Duration) -> Self {
        Self { rate: Rate::new(limit.into(), window), allowances: Mutex::default() }
    }

    /// Counts something that an address does. A refusal isn't counted.
    ///
    /// # Errors
    /// The time after which the client should try again.
    pub(super) fn spend(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        let (mut allowances, network) = (self.lock(), ClientNetwork::from(address));
        let count = allowances.len();
        if count >= ADDRESSES_MAX && !allowances.contains_key(&network) {
            // Half a window, and up to as much again: addresses are forgotten as their allowances fill up.
            return Err(rate.window / 2 + spread(rate.window / 2, next_number()));
        }
        let allowance = allowances.entry(network).or_insert_with(|| Allowance::new(rate, now));
        if allowance.may_spend(1, Attempt::Unknown, now) {
            allowance.spend(1, Attempt::Unknown, now);
            return Ok(());
        }
        let due = allowance.due(1, now);
        if let Some(due) = due {
            allowance.promise(1, due);
        }
        Err(allowance.told(due, now))
    }

    /// Returns what an address has left; none if there is no limit.
    pub(super) fn left(&self, address: IpAddr, now: Instant) -> Option<Left> {
        let limit = self.rate?.limit;
        let allowances = self.lock();
        Some(allowances.get(&ClientNetwork::from(address)).map_or(
            Left { limit, left: limit, reset: Duration::ZERO },
            |allowance| Left { limit, left: allowance.left(now), reset: allowance.reset(now) },
        ))
    }

    /// Forgets addresses that have their full allowance again.
    pub(super) fn clean(&self, now: Instant) {
        let mut allowances = self.lock();
        allowances.retain(|_, allowance| !allowance.is_idle(now));
        allowances.shrink_to_fit();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientNetwork, Allowance>> {
        self.allowances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    /// Each of those who were refused together is told a time of its own, and is served if it comes then.
    #[test]
    fn an_address_that_comes_when_it_was_told_to_is_served() {
        let (signups, now) = (ByAddress::new(5, MINUTE), Instant::now());
        for _ in 0..5 {
            assert_eq!(signups.spend(address(1), now), Ok(()));
        }
        let mut told: Vec<Duration> = (0..5).filter_map(|_| signups.spend(address(1), now).err()).collect();
        assert_eq!(signups.spend(address(2), now), Ok(()), "another address");
        told.sort_unstable();
        assert_eq!(told.len(), 5);
        for (wait, due_s) in told.iter().zip([12, 24, 36, 48, 60]) {
            let due = Duration::from_secs(due_s);
            assert!((due..=due + Duration::from_secs(1)).contains(wait), "{told:?}");
            assert_eq!(signups.spend(address(1), now + *wait), Ok(()), "{wait:?} of {told:?}");
        }
        assert!(signups.spend(address(1), now + told[4]).is_err(), "nothing is left over");
    }

    #[test]
    fn what_is_left_is_told_and_idle_addresses_are_forgotten() {
        let (checks, now) = (ByAddress::new(2, MINUTE), Instant::now());
        let left = |now| checks.left(address(1), now).map(|left| (left.limit, left.left, left.reset));
        assert_eq!(left(now), Some((2, 2, Duration::ZERO)));
        assert_eq!(checks.spend(address(1), now), Ok(()));
        assert_eq!(left(now), Some((2, 1, MINUTE / 2)));
        checks.clean(now);
        assert_eq!(checks.lock().len(), 1);
        checks.clean(now + MINUTE);
        assert_eq!(checks.lock().len(), 0);
        let unlimited = ByAddress::new(0, MINUTE);
        assert_eq!((unlimited.spend(address(1), now), unlimited.left(address(1), now)), (Ok(()), None));
    }
}
