//! Flows that come, go and come back, and what was charged wrongly.

use std::collections::BTreeSet;
use std::time::Duration;

use infera_types::service::ServiceTier;
use infera_verifier::decisions::fair_share::FairShare;
use tokio::time::Instant;

use super::queue::{Kind, Queue, kind};

/// A busy flow and another one, of which the test decides when it asks.
fn stage() -> (Queue, FairShare, Kind, Kind) {
    let (busy, other) = (kind("busy", "busy"), kind("other", "other"));
    let mut queue = Queue::default();
    queue.flood(&busy, 20_000);
    (queue, FairShare::default(), busy, other)
}

#[test]
fn a_newcomer_is_next_and_gets_no_credit_for_its_absence() {
    let (mut queue, mut fair_share, busy, other) = stage();
    let now = Instant::now();
    queue.serve(&mut fair_share, 5_000, now);
    queue.flood(&other, 5_000);
    let counts = queue.serve(&mut fair_share, 1_000, now);
    assert_eq!((counts[&busy.key()], counts[&other.key()]), (500, 500));
    assert_eq!(queue.serve(&mut fair_share, 2, now).len(), 2, "they take turns");
}

/// A client that never has more than one job waiting is served at once each time, and owed nothing for it.
#[test]
fn asking_for_little_saves_nothing_up() {
    let (mut queue, mut fair_share, busy, other) = stage();
    let now = Instant::now();
    for _ in 0..500 {
        queue.flood(&other, 1);
        let counts = queue.serve(&mut fair_share, 10, now);
        assert_eq!((counts[&busy.key()], counts[&other.key()]), (9, 1));
    }
    queue.flood(&other, 1_000);
    let counts = queue.serve(&mut fair_share, 1_000, now);
    assert!(counts[&other.key()].abs_diff(500) <= 1, "{counts:?}");
}

/// Accounts of one share that come, leave most of their jobs and never come again get no more than the share.
#[test]
fn fresh_accounts_are_worth_no_more_than_their_share() {
    let (mut queue, mut fair_share, busy, _) = stage();
    let now = Instant::now();
    let (mut crowd, mut rest) = (0, 0);
    for round in 0..300 {
        for account in 0..6 {
            queue.flood(&kind("crowd", &format!("{round} {account}")), 1);
        }
        for (key, jobs) in queue.serve(&mut fair_share, 5, now) {
            *(if key == busy.key() { &mut rest } else { &mut crowd }) += jobs;
        }
        queue.withdraw("crowd");
    }
    assert!(crowd <= rest + 1 && crowd + rest == 1_500, "{crowd} {rest}");
}

/// Answers that were longer than charged are made up for; those that were shorter are given back.
#[test]
fn corrections_even_out_what_was_used() {
    for (beyond, other_gets) in [(100 * 100, 450), (-100 * 100, 550), (0, 500)] {
        let (mut queue, mut fair_share, busy, other) = stage();
        let now = Instant::now();
        queue.exceed("other", 77_777_777);
        queue.flood(&other, 5_000);
        let counts = queue.serve(&mut fair_share, 1_000, now);
        assert_eq!(counts[&other.key()], 500, "the first reading is no correction");
        queue.exceed("other", beyond);
        let counts = queue.serve(&mut fair_share, 1_000, now);
        assert_eq!(counts[&other.key()] + counts[&busy.key()], 1_000);
        assert!(counts[&other.key()].abs_diff(other_gets) <= 1, "{beyond}: {counts:?}");
        let counts = queue.serve(&mut fair_share, 1_000, now);
        assert!(counts[&other.key()].abs_diff(500) <= 1, "{beyond}, and even then: {counts:?}");
    }
}

/// Within a share it is the account that makes up for it, and with it the share.
#[test]
fn corrections_go_to_the_account_and_its_share() {
    let mut queue = Queue::default();
    let (first, second, third) = (kind("s", "first"), kind("s", "second"), kind("t", "third"));
    for kind in [&first, &second, &third] {
        queue.flood(kind, 5_000);
    }
    let (mut fair_share, now) = (FairShare::default(), Instant::now());
    queue.serve(&mut fair_share, 4, now);
    queue.exceed("first", 100 * 100);
    let counts = queue.serve(&mut fair_share, 300, now);
    // The share owes a hundred jobs to the other one: 100 of 300 remain for it, and 200 for the other.
    assert!(counts[&third.key()].abs_diff(200) <= 1, "{counts:?}");
    assert!(counts.get(&first.key()).copied().unwrap_or(0) <= 1, "{counts:?}");
    let counts = queue.serve(&mut fair_share, 400, now);
    assert!(counts[&third.key()].abs_diff(200) <= 1, "{counts:?}");
    assert!(counts[&first.key()].abs_diff(100) <= 1, "{counts:?}");
}

/// One account in two tiers is corrected once.
#[test]
fn an_account_with_two_flows_is_corrected_once() {
    let (mut queue, mut fair_share, busy, other) = stage();
    let now = Instant::now();
    let second = Kind { tier: ServiceTier::Flex, ..other.clone() };
    queue.flood(&other, 5_000);
    queue.flood(&second, 5_000);
    queue.serve(&mut fair_share, 90, now);
    queue.exceed("other", 100 * 100);
    // The weights are 4, 4 and 1. A hundred jobs too many are owed by one of both.
    let counts = queue.serve(&mut fair_share, 1_800, now);
    let (busy, other) = (counts[&busy.key()], counts[&other.key()] + counts[&second.key()]);
    let fair = 1_900 * 5 / 9 - 100;
    assert!(other.abs_diff(fair) <= 3, "{busy} {other} {fair}");
}

#[test]
fn debts_survive_a_short_absence_and_no_long_one() {
    for (away, other_gets) in [(1, 450), (599, 450), (600, 500)] {
        let (mut queue, mut fair_share, _, other) = stage();
        let begin = Instant::now();
        queue.flood(&other, 500);
        queue.serve(&mut fair_share, 1_000, begin);
        // All that it held is offered, and its answers are long. Meanwhile nothing else is served.
        queue.exceed("other", 100 * 100);
        queue.serve(&mut fair_share, 0, begin);
        let later = begin + Duration::from_secs(away);
        queue.serve(&mut fair_share, 0, later);
        queue.flood(&other, 1_000);
        let counts = queue.serve(&mut fair_share, 1_000, later);
        assert!(counts[&other.key()].abs_diff(other_gets) <= 1, "away for {away} s: {counts:?}");
    }
}

/// A flood of short-lived flows fills no memory: the longest absent are forgotten.
#[test]
fn the_absent_are_bounded() {
    let mut fair_share = FairShare::default();
    let begin = Instant::now();
    for round in 0..30 {
        let mut queue = Queue::default();
        for flow in 0..1_000 {
            queue.flood(&kind(&format!("{round} {flow}"), "a"), 1);
        }
        assert_eq!(queue.serve(&mut fair_share, 1_000, begin + Duration::from_secs(round)).len(), 1_000);
    }
    let remembered = format!("{fair_share:?}").matches("absent_since: Some").count();
    assert!((9_000..=10_000).contains(&remembered), "{remembered}");
}

/// Jobs whose offer failed are offered again, charged once.
#[test]
fn what_was_not_offered_is_not_charged() {
    let (mut queue, mut fair_share, busy, other) = stage();
    let now = Instant::now();
    queue.flood(&other, 1_000);
    fair_share.refresh(queue.flows(usize::MAX), now);
    let first = fair_share.next(7);
    for _ in 0..50 {
        fair_share.refresh(queue.flows(usize::MAX), now);
        assert_eq!(fair_share.next(7), first, "the same again");
    }
    // One that has a single job, which can't be offered for a while, waits on as before.
    let single = kind("single", "single");
    queue.flood(&single, 1);
    for _ in 0..50 {
        fair_share.refresh(queue.flows(usize::MAX), now);
        let turns = fair_share.next(300);
        assert!(turns.iter().any(|turn| queue.key_of(turn.id) == single.key()));
    }
    let counts = queue.serve(&mut fair_share, 601, now);
    assert_eq!((counts[&busy.key()], counts[&other.key()], counts[&single.key()]), (300, 300, 1));
}

#[test]
fn a_job_that_vanished_is_never_returned() {
    let (mut queue, mut fair_share, _, other) = stage();
    let now = Instant::now();
    queue.flood(&other, 3);
    fair_share.refresh(queue.flows(usize::MAX), now);
    queue.cancel(2);
    let held: BTreeSet<_> =
        queue.flows(usize::MAX).into_iter().flat_map(|flow| flow.jobs).map(|job| job.id).collect();
    fair_share.refresh(queue.flows(usize::MAX), now);
    let turns = fair_share.next(usize::MAX);
    assert_eq!(turns.len(), held.len());
    assert!(turns.iter().all(|turn| held.contains(&turn.id)));
    fair_share.refresh(Vec::new(), now);
    assert_eq!(fair_share.next(1), []);
}
