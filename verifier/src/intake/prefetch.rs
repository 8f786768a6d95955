//! Bounds the notices that the broker delivers before some are acked, so that as many jobs wait here as are this verifier's
//! share.

use std::time::Duration;

use tokio::time::Instant;

/// How long less must have been wanted before less is taken. Room comes and goes with every job, and each change is a
/// subscription begun or ended, which a replicated queue writes down: under load the broker did little else.
const LESS_AFTER: Duration = Duration::from_secs(1);

/// What the broker was last told, and since when less would have sufficed.
#[derive(Debug, Default)]
pub(super) struct Prefetch {
    told: u16,
    less: Option<Less>,
}

/// The most that was wanted since `since`, when it began to be less than what was told.
#[derive(Clone, Copy, Debug)]
struct Less {
    since: Instant,
    most: u16,
}

impl Prefetch {
    /// Returns what to tell the broker now that `wanted` is wanted: more, and nothing at all, at once; less after a while.
    pub(super) fn follow(&mut self, wanted: u16, now: Instant) -> Option<u16> {
        if wanted == self.told {
            self.less = None;
            return None;
        }
        if wanted < self.told && wanted > 0 {
            let less = self.less.get_or_insert(Less { since: now, most: wanted });
            less.most = less.most.max(wanted);
            if now.duration_since(less.since) < LESS_AFTER {
                return None;
            }
            self.told = less.most;
        } else {
            self.told = wanted;
        }
        self.less = None;
        Some(self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More is told at once, and so is nothing; less only when it has been less for a second, and then the most of it.
    #[test]
    fn the_broker_is_told_less_after_a_while() {
        let begin = Instant::now();
        let mut room = Prefetch::default();
        for (at_ms, wanted, told) in [
            (0, 8, Some(8)),
            (5, 8, None),
            (10, 6, None),
            (20, 12, Some(12)),
            (100, 4, None),
            (600, 7, None),
            (1_000, 5, None),
            (1_100, 5, Some(7)),
            (1_200, 5, None),
            (1_300, 7, None),
            (1_400, 5, None),
            (2_300, 5, None),
            (2_350, 0, Some(0)),
            (2_360, 0, None),
            (2_400, 1, Some(1)),
        ] {
            assert_eq!(
                room.follow(wanted, begin + Duration::from_millis(at_ms)),
                told,
                "{at_ms} ms: {wanted}"
            );
        }
    }
}
