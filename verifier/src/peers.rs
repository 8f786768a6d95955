//! How many verifiers are alive, by the summaries that each broadcasts; what the share of work is divided by.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use infera_types::ids::VerifierId;
use tokio::time::Instant;

/// More than any deployment has; a bound on memory, not a limit to plan for.
const PEERS_MAX: usize = 1_000;

/// Holds when each verifier was last heard.
#[derive(Debug)]
pub(crate) struct Peers {
    own: VerifierId,
    silence_max: Duration,
    heard: Mutex<HashMap<VerifierId, Instant>>,
}

impl Peers {
    /// Peers that count as alive for `silence_max` after they were heard. `own` always counts.
    pub(crate) fn new(own: VerifierId, silence_max: Duration) -> Self {
        Self { own, silence_max, heard: Mutex::default() }
    }

    /// A summary came.
    pub(crate) fn hear(&self, verifier: VerifierId, now: Instant) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if verifier != self.own && (heard.len() < PEERS_MAX || heard.contains_key(&verifier)) {
            heard.insert(verifier, now);
        }
    }

    /// How many live, this one included.
    pub(crate) fn alive(&self, now: Instant) -> u32 {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|_, at| now.duration_since(*at) <= self.silence_max);
        u32::try_from(heard.len()).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// How many jobs may wait here for room: free slots over live verifiers, rounded up, at least one while there is
/// room at all (rule 4).
pub(crate) fn share(free_slots: u32, verifiers: u32) -> u32 {
    if free_slots == 0 { 0 } else { free_slots.div_ceil(verifiers.max(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (free, verifiers, expected) in [(0, 1, 0), (0, 5, 0), (1, 5, 1), (10, 3, 4), (9, 3, 3), (7, 0, 7)]
        {
            assert_eq!(share(free, verifiers), expected, "{free} over {verifiers}");
        }
    }

    #[test]
    fn the_silent_are_dead() {
        let start = Instant::now();
        let own = VerifierId::fresh();
        let peers = Peers::new(own.clone(), Duration::from_secs(3));
        assert_eq!(peers.alive(start), 1);
        peers.hear(own, start);
        assert_eq!(peers.alive(start), 1);
        peers.hear(VerifierId::fresh(), start);
        assert_eq!(peers.alive(start + Duration::from_secs(3)), 2);
        assert_eq!(peers.alive(start + Duration::from_secs(4)), 1);
    }
}
