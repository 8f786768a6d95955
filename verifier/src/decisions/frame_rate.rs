//! Decides which of a node's frames are read: those within the rate that a node may have.

/// How many frames a node may send in a second: one each 30 ms to one verifier, and half as many again for clocks and queues
/// that bring them together.
pub const FRAMES_PER_S_MAX: u32 = 50;

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
}

/// What a node sent in the present second.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameRate {
    second: u64,
    frames: u32,
}

impl FrameRate {
    /// Counts one more frame at `now_ms`, by whatever clock, which doesn't go back.
    pub fn count(&mut self, now_ms: u64) -> Pace {
        let second = now_ms / 1_000;
        if second != self.second {
            *self = Self { second, frames: 0 };
        }
        self.frames = self.frames.saturating_add(1);
        if self.frames <= FRAMES_PER_S_MAX {
            Pace::Fine
        } else {
            Pace::TooFast { is_first: self.frames == FRAMES_PER_S_MAX + 1 }
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
}
