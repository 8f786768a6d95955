//! Which confirmed publishes matched no queue. Pure: what the broker said goes in, how publishes ended comes out.
//!
//! The broker returns an unroutable message before it confirms it, but says of the return only what was published, and
//! confirms many at once. The client library hands a return to whichever confirmation comes next, which may be that of
//! another message. So returns are matched here, by where the message went and its id, and a confirmation counts only
//! when no return can be on its way to someone else.

use std::collections::HashSet;

use super::terms::Route;

/// Publishes whose confirmation came and whose end isn't said yet.
pub(super) struct Returns<Reply> {
    came_back: HashSet<Route>,
    undecided: Vec<(Route, Reply)>,
    /// A return came with another message's confirmation.
    crossed: bool,
}

impl<Reply> Default for Returns<Reply> {
    fn default() -> Self {
        Self { came_back: HashSet::new(), undecided: Vec::new(), crossed: false }
    }
}

impl<Reply> Returns<Reply> {
    /// The broker confirmed `route`, and the library gave it this return.
    pub(super) fn confirmed(&mut self, route: Route, returned: Option<Route>, reply: Reply) {
        if let Some(returned) = returned {
            self.crossed |= returned != route;
            self.came_back.insert(returned);
        }
        self.undecided.push((route, reply));
    }

    /// Whether nothing more may be sent until everything in flight has its confirmation: only then has every return
    /// been seen.
    pub(super) const fn must_settle(&self) -> bool {
        self.crossed
    }

    /// Those whose end is known now, and whether they were kept. To be asked when every confirmation that is in was
    /// told.
    pub(super) fn decided(&mut self, nothing_in_flight: bool) -> Vec<(Reply, bool)> {
        if self.crossed && !nothing_in_flight {
            return Vec::new();
        }
        self.crossed = false;
        let came_back = std::mem::take(&mut self.came_back);
        self.undecided.drain(..).map(|(route, reply)| (reply, !came_back.contains(&route))).collect()
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::ShortString;
    use proptest::prelude::*;

    use super::*;

    fn route(number: usize) -> Route {
        Route {
            exchange: "".into(),
            key: "q".into(),
            id: Some(ShortString::try_new(number.to_string()).unwrap()),
        }
    }

    #[test]
    fn a_return_with_its_own_confirmation_decides_at_once() {
        let mut returns = Returns::default();
        returns.confirmed(route(1), None, 1);
        returns.confirmed(route(2), Some(route(2)), 2);
        assert!(!returns.must_settle());
        assert_eq!(returns.decided(false), [(1, true), (2, false)]);
        assert_eq!(returns.decided(false), []);
    }

    #[test]
    fn a_crossed_return_waits_for_all_that_is_in_flight() {
        let mut returns = Returns::default();
        returns.confirmed(route(1), Some(route(2)), 1);
        assert!(returns.must_settle());
        assert_eq!(returns.decided(false), []);
        returns.confirmed(route(2), None, 2);
        assert_eq!(returns.decided(true), [(1, true), (2, false)]);
        assert!(!returns.must_settle());
    }

    proptest! {
        /// However the library hands out the returns of a window, each message ends as it did.
        #[test]
        fn ends_are_right_however_returns_are_handed_out(
            lost in prop::collection::vec(any::<bool>(), 1..20),
            order in any::<prop::sample::Index>(),
        ) {
            let count = lost.len();
            let mut waiting: Vec<usize> = (0..count).filter(|number| lost[*number]).collect();
            let mut returns = Returns::default();
            let mut ends = vec![None; count];
            let shift = order.index(count);
            for place in 0..count {
                let number = (place + shift) % count;
                let returned = if waiting.is_empty() { None } else { Some(route(waiting.remove(0))) };
                returns.confirmed(route(number), returned, number);
                // All confirmations of the window came at once, so nothing is asked in between unless it is settled.
                if place + 1 == count {
                    for (number, kept) in returns.decided(true) {
                        ends[number] = Some(kept);
                    }
                }
            }
            let expected: Vec<Option<bool>> = lost.iter().map(|lost| Some(!lost)).collect();
            prop_assert_eq!(ends, expected);
        }
    }
}
