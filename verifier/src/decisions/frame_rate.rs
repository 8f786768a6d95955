//! Decides which of a node's frames are read: those within the rate that a node may have. A node that goes on above it is cut off.

use std::time::Duration;

/// How many frames a node may send in a second: one each 30 ms to one verifier, and half as many again for clocks and queues
/// that bring them together.
pub const FRAMES_PER_S_MAX: u32 = 50;

/// How many frames more than that a node may send in all before it is cut off, where each second with fewer makes up for some: a
/// minute's worth. Honest nodes stay below, since they send at most 47 a second: what comes of them at once was sent while this
/// verifier stood still, and one that stands still for a minute has lost its lease, and its queue with it. A node that sends a hundred a
/// second is cut off after a minute, one that sends a thousand after three seconds.
pub const EXCESS_MAX: u32 = 60 * FRAMES_PER_S_MAX;

/// How long a node is cut off: as long as ten of the floods that got it there.
pub const CUT_OFF: Duration = Duration::from_secs(600);

/// How fast a node frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As it may.
    Fine,
    /// Too fast: the frame is not read.
    TooFast {
        /// Whether it is the first such frame of its second.
        is_first: bool,
    },
    /// Too fast for too long: the node is to be cut off.
    Flooding,
}

/// What a node sent in the present second, and how much more than it may before.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameRate {
    second: u64,
    frames: u32,
    /// The frames above the rate before the present second, less those that later seconds stayed below it.
    excess: u32,
}

impl FrameRate {
    /// Returns whether the node sends in the present second, or has sent more than it may and not made up for it.
    #[must_use]
    pub const fn is_in_excess(&self, now_ms: u64) -> bool {
        self.excess > 0 || self.second == now_ms / 1_000
    }

    /// Counts one more frame at `now_ms`, by whatever clock, which doesn't go back.
    pub fn count(&mut self, now_ms: u64) -> Pace {
        let second = now_ms / 1_000;
        if second != self.second {
            let passed = u32::try_from(second.saturating_sub(self.second)).unwrap_or(u32::MAX);
            let allowed = passed.saturating_mul(FRAMES_PER_S_MAX);
            // Bounded, so that the worst flood is made up for in a minute.
            let excess = self.excess.saturating_add(self.frames).saturating_sub(allowed).min(EXCESS_MAX);
            *self = Self { second, frames: 0, excess };
        }
        self.frames = self.frames.saturating_add(1);
        let above = self.frames.saturating_sub(FRAMES_PER_S_MAX);
        if above == 0 {
            Pace::Fine
        } else if self.excess.saturating_add(above) > EXCESS_MAX {
            Pace::Flooding
        } else {
            Pace::TooFast { is_first: above == 1 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_in_a_second_is_not_read() {
        let mut rate = FrameRate::default();
        for frame in 0..FRAMES_PER_S_MAX {
            assert_eq!(rate.count(1_000 + u64::from(frame)), Pace::Fine);
        }
        assert_eq!(rate.count(1_998), Pace::TooFast { is_first: true });
        assert_eq!(rate.count(1_999), Pace::TooFast { is_first: false });
        assert_eq!(rate.count(2_000), Pace::Fine);
    }

    /// Sends `frames` frames in each of these seconds; returns in which the node was cut off, if it was.
    fn cut_off_in(rate: &mut FrameRate, seconds: impl Iterator<Item = u64>, frames: u32) -> Option<u64> {
        let floods = |second: &u64| (0..frames).any(|_| rate.count(second * 1_000) == Pace::Flooding);
        let mut seconds = seconds;
        seconds.find(floods)
    }

    #[test]
    fn who_goes_on_too_fast_is_cut_off() {
        for (frames_per_s, expected) in [
            (FRAMES_PER_S_MAX, None),
            (FRAMES_PER_S_MAX + 1, Some(3_000)),
            (2 * FRAMES_PER_S_MAX, Some(60)),
            (1_000, Some(3)),
            (EXCESS_MAX + FRAMES_PER_S_MAX + 1, Some(0)),
        ] {
            let found = cut_off_in(&mut FrameRate::default(), 0..4_000, frames_per_s);
            assert_eq!(found, expected, "{frames_per_s} a second");
        }
    }

    #[test]
    fn a_burst_cuts_nobody_off_and_is_made_up_for() {
        // A minute of an honest node's frames at once, once in two minutes.
        let mut rate = FrameRate::default();
        for minute in 0..60 {
            let at = minute * 120;
            assert_eq!(cut_off_in(&mut rate, at..=at, 60 * 47), None, "{minute}");
            assert_eq!(cut_off_in(&mut rate, at + 60..at + 120, 47), None, "{minute}");
        }
        // Without the quiet minute the same is a flood.
        assert_eq!(cut_off_in(&mut rate, 10_000..=10_000, 60 * 47), None);
        assert_eq!(cut_off_in(&mut rate, 10_010..=10_010, 60 * 47), Some(10_010));
    }

    #[test]
    fn who_was_cut_off_and_goes_on_is_cut_off_again_and_who_stops_is_not() {
        let mut rate = FrameRate::default();
        assert_eq!(cut_off_in(&mut rate, 0..10, 100_000), Some(0));
        assert_eq!(cut_off_in(&mut rate, 1..=1, FRAMES_PER_S_MAX + 60), Some(1));
        assert_eq!(cut_off_in(&mut rate, 62..80, FRAMES_PER_S_MAX), None);
    }
}
