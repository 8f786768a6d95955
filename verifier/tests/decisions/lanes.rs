//! What each of a model's two lanes may hold, and which is next where jobs wait for room.

use infera_types::service::Lane;
use infera_verifier::decisions::lanes::{Holding, Next, Seen, Waiting, held_max, next};
use proptest::prelude::*;

const fn holding(held: u32, running: u32) -> Holding {
    Holding { held, running }
}

/// What the first and the later lane may hold.
fn both(seen: &Seen) -> (u16, u16) {
    (held_max(Lane::First, seen), held_max(Lane::Later, seen))
}

#[test]
fn what_each_lane_may_hold() {
    for (case, first, later, waiting_max, expected) in [
        ("no room", holding(0, 0), holding(0, 0), 0, (0, 0)),
        ("no room, and all that is held waits for it", holding(3, 0), holding(5, 0), 0, (0, 0)),
        ("nothing runs", holding(0, 0), holding(0, 0), 48, (48, 42)),
        ("the first lane alone", holding(16, 16), holding(0, 0), 0, (16, 2)),
        ("the later lane fills up", holding(0, 0), holding(16, 14), 6, (6, 17)),
        ("the later lane runs all", holding(0, 0), holding(18, 16), 0, (2, 14)),
        ("the first lane gathers behind it", holding(2, 0), holding(18, 16), 0, (4, 12)),
        ("and further", holding(12, 0), holding(18, 16), 0, (14, 2)),
        ("up to all but a tenth", holding(14, 0), holding(18, 16), 0, (14, 2)),
        ("and takes over", holding(14, 8), holding(10, 8), 0, (14, 2)),
        ("a tenth of much", holding(100, 100), holding(0, 0), 20, (120, 13)),
        ("one place, which the later lane has", holding(0, 0), holding(1, 1), 0, (1, 1)),
        ("one place, which the first lane has", holding(1, 1), holding(0, 0), 0, (1, 1)),
        ("two places", holding(1, 1), holding(1, 1), 0, (2, 1)),
        ("both lanes at their parts", holding(14, 14), holding(3, 2), 0, (16, 2)),
        ("three free places", holding(0, 0), holding(0, 0), 3, (3, 2)),
        ("more room than may be held", holding(0, 0), holding(0, 0), 5_000, (1_000, 875)),
        ("as much as may be held", holding(0, 0), holding(875, 875), 5_000, (125, 875)),
        ("as much as may be held, and waits", holding(0, 0), holding(875, 10), 5_000, (125, 875)),
    ] {
        let seen = Seen { first, later, waiting_max, held_max: 1_000 };
        assert_eq!(both(&seen), expected, "{case}");
    }
    let one = Seen { first: holding(1, 1), later: holding(1, 1), waiting_max: 9, held_max: 1 };
    assert_eq!(both(&one), (1, 1), "each may hold one, whatever is set");
}

#[test]
fn whose_turn_is_next() {
    for (first, later, ahead, expected) in [
        (false, false, 0, None),
        (false, false, 99, None),
        (true, false, 99, Some(Next::First)),
        (false, true, 99, Some(Next::LaterMeanwhile)),
        (true, true, 0, Some(Next::First)),
        (true, true, 8, Some(Next::First)),
        (true, true, 9, Some(Next::LaterByRight)),
        (true, true, u32::MAX, Some(Next::LaterByRight)),
    ] {
        assert_eq!(next(Waiting { first, later, ahead }), expected, "{first} {later} {ahead}");
    }
}

prop_compose! {
    fn any_holding()(held in 0..3_000_u32, part in 0..=100_u32) -> Holding {
        Holding { held, running: held * part / 100 }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn neither_lane_is_left_without_a_place_and_both_are_bounded(
        first in any_holding(),
        later in any_holding(),
        waiting_max in 0..3_000_u32,
        limit in 1..2_000_u16,
    ) {
        let seen = Seen { first, later, waiting_max, held_max: limit };
        let (told_first, told_later) = both(&seen);
        let limit = u32::from(limit);
        let total = (first.running + later.running + waiting_max).min(limit);
        prop_assert_eq!((told_first == 0, told_later == 0), (total == 0, total == 0));
        let (told_first, told_later) = (u32::from(told_first), u32::from(told_later));
        prop_assert!(told_first <= total + total.div_ceil(8) && told_later <= total);
        // Beside what the later lane holds the first keeps to the bound, and the later one leaves an eighth or has its tenth.
        prop_assert!(told_first <= 1 || told_first + later.held <= limit);
        let tenth = total / 10 + 1;
        prop_assert!(total == 0 || told_later == tenth || told_later + first.held + total.div_ceil(8) <= total);
    }
}

/// A network of `groups` that run at once, and its verifier's jobs of both lanes.
struct Network {
    groups: u32,
    /// How many slots a group takes.
    replicas: u32,
    first: Holding,
    later: Holding,
    ahead: u32,
    dispatched: Vec<Lane>,
}

impl Network {
    fn new(groups: u32, replicas: u32) -> Self {
        let (first, later) = (Holding::default(), Holding::default());
        Self { groups, replicas, first, later, ahead: 0, dispatched: Vec::new() }
    }

    fn of(&mut self, lane: Lane) -> &mut Holding {
        match lane {
            Lane::First => &mut self.first,
            Lane::Later | Lane::Own => &mut self.later,
        }
    }

    fn seen(&self) -> Seen {
        let free = self.groups - self.first.running - self.later.running;
        Seen { first: self.first, later: self.later, waiting_max: free * self.replicas, held_max: 1_024 }
    }

    /// Delivers what a lane may hold, `most` at most, and gives groups to those whose turn it is.
    fn deliver(&mut self, lane: Lane, most: u32) {
        let told = u32::from(held_max(lane, &self.seen()));
        let held = self.of(lane).held;
        self.of(lane).held = held.max(told.min(held.saturating_add(most)));
        while self.first.running + self.later.running < self.groups {
            let (first, later) = (self.first, self.later);
            let (first, later) = (first.held > first.running, later.held > later.running);
            let lane = match next(Waiting { first, later, ahead: self.ahead }) {
                None => return,
                Some(Next::First) => {
                    self.ahead = if later { self.ahead + 1 } else { 0 };
                    Lane::First
                }
                Some(Next::LaterMeanwhile) => Lane::Later,
                Some(Next::LaterByRight) => {
                    self.ahead = 0;
                    Lane::Later
                }
            };
            self.of(lane).running += 1;
            self.dispatched.push(lane);
        }
    }

    /// Ends one running job, chosen by a number.
    fn finish(&mut self, number: u32) {
        let running = self.first.running + self.later.running;
        if running > 0 {
            let lane = if number % running < self.first.running { Lane::First } else { Lane::Later };
            let holding = self.of(lane);
            *holding = Holding { held: holding.held - 1, running: holding.running - 1 };
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_flooded_later_lane_keeps_the_network_busy_and_lets_the_first_in_at_once(
        groups in 1..60_u32,
        replicas in 1..4_u32,
        numbers in proptest::collection::vec(any::<u32>(), 200),
    ) {
        let mut network = Network::new(groups, replicas);
        network.deliver(Lane::Later, u32::MAX);
        for number in &numbers {
            network.finish(*number);
            network.deliver(Lane::Later, u32::MAX);
        }
        prop_assert!(network.later.running + groups.div_ceil(8) >= groups, "{:?}", network.later);
        for number in numbers {
            // One job of the first lane comes, and the next group that is free is given to it.
            network.ahead = 0;
            let before = network.first.running;
            network.deliver(Lane::First, 1);
            prop_assert_eq!(network.first.held, before + 1);
            if network.first.running == before {
                network.finish(number);
                let running = network.first.running;
                network.deliver(Lane::Later, u32::MAX);
                prop_assert_eq!(network.first.running, running + 1);
            }
            // It ends before the next comes.
            network.first = Holding::default();
            network.deliver(Lane::Later, u32::MAX);
        }
    }

    #[test]
    fn of_two_flooded_lanes_the_later_one_gets_its_tenth(
        groups in 1..60_u32,
        replicas in 1..4_u32,
        numbers in proptest::collection::vec(any::<u32>(), 3_000),
        later_first: bool,
    ) {
        let mut network = Network::new(groups, replicas);
        let lanes = if later_first { [Lane::Later, Lane::First] } else { [Lane::First, Lane::Later] };
        let mut settled = 0;
        for (step, number) in numbers.iter().enumerate() {
            for lane in lanes {
                network.deliver(lane, u32::MAX);
            }
            if step == 1_000 {
                settled = network.dispatched.len();
            }
            network.finish(*number);
        }
        let dispatched = &network.dispatched[settled..];
        let later = dispatched.iter().filter(|lane| **lane == Lane::Later).count();
        // A tenth is rounded down where few jobs run at once.
        prop_assert!(later * 25 >= dispatched.len() && later * 8 <= dispatched.len(), "{later} of {}", dispatched.len());
    }
}
