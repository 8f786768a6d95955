//! The order in which held jobs are offered.

mod coming;
mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use infera_types::service::ServiceTier;
use infera_verifier::decisions::fair_share::FairShare;
use proptest::prelude::*;
use tokio::time::Instant;

use queue::{Kind, Queue, kind};

/// What a level has been served: tokens, and the largest single job.
#[derive(Clone, Copy, Debug, Default)]
struct Served {
    tokens: u128,
    largest: u128,
}

impl Served {
    fn add(&mut self, tokens: u64) {
        self.tokens += u128::from(tokens);
        self.largest = self.largest.max(u128::from(tokens));
    }

    /// Whether the tokens per weight of two differ by one job's at most.
    fn is_fair_beside(&self, weight: u128, other: &Self, other_weight: u128) -> bool {
        let (own, others) = (self.tokens * other_weight, other.tokens * weight);
        own.abs_diff(others) <= (self.largest * other_weight).max(other.largest * weight)
    }
}

fn weight_of(kind: &Kind) -> u128 {
    u128::from(kind.tier.weight()) * u128::from(kind.weight.max(1))
}

prop_compose! {
    fn any_kind()(
        share in 0..4_u8,
        tier in proptest::sample::select(ServiceTier::ALL),
        weight in 1..6_u32,
        account in 0..4_u8,
        usual in proptest::option::of(0..3_000_u64),
        prompt_tokens in proptest::collection::vec(0..5_000_u64, 1..5),
    ) -> Kind {
        // All of a share have one weight, and an account answers alike in all its flows.
        let weight = weight + u32::from(share);
        Kind { share: format!("s{share}"), tier, weight, account: format!("s{share}a{account}"), usual, prompt_tokens }
    }
}

prop_compose! {
    /// Flows with different keys whose shares have one weight each.
    fn any_kinds()(kinds in proptest::collection::vec(any_kind(), 1..12)) -> Vec<Kind> {
        let mut weights = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut kinds: Vec<Kind> =
            kinds.into_iter().filter(|kind| seen.insert((kind.share.clone(), kind.tier, kind.account.clone()))).collect();
        for kind in &mut kinds {
            kind.weight = *weights.entry(kind.share.clone()).or_insert(kind.weight);
        }
        kinds
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Above, shares with their tiers; within, accounts: whatever is picked, and however short the lists are that the
    /// ledger gives.
    #[test]
    fn tokens_per_weight_differ_by_one_job_at_most(
        kinds in any_kinds(),
        jobs_max in 1..6_usize,
        counts in proptest::collection::vec(1..30_usize, 1..20),
    ) {
        let mut queue = Queue::default();
        let (mut groups, mut accounts) = (BTreeMap::new(), BTreeMap::new());
        for kind in &kinds {
            queue.flood(kind, 600);
            groups.insert((kind.share.clone(), kind.tier), (weight_of(kind), Served::default()));
            accounts.insert((kind.share.clone(), kind.tier, kind.account.clone()), Served::default());
        }
        let mut fair_share = FairShare::of_lists(jobs_max);
        for count in counts {
            fair_share.refresh(queue.flows(jobs_max), Instant::now());
            let turns = fair_share.next(count);
            prop_assert!(!turns.is_empty() && turns.len() <= count);
            for turn in &turns {
                let key = queue.key_of(turn.id);
                groups.get_mut(&(key.0.clone(), key.1)).unwrap().1.add(turn.charged_tokens);
                accounts.get_mut(&key).unwrap().add(turn.charged_tokens);
                for (weight, one) in groups.values() {
                    for (other_weight, other) in groups.values() {
                        prop_assert!(one.is_fair_beside(*weight, other, *other_weight), "{groups:?}");
                    }
                }
                for ((share, tier, _), one) in &accounts {
                    let beside = accounts.iter().filter(|((other, its, _), _)| (other, its) == (share, tier));
                    for (_, other) in beside {
                        prop_assert!(one.is_fair_beside(1, other, 1), "{accounts:?}");
                    }
                }
            }
            queue.offer(&turns);
        }
    }

    /// Jobs come, are cancelled, and now and then can't be offered: each is offered once, each flow's in their order, none
    /// that is gone, and all that stay.
    #[test]
    fn all_that_stays_held_is_offered_once_and_in_order(
        kinds in any_kinds(),
        jobs_max in 1..5_usize,
        steps in proptest::collection::vec((0..12_usize, 0..4_usize, 0..3_usize, 0..5_u8), 1..25),
    ) {
        let mut queue = Queue::default();
        let mut fair_share = FairShare::of_lists(jobs_max);
        for (count, came, cancelled, failing) in steps {
            for kind in kinds.iter().cycle().skip(count).take(came) {
                queue.flood(kind, 2);
            }
            queue.cancel(cancelled);
            fair_share.refresh(queue.flows(jobs_max), Instant::now());
            let turns = fair_share.next(count);
            queue.assert_heads(&turns);
            if failing > 0 {
                queue.offer(&turns);
            }
        }
        while queue.held() > 0 {
            let before = queue.held();
            fair_share.refresh(queue.flows(jobs_max), Instant::now());
            let turns = fair_share.next(5);
            queue.assert_heads(&turns);
            queue.offer(&turns);
            prop_assert!(queue.held() < before);
        }
        fair_share.refresh(Vec::new(), Instant::now());
        prop_assert_eq!(fair_share.next(9), []);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Until a flow that comes is served, no other group is served more than what moves it past the flow's group, once for
    /// each account that waits there, and one job.
    #[test]
    fn none_waits_for_ever(kinds in any_kinds(), newcomer in any_kind(), before in 0..100_usize) {
        const LARGEST: u128 = 5_000 + 3_000;
        // A share has one weight.
        let weight = kinds.iter().find(|kind| kind.share == newcomer.share).map_or(newcomer.weight, |kind| kind.weight);
        let newcomer = Kind { weight, ..newcomer };
        let mut queue = Queue::default();
        for kind in kinds.iter().filter(|kind| kind.key() != newcomer.key()) {
            queue.flood(kind, 200);
        }
        let mut fair_share = FairShare::default();
        fair_share.refresh(queue.flows(usize::MAX), Instant::now());
        queue.offer(&fair_share.next(before));
        queue.flood(&newcomer, 1);
        fair_share.refresh(queue.flows(usize::MAX), Instant::now());
        let mut others = BTreeMap::new();
        loop {
            let [turn] = fair_share.next(1)[..] else { return Err(TestCaseError::fail("never")) };
            let (share, tier, account) = queue.key_of(turn.id);
            if (&share, tier, &account) == (&newcomer.share, newcomer.tier, &newcomer.account) {
                break;
            }
            *others.entry((share, tier)).or_insert(0) += u128::from(turn.charged_tokens);
        }
        let is_beside = |kind: &&Kind| (&kind.share, kind.tier) == (&newcomer.share, newcomer.tier);
        let rounds = kinds.iter().filter(is_beside).count() as u128 + 1;
        for kind in kinds.iter().filter(|kind| !is_beside(kind)) {
            let served = others.get(&(kind.share.clone(), kind.tier)).copied().unwrap_or(0);
            let bound = rounds * LARGEST * weight_of(kind) / weight_of(&newcomer) + LARGEST;
            prop_assert!(served <= bound, "{served} of {bound}");
        }
    }
}

#[test]
fn weights_divide_what_there_is() {
    use ServiceTier::{Default, Flex, Priority};
    for (case, kinds, count, expected) in [
        ("alone", vec![("a", Default, 1)], 9, vec![9]),
        ("alike", vec![("a", Default, 1), ("b", Default, 1)], 10, vec![5, 5]),
        ("a share of weight three", vec![("a", Default, 1), ("b", Default, 3)], 40, vec![10, 30]),
        ("all tiers", vec![("a", Flex, 1), ("b", Default, 1), ("c", Priority, 1)], 210, vec![10, 40, 160]),
        ("tiers of one share", vec![("a", Flex, 1), ("a", Priority, 1)], 170, vec![10, 160]),
        ("a tier and a weight", vec![("a", Default, 1), ("b", Flex, 4)], 20, vec![10, 10]),
        ("a weight of none is one", vec![("a", Default, 0), ("b", Default, 1)], 20, vec![10, 10]),
        (
            "the greatest weights",
            vec![("a", Priority, u32::MAX), ("b", Priority, u32::MAX)],
            2_000,
            vec![1_000, 1_000],
        ),
    ] {
        let mut queue = Queue::default();
        let kinds: Vec<_> = kinds
            .into_iter()
            .map(|(share, tier, weight)| Kind { tier, weight, ..kind(share, share) })
            .collect();
        for kind in &kinds {
            queue.flood(kind, 3_000);
        }
        let mut fair_share = FairShare::default();
        fair_share.refresh(queue.flows(usize::MAX), Instant::now());
        let turns = fair_share.next(count);
        let counts: Vec<_> = kinds
            .iter()
            .map(|kind| turns.iter().filter(|turn| queue.key_of(turn.id) == kind.key()).count())
            .collect();
        assert_eq!(counts, expected, "{case}");
    }
}

/// Strangers of one network get together what one proven account gets, however many they are, and alike among themselves.
#[test]
fn a_thousand_accounts_of_one_share_get_one_share() {
    let mut queue = Queue::default();
    for account in 0..1_000 {
        queue.flood(&kind("network", &format!("stranger{account}")), 4);
    }
    queue.flood(&kind("proven", "proven"), 3_000);
    let mut fair_share = FairShare::of_lists(8);
    let (mut proven, mut strangers) = (0, BTreeMap::new());
    while proven < 2_000 {
        fair_share.refresh(queue.flows(8), Instant::now());
        let turns = fair_share.next(100);
        for turn in &turns {
            let (share, _, account) = queue.key_of(turn.id);
            if share == "proven" {
                proven += 1;
            } else {
                *strangers.entry(account).or_insert(0) += 1;
            }
        }
        queue.offer(&turns);
    }
    let together: i32 = strangers.values().sum();
    assert!((proven - together).abs() <= 1, "{proven} {together}");
    assert_eq!(strangers.len(), 1_000);
    assert!(strangers.values().all(|jobs| (1..=3).contains(jobs)));
}

#[test]
fn what_jobs_are_charged_with() {
    for (prompt_tokens, usual, charged) in [
        (100, None, 100 + 256),
        (100, Some(7), 107),
        (0, Some(0), 1),
        (u64::MAX, Some(u64::MAX), 1 << 20),
        (1 << 19, Some(1), (1 << 19) + 1),
    ] {
        let mut queue = Queue::default();
        queue.flood(&Kind { usual, prompt_tokens: vec![prompt_tokens], ..kind("a", "a") }, 1);
        let mut fair_share = FairShare::default();
        fair_share.refresh(queue.flows(1), Instant::now());
        let charges: Vec<_> = fair_share.next(2).iter().map(|turn| turn.charged_tokens).collect();
        assert_eq!(charges, [charged], "{prompt_tokens} {usual:?}");
    }
}

/// Short questions of one account and long ones of another: tokens are divided, not jobs.
#[test]
fn long_jobs_count_for_more() {
    let mut queue = Queue::default();
    let long = Kind { prompt_tokens: vec![1_900], usual: Some(100), ..kind("long", "long") };
    let short = Kind { prompt_tokens: vec![100], usual: Some(100), ..kind("short", "short") };
    queue.flood(&long, 1_000);
    queue.flood(&short, 1_000);
    let mut fair_share = FairShare::default();
    fair_share.refresh(queue.flows(usize::MAX), Instant::now());
    let turns = fair_share.next(110);
    let long = turns.iter().filter(|turn| queue.key_of(turn.id) == long.key()).count();
    assert_eq!((long, turns.len() - long), (10, 100));
}

#[test]
fn ten_thousand_flows_are_each_served_in_one_round() {
    let mut queue = Queue::default();
    for flow in 0..10_000 {
        queue.flood(&kind(&format!("s{}", flow % 5_000), &format!("a{flow}")), 2);
    }
    let mut fair_share = FairShare::of_lists(2);
    let now = Instant::now();
    fair_share.refresh(queue.flows(2), now);
    let turns = fair_share.next(10_000);
    let served: BTreeSet<_> = turns.iter().map(|turn| queue.key_of(turn.id)).collect();
    assert_eq!((turns.len(), served.len()), (10_000, 10_000));
    queue.offer(&turns);
    fair_share.refresh(queue.flows(2), now + Duration::from_secs(1));
    assert_eq!(fair_share.next(20_000).len(), 10_000);
}
