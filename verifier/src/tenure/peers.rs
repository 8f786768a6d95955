//! How many verifiers are alive, by the summaries that each broadcasts. The share of work is divided by it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use infera_types::ids::VerifierId;
use tokio::time::Instant;

/// Bounds the verifiers that are remembered. More than any deployment has: it only keeps memory bounded.
const PEERS_MAX: usize = 1_000;

/// Holds when each verifier was last heard.
#[derive(Debug)]
pub(crate) struct Peers {
    own: VerifierId,
    silence_max: Duration,
    heard: Mutex<HashMap<VerifierId, Instant>>,
}

impl Peers {
    /// Begins with this verifier alone. Peers count as alive for `silence_max` after they were heard.
    pub(crate) fn new(own: VerifierId, silence_max: Duration) -> Self {
        Self { own, silence_max, heard: Mutex::default() }
    }

    /// Records that a verifier's summary came.
    pub(crate) fn hear(&self, verifier: VerifierId, now: Instant) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if verifier != self.own && (heard.len() < PEERS_MAX || heard.contains_key(&verifier)) {
            heard.insert(verifier, now);
        }
    }

    /// Returns how many are alive, this one included.
    pub(crate) fn alive(&self, now: Instant) -> u32 {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|_, at| now.duration_since(*at) <= self.silence_max);
        u32::try_from(heard.len()).unwrap_or(u32::MAX).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
