//! What the keys of an account have in flight at other gateways, by what those report.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use infera_types::ids::{Digest, GatewayId};

/// How long a count is believed. It is told again each second, so that two reports may be lost; the count of a gateway that was
/// killed holds this much longer.
const BELIEVED: Duration = Duration::from_secs(3);

/// The counts of one account. There are no more than requests in flight at all gateways, each of which bounds its own.
#[derive(Debug, Default)]
pub(super) struct Elsewhere(HashMap<(GatewayId, Digest), Heard>);

#[derive(Clone, Copy, Debug)]
struct Heard {
    count: u32,
    at: Instant,
}

impl Elsewhere {
    /// Notes what a key has in flight at a gateway.
    pub(super) fn hear(&mut self, gateway: &GatewayId, key: Digest, count: u32, now: Instant) {
        let of = (gateway.clone(), key);
        if count == 0 {
            self.0.remove(&of);
        } else {
            self.0.insert(of, Heard { count, at: now });
        }
    }

    /// Returns what one key has in flight, and what all of them have.
    #[must_use]
    pub(super) fn counts(&self, key: Digest, now: Instant) -> (u32, u32) {
        let believed = self.0.iter().filter(|(_, heard)| heard.is_believed(now));
        believed.fold((0, 0), |(of_key, all), ((_, of), heard)| {
            let own = if *of == key { heard.count } else { 0 };
            (of_key.saturating_add(own), all.saturating_add(heard.count))
        })
    }

    /// Forgets counts that aren't believed any more.
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|_, heard| heard.is_believed(now));
    }

    /// Returns whether nothing is known to be in flight elsewhere.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Heard {
    fn is_believed(self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) <= BELIEVED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_gateways_until_they_are_not_told_again() {
        let (mut elsewhere, now) = (Elsewhere::default(), Instant::now());
        let (one, other) = (GatewayId::fresh(), GatewayId::fresh());
        let (key, second) = (Digest::of(b"1"), Digest::of(b"2"));
        elsewhere.hear(&one, key, 3, now);
        elsewhere.hear(&other, key, 4, now);
        elsewhere.hear(&other, second, 5, now + BELIEVED);
        assert_eq!(elsewhere.counts(key, now), (7, 12));
        elsewhere.hear(&one, key, 1, now);
        assert_eq!(elsewhere.counts(key, now), (5, 10), "a count takes the place of the one before it");
        elsewhere.hear(&one, key, 0, now);
        let later = now + BELIEVED + Duration::from_millis(1);
        assert_eq!((elsewhere.counts(key, now), elsewhere.counts(key, later)), ((4, 9), (0, 5)));
        elsewhere.expire(later);
        assert!(!elsewhere.is_empty());
        elsewhere.expire(later + BELIEVED);
        assert!(elsewhere.is_empty());
    }
}
