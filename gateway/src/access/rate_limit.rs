//! Limits on how much one key may ask: requests per minute (by governor, in memory, per process) and requests at
//! once. Sign-ups and nodes have no key and are counted by address. Limits that concern money belong in the ledger;
//! these keep one client from crowding out the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use hyper::header::{HeaderMap, HeaderValue};
use infera_types::ids::Digest;
use infera_types::shutdown::Shutdown;

use super::client_network::ClientNetwork;
use super::keys::Caller;
use crate::api::error::ApiError;
use crate::api::too_many_requests::Limit;
use crate::config::Config;

type Limiter<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// The largest number of addresses that are remembered. More than this within a minute is an attack, and sign-ups
/// pause.
const ADDRESSES_MAX: usize = 100_000;

/// How often keys and addresses that have their full allowance again are forgotten.
const CLEAN_EVERY: Duration = Duration::from_secs(30);

/// The wait that a client is told when its key has too many requests at once: one of them must end first.
const TURN_WAIT: Duration = Duration::from_secs(1);

/// The counters of all limits.
#[derive(Debug)]
pub(crate) struct Limits {
    rate: Option<Limiter<Digest>>,
    per_minute: u32,
    in_flight_max: u32,
    in_flight: Arc<Mutex<HashMap<Digest, u32>>>,
    signups: Option<Limiter<ClientNetwork>>,
    nodes: Option<Limiter<ClientNetwork>>,
}

/// One request in flight. Dropping it frees its turn.
#[derive(Debug)]
pub(crate) struct Turn {
    key: Digest,
    in_flight: Arc<Mutex<HashMap<Digest, u32>>>,
}

fn limiter<K: Clone + Eq + std::hash::Hash>(per_minute: u32) -> Option<Limiter<K>> {
    let quota = Quota::per_minute(NonZeroU32::new(per_minute)?);
    Some(RateLimiter::keyed(quota).with_middleware())
}

impl Limits {
    /// Makes counters at zero. A setting of 0 means no limit.
    #[must_use]
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            rate: limiter(config.requests_per_minute),
            per_minute: config.requests_per_minute,
            in_flight_max: config.in_flight_max,
            in_flight: Arc::default(),
            signups: limiter(config.signups_per_minute),
            nodes: limiter(config.node_checks_per_minute),
        }
    }

    /// Counts a request and writes into `headers` what is left of its limits.
    ///
    /// # Errors
    /// [`ApiError::Limited`].
    pub(crate) fn admit(&self, caller: &Caller, headers: &mut HeaderMap) -> Result<Turn, ApiError> {
        let mut rate = Ok(None);
        if let Some(limiter) = &self.rate {
            rate = match limiter.check_key(&caller.key) {
                Ok(snapshot) => Ok(Some(snapshot.remaining_burst_capacity())),
                Err(not_until) => Err(not_until.wait_time_from(DefaultClock::default().now())),
            };
        }
        let turn = self.turn(caller.key);
        let remaining = rate.ok().flatten().unwrap_or(0);
        self.tell(remaining, turn.as_ref().map_or(self.in_flight_max, |(_, count)| *count), headers);
        if let Err(wait) = rate {
            return Err(ApiError::Limited(Limit::Rate, wait));
        }
        turn.map(|(turn, _)| turn).ok_or(ApiError::Limited(Limit::InFlight, TURN_WAIT))
    }

    /// Counts a sign-up by its address.
    ///
    /// # Errors
    /// [`ApiError::Limited`].
    pub(crate) fn admit_signup(&self, address: IpAddr) -> Result<(), ApiError> {
        admit_address(self.signups.as_ref(), address).map_err(|wait| ApiError::Limited(Limit::Signups, wait))
    }

    /// Counts a node's registration or check by its address.
    ///
    /// # Errors
    /// [`ApiError::Limited`].
    pub(crate) fn admit_node(&self, address: IpAddr) -> Result<(), ApiError> {
        admit_address(self.nodes.as_ref(), address).map_err(|wait| ApiError::Limited(Limit::Nodes, wait))
    }

    /// Returns a turn and the number of turns that the key now has, this one included. Returns none if no turn is
    /// left.
    fn turn(&self, key: Digest) -> Option<(Turn, u32)> {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let count = in_flight.entry(key).or_default();
        if self.in_flight_max > 0 && *count >= self.in_flight_max {
            return None;
        }
        *count += 1;
        let count = *count;
        Some((Turn { key, in_flight: Arc::clone(&self.in_flight) }, count))
    }

    /// Writes the three families of rate-limit headers that clients read.
    fn tell(&self, remaining: u32, in_flight: u32, headers: &mut HeaderMap) {
        let (mut policies, mut states) = (Vec::new(), Vec::new());
        if self.per_minute > 0 {
            let used = u64::from(self.per_minute.saturating_sub(remaining));
            let reset_ms = used * 60_000 / u64::from(self.per_minute);
            let reset_s = reset_ms.div_ceil(1000);
            policies.push(format!("\"rpm\";q={};w=60", self.per_minute));
            states.push(format!("\"rpm\";r={remaining};t={reset_s}"));
            headers.insert("x-ratelimit-limit-requests", HeaderValue::from(self.per_minute));
            headers.insert("x-ratelimit-remaining-requests", HeaderValue::from(remaining));
            put(headers, "x-ratelimit-reset-requests", &format!("{reset_ms}ms"));
        }
        if self.in_flight_max > 0 {
            let left = self.in_flight_max.saturating_sub(in_flight);
            policies.push(format!("\"inflight\";q={};qu=\"concurrent-requests\"", self.in_flight_max));
            states.push(format!("\"inflight\";r={left}"));
        }
        if !policies.is_empty() {
            put(headers, "ratelimit-policy", &policies.join(", "));
            put(headers, "ratelimit", &states.join(", "));
        }
    }

    /// Forgets keys and addresses that have their full allowance again, until `stop`. One task does this for all
    /// counters.
    pub(crate) async fn clean(&self, stop: &Shutdown) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CLEAN_EVERY) => {}
            }
            if let Some(limiter) = &self.rate {
                limiter.retain_recent();
                limiter.shrink_to_fit();
            }
            for limiter in [&self.signups, &self.nodes].into_iter().flatten() {
                limiter.retain_recent();
                limiter.shrink_to_fit();
            }
        }
    }
}

/// Counts an address. The error is the time to wait.
fn admit_address(limiter: Option<&Limiter<ClientNetwork>>, address: IpAddr) -> Result<(), Duration> {
    let Some(limiter) = limiter else { return Ok(()) };
    if limiter.len() >= ADDRESSES_MAX {
        return Err(CLEAN_EVERY);
    }
    let now = DefaultClock::default().now();
    limiter.check_key(&ClientNetwork::from(address)).map(|_| ()).map_err(|not| not.wait_time_from(now))
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = in_flight.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                in_flight.remove(&self.key);
            }
        }
    }
}

fn put(headers: &mut HeaderMap, name: &'static str, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}
