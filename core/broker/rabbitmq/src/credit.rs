//! Decides, as pure functions of values, how many deliveries a consumer may hold.
//!
//! AMQP fixes the prefetch of a subscription when it begins, and quorum queues support no other kind. So a consumer
//! is several subscriptions on one channel, called taps here: more room means one more tap, less room means fewer
//! taps. The deliveries of a closed tap stay held until they are settled, and only then make room again.

/// How many taps are open at most; beyond that they are merged. Opening one costs two round trips.
const TAPS_MAX: usize = 16;

/// One subscription.
#[derive(Debug)]
struct Tap {
    number: u32,
    /// The tap's prefetch: the most unsettled deliveries that the broker gives it.
    limit: u32,
    unsettled: u32,
    open: bool,
}

/// The next step to take at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Open this tap with this prefetch.
    Open(u32, u16),
    /// Close this tap.
    Close(u32),
}

/// A consumer's taps, and how many deliveries it wants to hold.
#[derive(Debug, Default)]
pub(super) struct Credit {
    wanted: u32,
    taps: Vec<Tap>,
    /// The number of the tap that was opened last.
    last: u32,
    /// Whether the wanted number changed since the last tap was opened.
    changed: bool,
}

impl Credit {
    pub(super) fn want(&mut self, prefetch: u16) {
        let prefetch = u32::from(prefetch);
        self.changed |= prefetch != self.wanted;
        self.wanted = prefetch;
    }

    pub(super) const fn wanted(&self) -> u32 {
        self.wanted
    }

    /// Returns the next step after which the broker gives as much as is wanted, and no more. After a reduction the
    /// deliveries of closed taps come on top until they are settled.
    pub(super) fn step(&self) -> Option<Step> {
        let limits: u32 = self.open().map(|tap| tap.limit).sum();
        if let Some(excess) = limits.checked_sub(self.wanted).filter(|excess| *excess > 0) {
            // Close the smallest tap that is enough, or else the largest and then another.
            let enough = self.open().filter(|tap| tap.limit >= excess).min_by_key(|tap| tap.limit);
            return enough
                .or_else(|| self.open().max_by_key(|tap| tap.limit))
                .map(|tap| Step::Close(tap.number));
        }
        let room = self.wanted.saturating_sub(limits + self.earlier());
        if room == 0 {
            return None;
        }
        if self.open().count() >= TAPS_MAX {
            // The room that closed taps release bit by bit is used once it doubles the open room.
            if !(self.changed || self.earlier() == 0 || room >= limits) {
                return None;
            }
            return self.open().min_by_key(|tap| tap.limit).map(|tap| Step::Close(tap.number));
        }
        Some(Step::Open(self.last + 1, u16::try_from(room).unwrap_or(u16::MAX)))
    }

    pub(super) fn opened(&mut self, number: u32, limit: u16) {
        self.last = number;
        self.changed = false;
        self.taps.push(Tap { number, limit: u32::from(limit), unsettled: 0, open: true });
    }

    pub(super) fn closed(&mut self, number: u32) {
        if let Some(tap) = self.taps.iter_mut().find(|tap| tap.number == number) {
            tap.open = false;
        }
        self.forget();
    }

    pub(super) fn arrived(&mut self, number: u32) {
        if let Some(tap) = self.taps.iter_mut().find(|tap| tap.number == number) {
            tap.unsettled += 1;
        }
    }

    pub(super) fn settled(&mut self, number: u32) {
        if let Some(tap) = self.taps.iter_mut().find(|tap| tap.number == number) {
            tap.unsettled = tap.unsettled.saturating_sub(1);
        }
        self.forget();
    }

    /// Returns how many deliveries have come and are not settled.
    pub(super) fn unsettled(&self) -> u32 {
        self.taps.iter().map(|tap| tap.unsettled).sum()
    }

    fn open(&self) -> impl Iterator<Item = &Tap> {
        self.taps.iter().filter(|tap| tap.open)
    }

    /// Returns how many deliveries of closed taps are not settled yet.
    fn earlier(&self) -> u32 {
        self.taps.iter().filter(|tap| !tap.open).map(|tap| tap.unsettled).sum()
    }

    fn forget(&mut self) {
        self.taps.retain(|tap| tap.open || tap.unsettled > 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes steps until there is none left.
    fn obey(credit: &mut Credit) {
        for _ in 0..100 {
            match credit.step() {
                Some(Step::Open(number, limit)) => credit.opened(number, limit),
                Some(Step::Close(number)) => credit.closed(number),
                None => return,
            }
        }
        panic!("no end of steps: {credit:?}");
    }

    /// Delivers all that the broker may, and returns the taps that got a delivery.
    fn fill(credit: &mut Credit) -> Vec<u32> {
        let mut given = Vec::new();
        let open: Vec<(u32, u32)> =
            credit.open().map(|tap| (tap.number, tap.limit - tap.unsettled)).collect();
        for (number, room) in open {
            for _ in 0..room {
                credit.arrived(number);
                given.push(number);
            }
        }
        given
    }

    #[test]
    fn raising_while_holding_adds_the_difference() {
        let mut credit = Credit::default();
        credit.want(2);
        assert_eq!(credit.step(), Some(Step::Open(1, 2)));
        obey(&mut credit);
        assert_eq!(fill(&mut credit), [1, 1]);
        credit.want(3);
        assert_eq!(credit.step(), Some(Step::Open(2, 1)));
        obey(&mut credit);
        assert_eq!(fill(&mut credit), [2]);
        assert_eq!(credit.unsettled(), 3);
    }

    #[test]
    fn zero_closes_and_what_was_held_counts_when_it_opens_again() {
        let mut credit = Credit::default();
        credit.want(3);
        obey(&mut credit);
        fill(&mut credit);
        credit.want(0);
        assert_eq!(credit.step(), Some(Step::Close(1)));
        obey(&mut credit);
        credit.settled(1);
        assert_eq!(credit.step(), None);
        credit.want(3);
        assert_eq!(credit.step(), Some(Step::Open(2, 1)));
    }

    proptest! {
        /// For any sequence of wanted numbers and settlements: open taps never deliver more than is wanted; together
        /// with closed taps they never deliver more than was ever wanted; and settling everything yields exactly what
        /// is wanted.
        #[test]
        fn credit_follows_what_is_wanted(turns in prop::collection::vec((0u16..200, 0usize..100), 1..40)) {
            let mut credit = Credit::default();
            let mut held: Vec<u32> = Vec::new();
            let mut most = 0;
            for (wanted, settle) in turns {
                most = most.max(u32::from(wanted));
                credit.want(wanted);
                obey(&mut credit);
                held.extend(fill(&mut credit));
                prop_assert!(credit.unsettled() <= most, "{} held, {most} allowed", credit.unsettled());
                prop_assert!(credit.open().map(|tap| tap.limit).sum::<u32>() <= credit.wanted());
                prop_assert!(credit.open().count() <= TAPS_MAX);
                for tap in held.drain(..settle.min(held.len())) {
                    credit.settled(tap);
                    obey(&mut credit);
                }
                prop_assert_eq!(held.len(), credit.unsettled() as usize);
            }
            for tap in held.drain(..) {
                credit.settled(tap);
                obey(&mut credit);
            }
            fill(&mut credit);
            prop_assert_eq!(credit.unsettled(), credit.wanted());
        }
    }
}
