//! Tables, plays of many clients and a property, all with times that are made up.

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn allowance(limit: u64, now: Instant) -> Allowance {
    Allowance::new(Rate { limit, window: MINUTE }, now)
}

/// Plays one request at `now`; returns the wait that it is told if it is refused.
fn ask(allowance: &mut Allowance, attempt: Attempt, now: Instant) -> Option<Duration> {
    if allowance.may_spend(1, attempt, now) {
        allowance.spend(1, attempt, now);
        return None;
    }
    let due = allowance.due(1, now);
    if let Some(due) = due {
        allowance.promise(1, due);
    }
    Some(allowance.told(due, now))
}

#[test]
fn what_is_left_and_when_all_is_back_are_exact() {
    let now = Instant::now();
    for limit in [1, 3, 7, 600, 6_000_000] {
        let mut allowance = allowance(limit, now);
        assert_eq!((allowance.left(now), allowance.reset(now)), (limit, Duration::ZERO));
        for spent in 1..=limit.min(600) {
            assert!(allowance.may_spend(1, Attempt::First, now), "{limit} {spent}");
            allowance.spend(1, Attempt::First, now);
            assert_eq!(allowance.left(now), limit - spent);
        }
        let one = Duration::from_nanos(allowance.rate.one_ns());
        if limit <= 600 {
            assert!(!allowance.may_spend(1, Attempt::First, now));
            assert!(allowance.may_spend(1, Attempt::First, now + one));
        }
        allowance.give_back(1, now);
        assert_eq!(allowance.left(now), limit - limit.min(600) + 1);
    }
}

/// Plays clients that send without pause and obey what they are told, in steps of `cost` per request. Returns how often
/// they were refused, the most tries of one request, and how long all took.
fn play(clients: usize, requests: u32, cost: Duration, says: bool) -> (u32, u32, Duration) {
    let begun = Instant::now();
    let mut allowance = allowance(600, begun);
    let mut next: Vec<(Instant, u32)> = vec![(begun, 0); clients];
    let (mut left, mut refused, mut most) = (requests, 0, 0);
    let mut last = begun;
    while let Some(client) = (0..clients).min_by_key(|client| next[*client].0) {
        let (now, tries) = next[client];
        if left == 0 && tries == 0 {
            next.remove(client);
            if next.is_empty() {
                break;
            }
            return finish(allowance, next, (refused, most), begun, last.max(now));
        }
        if tries == 0 {
            left -= 1;
        }
        last = now;
        let attempt = match (says, tries) {
            (false, _) => Attempt::Unknown,
            (true, 0) => Attempt::First,
            (true, _) => Attempt::Again,
        };
        next[client] = match ask(&mut allowance, attempt, now) {
            None => (now + cost, 0),
            Some(wait) => {
                refused += 1;
                most = most.max(tries + 1);
                (now + wait, tries + 1)
            }
        };
    }
    (refused, most, last - begun)
}

/// Lets the clients that still wait have their last requests.
fn finish(
    mut allowance: Allowance,
    mut next: Vec<(Instant, u32)>,
    (mut refused, mut most): (u32, u32),
    begun: Instant,
    mut last: Instant,
) -> (u32, u32, Duration) {
    while let Some(client) = (0..next.len()).min_by_key(|client| next[*client].0) {
        let (now, tries) = next[client];
        if tries == 0 {
            next.remove(client);
            continue;
        }
        last = now;
        match ask(&mut allowance, Attempt::Again, now) {
            None => next[client] = (now, 0),
            Some(wait) => {
                refused += 1;
                most = most.max(tries + 1);
                next[client] = (now + wait, tries + 1);
            }
        }
    }
    (refused, most, last - begun)
}

/// OpenAI's client gives up after two retries. Every request is served at its second try, whatever the number of clients.
#[test]
fn a_thousand_requests_are_served_at_their_second_try() {
    for clients in [1, 4, 16, 64, 250, 1_000] {
        for cost_ms in [0, 50, 2_000] {
            let (refused, most, took) = play(clients, 1_000, Duration::from_millis(cost_ms), true);
            assert!(most <= 1, "{clients} clients of {cost_ms} ms: refused {most} times in a row");
            let working = Duration::from_millis(cost_ms) * 1_000 / u32::try_from(clients).unwrap();
            assert!(took < Duration::from_secs(120) + working, "{clients} clients: {took:?}");
            assert!(refused <= 1_000, "{clients}: {refused}");
        }
    }
}

/// The limit is used: obeying clients are served at its rate, and a single one is refused twenty times a minute at most.
#[test]
fn a_client_that_obeys_is_refused_seldom() {
    for cost_ms in [0, 5, 50] {
        let (refused, most, took) = play(1, 3_000, Duration::from_millis(cost_ms), false);
        assert!(refused < 100 && most == 1, "{cost_ms} ms: refused {refused} times, {most} in a row");
        assert!(took < Duration::from_secs(245), "{cost_ms} ms: {took:?}");
    }
    let (refused, _, took) = play(4, 3_000, Duration::from_millis(5), false);
    assert!(refused < 100 && took < Duration::from_secs(260), "four at once: {refused}, {took:?}");
}

#[test]
fn a_retry_may_exceed_the_limit_by_a_tenth() {
    let now = Instant::now();
    let mut allowance = allowance(100, now);
    allowance.spend(100, Attempt::First, now);
    assert!(!allowance.may_spend(1, Attempt::First, now) && !allowance.may_spend(1, Attempt::Unknown, now));
    for _ in 0..10 {
        assert!(allowance.may_spend(1, Attempt::Again, now));
        allowance.spend(1, Attempt::Again, now);
    }
    assert!(!allowance.may_spend(1, Attempt::Again, now));
    assert_eq!(allowance.left(now), 0);
    assert_eq!(allowance.reset(now), MINUTE * 110 / 100);
}

#[test]
fn a_place_that_isnt_taken_is_given_up() {
    let now = Instant::now();
    let mut allowance = allowance(600, now);
    allowance.spend(600, Attempt::First, now);
    let wait = ask(&mut allowance, Attempt::First, now).unwrap();
    assert!((Duration::from_secs(3)..Duration::from_millis(3_301)).contains(&wait), "{wait:?}");
    let due = now + Duration::from_secs(3);
    assert!(allowance.may_spend(29, Attempt::First, due) && !allowance.may_spend(30, Attempt::First, due));
    assert!(allowance.may_spend(30, Attempt::Unknown, due), "it may be the one that waits");
    let later = due + Duration::from_millis(5_001);
    assert!(allowance.may_spend(80, Attempt::First, later) && allowance.line.is_empty());
}

#[test]
fn more_than_the_whole_limit_needs_the_whole_limit() {
    let now = Instant::now();
    let mut allowance = allowance(600, now);
    assert!(allowance.may_spend(10_000, Attempt::First, now));
    allowance.spend(10_000, Attempt::First, now);
    assert_eq!((allowance.left(now), allowance.reset(now)), (0, MINUTE));
}

#[test]
fn refused_clients_come_back_spread_out() {
    let mut times: Vec<Duration> =
        (0..100).map(|number| spread(Duration::from_millis(1_000), number)).collect();
    times.sort_unstable();
    let widest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(widest < Some(Duration::from_millis(30)), "{widest:?}");
}

proptest! {
    /// Whatever clients do, what is let through in any time is at most the limit, a tenth, and what came back meanwhile.
    #[test]
    fn never_more_than_the_limit(
        steps in prop::collection::vec((0_u64..3_000, 0..3_u8), 1..400),
        limit in 1_u64..200,
    ) {
        let begun = Instant::now();
        let mut allowance = allowance(limit, begun);
        let (mut now, mut through) = (begun, 0_u64);
        for (step_ms, attempt) in steps {
            now += Duration::from_millis(step_ms);
            let attempt = [Attempt::First, Attempt::Again, Attempt::Unknown][usize::from(attempt)];
            if ask(&mut allowance, attempt, now).is_none() {
                through += 1;
            }
            let back = (now - begun).as_millis() as u64 * limit / 60_000;
            prop_assert!(through <= limit + limit / 10 + back + 1, "{through} of {limit}");
        }
    }
}
