//! What the keys of an account have in flight at other gateways, by what those report.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use infera_types::ids::{Digest, GatewayId};

/// How long a count is believed. It is told again each second, so that two reports may be lost; the count of a gateway that was
/// killed holds this much longer, and until counts are next expired.
const BELIEVED: Duration = Duration::from_secs(3);

/// The counts of one account. There are no more than requests in flight at all gateways, each of which bounds its own. Sums are
/// kept, because each request that begins or waits asks for them.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    heard: HashMap<(GatewayId, Digest), Heard>,
    sums: Sums,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    count: u32,
    at: Instant,
}

/// What all gateways have in flight together, by key and in all. A key without any has no entry.
#[derive(Debug, Default)]
struct Sums {
    of_keys: HashMap<Digest, u64>,
    all: u64,
}

impl Elsewhere {
    /// Notes what a key has in flight at a gateway.
    pub(super) fn hear(&mut self, gateway: &GatewayId, key: Digest, count: u32, now: Instant) {
        let of = (gateway.clone(), key);
        let before =
            if count == 0 { self.heard.remove(&of) } else { self.heard.insert(of, Heard { count, at: now }) };
        self.sums.add(key, count);
        self.sums.subtract(key, before.map_or(0, |heard| heard.count));
    }

    /// Returns what one key has in flight, and what all of them have.
    #[must_use]
    pub(super) fn counts(&self, key: Digest) -> (u32, u32) {
        let clipped = |sum: u64| u32::try_from(sum).unwrap_or(u32::MAX);
        (clipped(self.sums.of_keys.get(&key).copied().unwrap_or(0)), clipped(self.sums.all))
    }

    /// Forgets counts that aren't believed any more.
    pub(super) fn expire(&mut self, now: Instant) {
        let Self { heard, sums } = self;
        heard.retain(|(_, key), heard| {
            let is_believed = heard.is_believed(now);
            if !is_believed {
                sums.subtract(*key, heard.count);
            }
            is_believed
        });
    }

    /// Returns whether nothing is known to be in flight elsewhere.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.heard.is_empty()
    }
}

impl Sums {
    fn add(&mut self, key: Digest, count: u32) {
        if count > 0 {
            *self.of_keys.entry(key).or_default() += u64::from(count);
            self.all += u64::from(count);
        }
    }

    fn subtract(&mut self, key: Digest, count: u32) {
        self.all = self.all.saturating_sub(count.into());
        if let Some(sum) = self.of_keys.get_mut(&key) {
            *sum = sum.saturating_sub(count.into());
            if *sum == 0 {
                self.of_keys.remove(&key);
            }
        }
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
        assert_eq!(elsewhere.counts(key), (7, 12));
        elsewhere.hear(&one, key, 1, now);
        assert_eq!(elsewhere.counts(key), (5, 10), "a count takes the place of the one before it");
        elsewhere.hear(&one, key, 0, now);
        let later = now + BELIEVED + Duration::from_millis(1);
        assert_eq!(elsewhere.counts(key), (4, 9));
        elsewhere.expire(later);
        assert_eq!((elsewhere.counts(key), elsewhere.counts(second)), ((0, 5), (5, 5)));
        assert!(!elsewhere.is_empty());
        elsewhere.expire(later + BELIEVED);
        assert!(elsewhere.is_empty() && elsewhere.sums.of_keys.is_empty());
        assert_eq!(elsewhere.counts(second), (0, 0));
    }
}
