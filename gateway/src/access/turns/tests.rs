//! Plays requests that come, wait, go and are counted elsewhere.

use infera_ledger::Scopes;
use infera_types::ids::KeyId;

use super::*;

fn caller(account: &AccountId, key: u8) -> Caller {
    Caller {
        key: Digest::of(&[key]),
        account: account.clone(),
        id: KeyId::fresh(),
        scopes: Scopes::default(),
        expires_ms: None,
        pool: infera_ledger::NodePool::Open,
        privacy: infera_ledger::KeyPrivacy::default(),
        is_proven: false,
        weight: 1,
        may_prioritise: false,
    }
}

fn turns(key_max: u32, account_max: u32, wait_ms: u64) -> Turns {
    Turns::new(TurnBounds { key_max, account_max, wait: Duration::from_millis(wait_ms) })
}

#[tokio::test]
async fn the_accounts_bound_is_that_of_all_its_keys() {
    let turns = turns(2, 3, 0);
    let account = AccountId::fresh();
    let (one, other) = (caller(&account, 1), caller(&account, 2));
    let stranger = caller(&AccountId::fresh(), 3);
    let first = turns.take(&one, Attempt::First).await.unwrap();
    let _second = turns.take(&one, Attempt::First).await.unwrap();
    assert_eq!(turns.left(&one), Some((0, 2)));
    assert!(turns.take(&one, Attempt::First).await.is_err(), "the key's bound");
    assert_eq!(turns.left(&other), Some((1, 3)));
    let _third = turns.take(&other, Attempt::First).await.unwrap();
    assert!(turns.take(&other, Attempt::First).await.is_err(), "the account's bound");
    assert!(turns.take(&stranger, Attempt::First).await.is_ok());
    let _overdraft = turns.take(&one, Attempt::Again).await.unwrap();
    assert!(turns.take(&one, Attempt::Again).await.is_err(), "one part in ten");
    drop(first);
    assert!(turns.take(&other, Attempt::First).await.is_err(), "the overdraft counts");
}

#[tokio::test]
async fn a_request_waits_for_its_turn_and_those_who_leave_lose_none() {
    let turns = Arc::new(turns(1, 0, 10_000));
    let one = Arc::new(caller(&AccountId::fresh(), 1));
    let first = turns.take(&one, Attempt::First).await.unwrap();
    let wait = || {
        let (turns, one) = (Arc::clone(&turns), Arc::clone(&one));
        tokio::spawn(async move { turns.take(&one, Attempt::First).await })
    };
    let gone = wait();
    tokio::task::yield_now().await;
    gone.abort();
    assert!(gone.await.is_err());
    let (second, full) = (wait(), wait());
    assert!(full.await.unwrap().is_err(), "as many wait as may be in flight");
    drop(first);
    let second = second.await.unwrap().unwrap();
    assert_eq!(turns.left(&one), Some((0, 1)));
    drop(second);
    assert_eq!(turns.left(&one), Some((1, 1)));
    turns.clean(Instant::now() + TOLD_MAX * 2);
    assert!(lock(&turns.flights).is_empty());
}

#[tokio::test]
async fn no_turn_is_lost_among_many_who_come_and_go() {
    let turns = Arc::new(turns(4, 0, 20));
    let one = Arc::new(caller(&AccountId::fresh(), 1));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200_u64 {
        let (turns, one) = (Arc::clone(&turns), Arc::clone(&one));
        tasks.spawn(async move {
            let patience = Duration::from_millis(number % 7);
            if let Ok(Ok(turn)) = tokio::time::timeout(patience, turns.take(&one, Attempt::First)).await {
                assert!(turns.left(&one).is_some_and(|(left, _)| left < 4));
                tokio::time::sleep(Duration::from_millis(number % 3)).await;
                drop(turn);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    assert_eq!(turns.left(&one), Some((4, 4)));
}

#[test]
fn refused_clients_are_told_different_times_in_the_order_of_the_turns() {
    let bounds = TurnBounds { key_max: 4, account_max: 0, wait: Duration::ZERO };
    let mut flight = Flight { usual: Duration::from_secs(8), ..Flight::default() };
    let now = Instant::now();
    let told: Vec<Duration> = (0..6).map(|_| flight.tell(bounds, now)).collect();
    for (number, told) in (1_u32..).zip(&told) {
        let due = Duration::from_secs(2) * number;
        assert!((due..=due * 6 / 5).contains(told), "{number}: {told:?}");
    }
    assert!(
        flight.tell(bounds, now + Duration::from_secs(60)) < Duration::from_secs(3),
        "they have come again"
    );
}

#[test]
fn without_bounds_nothing_is_kept_of_what_others_report() {
    let (turns, now) = (turns(0, 0, 10_000), Instant::now());
    for number in 0..100_u8 {
        turns.hear(&GatewayId::fresh(), (Digest::of(&[number]), &AccountId::fresh()), 1, now);
    }
    assert_eq!(turns.untold(true, now), []);
    assert_eq!(lock(&turns.flights).len(), 0);
}

#[tokio::test]
async fn what_is_in_flight_elsewhere_counts_until_it_is_over() {
    let turns = Arc::new(turns(2, 3, 10_000));
    let account = AccountId::fresh();
    let (one, gateway) = (Arc::new(caller(&account, 1)), GatewayId::fresh());
    let now = Instant::now();
    let hear = |key: Digest, count| turns.hear(&gateway, (key, &account), count, now);
    let first = turns.take(&one, Attempt::First).await.unwrap();
    hear(one.key, 1);
    assert_eq!(turns.left(&one), Some((0, 2)));
    let wait = || {
        let (turns, one) = (Arc::clone(&turns), Arc::clone(&one));
        tokio::spawn(async move { turns.take(&one, Attempt::First).await })
    };
    let waiting = wait();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    // Another key of the account has all that is left, and then nothing.
    hear(one.key, 0);
    let second = waiting.await.unwrap().unwrap();
    drop(first);
    hear(Digest::of(b"another key"), 2);
    assert_eq!(turns.left(&one), Some((0, 3)));
    let waiting = wait();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    // The gateway is gone: its counts are over, and its turns are given.
    let gone = now + Duration::from_secs(4);
    assert_eq!(turns.untold(false, gone), [(one.key, account.clone(), 2)], "what changed is told");
    let third = waiting.await.unwrap().unwrap();
    assert_eq!(turns.untold(false, gone), [], "once");
    assert_eq!(turns.untold(true, gone), [(one.key, account.clone(), 2)], "or the whole");
    drop((second, third));
    assert_eq!(turns.untold(false, gone), [(one.key, account, 0)]);
    turns.clean(gone);
    assert!(lock(&turns.flights).is_empty());
}
