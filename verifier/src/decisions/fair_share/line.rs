//! Orders contenders by what each was served per weight.
//!
//! This is the virtual time of fair queueing, in integers: serving moves a contender ahead by its tokens over its weight, and
//! the one that is furthest behind is served next. Two contenders that both wait therefore never differ by more than one
//! serving of either. What a division leaves over is carried to the next, so that no error adds up.

use std::collections::BTreeSet;

/// The units of virtual time that one token takes at weight 1. Weights are below 2^36 and tokens below 2^63, so that
/// everything stays within 2^95 of these, and a token at the greatest weight is rounded to nothing only until it adds up.
const UNITS: i128 = 1 << 32;

/// The most tokens that a correction may move a contender away from the line's present. Corrections come from the jobs that
/// are on their way, rarely more than a thousand of some thousand tokens each. Anything beyond is an error in a record, which
/// must let no contender wait for ever.
const CORRECTED_TOKENS_MAX: i128 = 1 << 24;

/// One level of the schedule.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The place of the contender that was served last, as it was before: the present, which never goes back. None that
    /// waits is behind it but by a correction.
    present: i128,
    waiting: BTreeSet<(i128, u64)>,
}

/// A contender's place in its line, which it keeps while it doesn't wait.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    /// What it was served per weight, in units.
    at: i128,
    /// What the last division by its weight left over.
    rest: i128,
    /// Where it was when it last began to wait. What it is given back was served after that, or is forgotten.
    began: i128,
    waits: bool,
}

impl Place {
    /// Makes the place of a contender that was never served.
    pub(super) const fn new(number: u64) -> Self {
        Self { number, at: 0, rest: 0, began: 0, waits: false }
    }

    pub(super) const fn waits(&self) -> bool {
        self.waits
    }

    fn advance(&mut self, tokens: i128, weight: u64) {
        let weight = i128::from(weight.max(1));
        let units = tokens.saturating_mul(UNITS).saturating_add(self.rest);
        self.at = self.at.saturating_add(units.div_euclid(weight));
        self.rest = units.rem_euclid(weight);
    }
}

impl Line {
    /// Returns the number of the contender whose turn it is.
    pub(super) fn first(&self) -> Option<u64> {
        self.waiting.first().map(|(_, number)| *number)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Lets a contender wait that didn't: from the present on, or from where it is if it was served ahead of that. So the
    /// time in which it asked for nothing gives it no right to more.
    pub(super) fn enter(&mut self, place: &mut Place) {
        if !place.waits {
            place.at = place.at.max(self.present);
            place.began = place.at;
            self.resume(place);
        }
    }

    /// Lets a contender wait as if it had never ceased to.
    pub(super) fn resume(&mut self, place: &mut Place) {
        place.waits = true;
        self.waiting.insert((place.at, place.number));
    }

    /// Takes a contender out of the line.
    pub(super) fn leave(&mut self, place: &mut Place) {
        if place.waits {
            self.waiting.remove(&(place.at, place.number));
            place.waits = false;
        }
    }

    /// Charges a contender that waits with what it is served now.
    pub(super) fn serve(&mut self, place: &mut Place, tokens: u64, weight: u64) {
        self.present = self.present.max(place.at);
        self.shift(place, |place| place.advance(i128::from(tokens), weight));
    }

    /// Adds to what a contender was charged with, or with less than nothing takes it back.
    pub(super) fn correct(&mut self, place: &mut Place, tokens: i128, weight: u64) {
        let reach = CORRECTED_TOKENS_MAX * UNITS / i128::from(weight.max(1));
        let (lowest, highest) = (place.began.max(self.present - reach), self.present + reach);
        self.shift(place, |place| {
            let before = place.at;
            place.advance(tokens, weight);
            // What lies outside already isn't moved in by this.
            place.at = place.at.clamp(lowest.min(before), highest.max(before));
        });
    }

    fn shift(&mut self, place: &mut Place, change: impl FnOnce(&mut Place)) {
        if place.waits {
            self.waiting.remove(&(place.at, place.number));
        }
        change(place);
        if place.waits {
            self.waiting.insert((place.at, place.number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_by_rounding() {
        let (mut line, weight) = (Line::default(), u64::from(u32::MAX) * 16);
        let (mut whole, mut parts) = (Place::new(1), Place::new(2));
        for place in [&mut whole, &mut parts] {
            line.enter(place);
        }
        for _ in 0..3_000_000 {
            line.serve(&mut parts, 1, weight);
        }
        line.serve(&mut whole, 3_000_000, weight);
        assert_eq!((parts.at, parts.rest), (whole.at, whole.rest));
        line.correct(&mut parts, -1_234_567, weight);
        line.correct(&mut parts, 1_234_567, weight);
        assert!((parts.at - whole.at).abs() <= 1, "{parts:?} {whole:?}");
    }

    /// A record that is wrong by any number moves a contender no further than the bound, and a later one moves it back.
    #[test]
    fn a_correction_is_bounded_in_both_directions() {
        let reach = CORRECTED_TOKENS_MAX * UNITS;
        let mut line = Line::default();
        let mut place = Place::new(1);
        line.enter(&mut place);
        line.correct(&mut place, i128::from(i64::MAX) * 2, 1);
        assert_eq!(place.at, reach);
        line.correct(&mut place, i128::from(i64::MIN) * 2, 1);
        assert_eq!(place.at, 0, "not before it began to wait");
        for _ in 0..100 {
            line.serve(&mut place, 1 << 20, 1);
        }
        line.correct(&mut place, i128::from(i64::MIN), 1);
        assert_eq!(place.at, 99 * UNITS * (1 << 20) - reach);
        assert_eq!(line.first(), Some(1));
    }
}
