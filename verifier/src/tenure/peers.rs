//! Knows the live verifiers by the summaries that each broadcasts: how many share the work, and the version that all of them
//! read.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infera_types::ids::VerifierId;
use infera_types::messages::Version;
use tokio::time::Instant;

/// Bounds the verifiers that are remembered. More than any deployment has: it only keeps memory bounded.
const PEERS_MAX: usize = 1_000;

/// Holds when each verifier was last heard, and what it reads.
#[derive(Debug)]
pub(crate) struct Peers {
    own: VerifierId,
    silence_max: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    others: HashMap<VerifierId, Peer>,
    /// When summaries began to come without a longer pause than `silence_max`, and when the last one came.
    listening: Option<Listening>,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    heard: Instant,
    speaks: Version,
}

#[derive(Clone, Copy, Debug)]
struct Listening {
    since: Instant,
    last: Instant,
}

impl Peers {
    /// Begins with this verifier alone. Peers count as alive for `silence_max` after they were heard.
    pub(crate) fn new(own: VerifierId, silence_max: Duration) -> Self {
        Self { own, silence_max, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a verifier's summary came, which announced `speaks`. This verifier's own comes back to it as well, and
    /// shows that it could hear the others.
    pub(crate) fn hear(&self, verifier: VerifierId, speaks: Version, now: Instant) {
        let mut state = self.lock();
        let listening = state.listening.filter(|before| now.duration_since(before.last) <= self.silence_max);
        state.listening = Some(Listening { since: listening.map_or(now, |before| before.since), last: now });
        let others = &mut state.others;
        if verifier != self.own && (others.len() < PEERS_MAX || others.contains_key(&verifier)) {
            others.insert(verifier, Peer { heard: now, speaks });
        }
    }

    /// Returns how many are alive, this one included.
    pub(crate) fn alive(&self, now: Instant) -> u32 {
        let mut state = self.lock();
        state.others.retain(|_, peer| self.is_alive(peer, now));
        u32::try_from(state.others.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Returns the newest version that every live verifier reads, this one included. It is the first until this verifier has
    /// listened for `silence_max`, since an older one may not have been heard yet; and again after a pause in which none of
    /// them could be heard.
    pub(crate) fn speaks(&self, now: Instant) -> Version {
        let state = self.lock();
        let has_listened = state.listening.is_some_and(|listening| {
            now.duration_since(listening.last) <= self.silence_max
                && now.duration_since(listening.since) > self.silence_max
        });
        if !has_listened {
            return Version::First;
        }
        let alive = state.others.values().filter(|peer| self.is_alive(peer, now));
        alive.map(|peer| peer.speaks).min().unwrap_or(Version::NEWEST).min(Version::NEWEST)
    }

    fn is_alive(&self, peer: &Peer, now: Instant) -> bool {
        now.duration_since(peer.heard) <= self.silence_max
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
        peers.hear(own, Version::NEWEST, start);
        assert_eq!(peers.alive(start), 1);
        peers.hear(VerifierId::fresh(), Version::NEWEST, start);
        assert_eq!(peers.alive(start + Duration::from_secs(3)), 2);
        assert_eq!(peers.alive(start + Duration::from_secs(4)), 1);
    }

    /// Summaries come each second: this verifier's own in the seconds of `own`, another's in those of `other`.
    #[test]
    fn the_oldest_live_verifier_decides_the_version() {
        use Version::{First, Second, Third};
        let every = |seconds: std::ops::Range<u64>| seconds.collect::<Vec<_>>();
        for (case, own, other, announced, asked_at, expected) in [
            ("nothing was heard", every(0..0), every(0..0), Third, 9, First),
            ("the first seconds", every(0..4), every(0..0), Third, 3, First),
            ("alone for long enough", every(0..5), every(0..0), Third, 4, Third),
            ("beside a new one", every(0..9), every(0..9), Third, 8, Third),
            ("beside one of before", every(0..9), every(0..9), Second, 8, Second),
            ("beside an old one", every(0..9), every(0..9), First, 8, First),
            ("an old one that has just come", every(0..9), every(8..9), First, 8, First),
            ("an old one within its time", every(0..9), every(0..6), First, 8, First),
            ("an old one that fell silent", every(0..10), every(0..6), First, 9, Third),
            ("deaf now", every(0..9), every(0..9), Third, 12, First),
            ("deaf until just now", [every(0..9), every(20..22)].concat(), every(0..9), First, 21, First),
            (
                "deaf, and long since not",
                [every(0..9), every(20..25)].concat(),
                every(0..9),
                First,
                24,
                Third,
            ),
        ] {
            let (start, id, silence_max) = (Instant::now(), VerifierId::fresh(), Duration::from_secs(3));
            let (peers, peer) = (Peers::new(id.clone(), silence_max), VerifierId::fresh());
            for second in 0..=asked_at {
                let now = start + Duration::from_secs(second);
                if own.contains(&second) {
                    peers.hear(id.clone(), Version::NEWEST, now);
                }
                if other.contains(&second) {
                    peers.hear(peer.clone(), announced, now);
                }
            }
            assert_eq!(peers.speaks(start + Duration::from_secs(asked_at)), expected, "{case}");
        }
    }
}
