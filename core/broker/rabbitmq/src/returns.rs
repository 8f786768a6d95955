//! Decides which confirmed publishes matched no queue. Pure: the broker's reports go in, the outcomes of publishes
//! come out.
//!
//! The broker returns an unroutable message before it confirms it, but the return only repeats what was published,
//! and one confirmation may cover many messages. The client library keeps returns in the order in which they came and
//! attaches each to the next confirmation, which may be that of another message. So returns are matched here, by
//! where the message went and its id.
//!
//! Once every message whose return was handed out is confirmed itself, no return is on its way to another message:
//! each confirmation hands out one return while there are any, so the library keeps at most as many returns for
//! confirmed messages as it handed out for unconfirmed ones. The broker confirms unroutable messages at once, so this
//! happens soon, whatever other queues do.

use std::collections::HashSet;

use super::terms::Route;

/// Publishes that are confirmed and whose outcome is not known yet.
pub(super) struct Returns<Reply> {
    came_back: HashSet<Route>,
    undecided: Vec<(Route, Reply)>,
    /// Whether a message was returned whose own confirmation is still to come.
    crossed: bool,
}

impl<Reply> Default for Returns<Reply> {
    fn default() -> Self {
        Self { came_back: HashSet::new(), undecided: Vec::new(), crossed: false }
    }
}

impl<Reply> Returns<Reply> {
    /// Records that the broker confirmed `route`, and that the library attached this return.
    pub(super) fn confirmed(&mut self, route: Route, returned: Option<Route>, reply: Reply) {
        self.came_back.extend(returned);
        self.undecided.push((route, reply));
    }

    /// Returns whether sending must pause until every returned message is confirmed: if more were sent, there might
    /// always be another one.
    pub(super) const fn must_settle(&self) -> bool {
        self.crossed
    }

    /// Returns the publishes whose outcome is known now, and whether they were kept. Call it after every available
    /// confirmation was recorded.
    pub(super) fn decided(&mut self) -> Vec<(Reply, bool)> {
        self.crossed = !self.came_back.is_empty() && {
            let confirmed: HashSet<&Route> = self.undecided.iter().map(|(route, _)| route).collect();
            self.came_back.iter().any(|route| !confirmed.contains(route))
        };
        if self.crossed {
            return Vec::new();
        }
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
        assert_eq!(returns.decided(), [(1, true), (2, false)]);
        assert!(!returns.must_settle());
        assert_eq!(returns.decided(), []);
    }

    /// Number 3 is never confirmed, because its queue is stuck: no other decision may wait for it.
    #[test]
    fn a_crossed_return_waits_for_the_message_that_came_back_and_no_other() {
        let mut returns = Returns::default();
        returns.confirmed(route(1), Some(route(2)), 1);
        assert_eq!(returns.decided(), []);
        assert!(returns.must_settle());
        returns.confirmed(route(2), None, 2);
        assert_eq!(returns.decided(), [(1, true), (2, false)]);
        assert!(!returns.must_settle());
    }

    proptest! {
        /// Hands out returns as the library does: the oldest goes to the next confirmation. Confirmations come in any
        /// order, each after its own message's return, and any number of them come before a decision is asked for.
        /// Each message must get its true outcome, and at the end none may be undecided.
        #[test]
        fn ends_are_right_however_returns_are_handed_out(
            lost in prop::collection::vec(any::<bool>(), 1..20),
            steps in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<bool>()), 60),
        ) {
            let mut on_their_way: Vec<usize> = (0..lost.len()).collect();
            let (mut came_back, mut kept_by_library) = (vec![false; lost.len()], std::collections::VecDeque::new());
            let mut returns = Returns::default();
            let mut ends = vec![None; lost.len()];
            let mut steps = steps.into_iter().cycle();
            while !on_their_way.is_empty() {
                let Some((which, comes_back, asks)) = steps.next() else { break };
                let place = which.index(on_their_way.len());
                let number = on_their_way[place];
                if lost[number] && !came_back[number] {
                    came_back[number] = true;
                    kept_by_library.push_back(number);
                    if comes_back {
                        // The message's confirmation comes later.
                        continue;
                    }
                }
                on_their_way.remove(place);
                returns.confirmed(route(number), kept_by_library.pop_front().map(route), number);
                if asks {
                    for (number, kept) in returns.decided() {
                        ends[number] = Some(kept);
                    }
                }
            }
            for (number, kept) in returns.decided() {
                ends[number] = Some(kept);
            }
            let expected: Vec<Option<bool>> = lost.iter().map(|lost| Some(!lost)).collect();
            prop_assert_eq!(ends, expected);
        }
    }
}
