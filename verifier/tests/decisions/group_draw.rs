//! The draw.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use infera_ledger::NodePool;
use infera_types::features::{Feature, Features};
use infera_types::ids::{AccountId, Digest, ModelName, NodeId, OwnerId};
use infera_types::job::{JobRequest, Seed};
use infera_types::knobs::Knobs;
use infera_verifier::decisions::group_draw::{Candidate, Distinct, Draw, Medians, Member, draw};
use proptest::prelude::*;

use super::sample::class;

fn candidate(number: u32) -> Candidate {
    Candidate {
        node: NodeId::new(format!("n{number}")),
        owner: OwnerId::new(format!("o{number}")),
        address: None,
        machine: None,
        is_private: false,
        is_backstop: false,
        groups: Vec::new(),
        numeric_class: class("toy", "a"),
        features: Features::default(),
        free_slots: 1,
        reputation: 0.9,
        tokens_per_second: Some(50.0),
        newcomer: false,
        ejected: false,
    }
}

fn fleet(count: u32) -> Vec<Candidate> {
    (0..count).map(candidate).collect()
}

fn key(job: u32) -> Digest {
    Digest::of(&job.to_le_bytes())
}

/// What differs from an ordinary draw.
#[derive(Default)]
struct Terms {
    wanted: usize,
    needed: Features,
    members: Vec<Member>,
    excluded_owners: Vec<OwnerId>,
    excluded_nodes: Vec<NodeId>,
    distinct: Distinct,
    medians: Option<Medians>,
}

fn wanted(wanted: usize) -> Terms {
    Terms { wanted, ..Terms::default() }
}

/// Draws for a job of the account `client`, and returns the chosen candidates.
fn drawn<'a>(candidates: &'a [Candidate], job: u32, terms: &Terms) -> Vec<&'a Candidate> {
    let (key, account) = (key(job), AccountId::new("client"));
    let medians = terms.medians.unwrap_or_else(|| Medians::of(candidates));
    let one = Draw {
        key: &key,
        account: &account,
        pool: &NodePool::Open,
        needed: &terms.needed,
        wanted: terms.wanted,
        members: &terms.members,
        excluded_owners: &terms.excluded_owners,
        excluded_nodes: &terms.excluded_nodes,
        classes: &[],
        distinct: terms.distinct,
        medians: &medians,
    };
    draw(candidates, &one).into_iter().map(|index| &candidates[index]).collect()
}

fn group(candidates: &[Candidate], job: u32) -> Vec<&Candidate> {
    drawn(candidates, job, &wanted(3))
}

fn address(network: u8, host: u8) -> Option<IpAddr> {
    Some(IpAddr::V4(Ipv4Addr::new(203, 0, network, host)))
}

fn same_network(a: &Candidate, b: &Candidate) -> bool {
    let network = |one: &Candidate| match one.address {
        Some(IpAddr::V4(address)) if !address.is_loopback() => Some(address.octets()[2]),
        _ => None,
    };
    network(a).is_some() && network(a) == network(b)
}

prop_compose! {
    /// Any node of a small world, where owners, networks and classes collide often.
    fn any_candidate()(
        owner in 0..6_u32,
        network in proptest::option::of(0..5_u8),
        hardware in 0..3_u8,
        free_slots in 0..3_u32,
        reputation in 0.0..1.0_f64,
        speed in proptest::option::of(1.0..500.0_f64),
        newcomer in proptest::bool::weighted(0.3),
        ejected in proptest::bool::weighted(0.1),
    ) -> Candidate {
        Candidate {
            owner: if owner == 0 { OwnerId::new("client") } else { OwnerId::new(format!("o{owner}")) },
            address: network.and_then(|network| address(network, 1)),
            numeric_class: class("toy", &hardware.to_string()),
            free_slots,
            reputation,
            tokens_per_second: speed,
            newcomer,
            ejected,
            ..candidate(0)
        }
    }
}

prop_compose! {
    fn any_fleet()(mut fleet in proptest::collection::vec(any_candidate(), 0..14)) -> Vec<Candidate> {
        for (number, one) in fleet.iter_mut().enumerate() {
            one.node = NodeId::new(format!("n{number}"));
        }
        fleet
    }
}

fn fits(one: &Candidate, group: &[&Candidate]) -> bool {
    let apart =
        |other: &&Candidate| one.node != other.node && one.owner != other.owner && !same_network(one, other);
    one.free_slots > 0 && !one.ejected && one.owner.as_str() != "client" && group.iter().all(apart)
}

/// Whether two established nodes could have stood in one group.
fn has_established_pair(fleet: &[Candidate]) -> bool {
    let established: Vec<_> = fleet.iter().filter(|one| !one.newcomer && fits(one, &[])).collect();
    established.iter().any(|first| established.iter().any(|second| fits(first, &[second])))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn members_are_always_distinct_and_eligible(fleet in any_fleet(), job: u32, wanted in 0..5_usize) {
        let group = drawn(&fleet, job, &self::wanted(wanted));
        prop_assert!(group.len() <= wanted);
        for (place, one) in group.iter().enumerate() {
            prop_assert!(fits(one, &group[..place]), "{one:?} in {group:?}");
        }
        // It stays short only if no candidate fits any more.
        let could_join = fleet.iter().any(|one| fits(one, &group));
        prop_assert!(group.len() == wanted || !could_join);
    }

    #[test]
    fn the_order_of_the_candidates_plays_no_part(fleet in any_fleet(), job: u32) {
        let mut reversed = fleet.clone();
        reversed.reverse();
        prop_assert_eq!(group(&fleet, job), group(&reversed, job));
    }

    #[test]
    fn at_most_one_newcomer_where_two_are_established(fleet in any_fleet(), job: u32) {
        let newcomers = group(&fleet, job).iter().filter(|one| one.newcomer).count();
        prop_assert!(newcomers <= 1 || !has_established_pair(&fleet));
    }

    /// A node that joins changes only the groups that it enters, if no node's weight moves and no class becomes
    /// large enough by it.
    #[test]
    fn joining_disturbs_only_the_groups_entered(count in 3..12_u32, reputation in 0.1..1.0_f64, job: u32) {
        let mut fleet = fleet(count);
        let terms = Terms { medians: Some(Medians::of(&fleet)), ..wanted(3) };
        let before: BTreeSet<_> =
            drawn(&fleet, job, &terms).iter().map(|one| one.node.clone()).collect();
        fleet.push(Candidate { reputation, ..candidate(1_000) });
        let after: BTreeSet<_> =
            drawn(&fleet, job, &terms).iter().map(|one| one.node.clone()).collect();
        let entered = after.contains(&NodeId::new("n1000"));
        prop_assert_eq!(before.intersection(&after).count(), if entered { 2 } else { 3 });
    }

    /// A member that can't be reached is replaced alone, and by someone who fits the others.
    #[test]
    fn replacements_fit_the_rest(fleet in any_fleet(), job: u32) {
        let group = group(&fleet, job);
        let Some((lost, rest)) = group.split_first() else { return Ok(()) };
        let terms = Terms {
            members: rest.iter().map(|one| Member::from(*one)).collect(),
            excluded_owners: vec![lost.owner.clone()],
            excluded_nodes: vec![lost.node.clone()],
            ..wanted(1)
        };
        let replacement = drawn(&fleet, job, &terms);
        for one in &replacement {
            prop_assert!(fits(one, rest) && one.owner != lost.owner);
        }
        let could = fleet.iter().any(|one| fits(one, rest) && one.owner != lost.owner);
        prop_assert_eq!(replacement.len(), usize::from(could));
    }
}

#[test]
fn shares_follow_weights() {
    let weights = [1.0, 2.0, 3.0, 4.0];
    let weigh = |(number, weight): (u32, f64)| Candidate { reputation: weight / 4.0, ..candidate(number) };
    let fleet: Vec<_> = (0..).zip(weights).map(weigh).collect();
    let mut counts = BTreeMap::new();
    const DRAWS: u32 = 20_000;
    for job in 0..DRAWS {
        *counts.entry(drawn(&fleet, job, &wanted(1))[0].node.clone()).or_insert(0_u32) += 1;
    }
    for (one, weight) in fleet.iter().zip(weights) {
        let (share, expected) = (f64::from(counts[&one.node]) / f64::from(DRAWS), weight / 10.0);
        // Five standard deviations of a share of a tenth are 0.011.
        assert!((share - expected).abs() < 0.018, "{share} of {expected}");
    }
}

#[test]
fn speed_is_capped_and_newcomers_draw_with_the_median() {
    let mut fleet = fleet(5);
    fleet[4].tokens_per_second = Some(50_000.0);
    fleet[3].tokens_per_second = None;
    fleet[2] = Candidate { newcomer: true, reputation: 0.002, tokens_per_second: None, ..candidate(2) };
    let medians = Medians::of(&fleet);
    assert_eq!(medians.tokens_per_second, 50.0);
    let weights: Vec<f64> = fleet.iter().map(|one| medians.weight_of(one)).collect();
    assert_eq!(weights, [45.0, 45.0, 45.0, 45.0, 135.0]);
    assert_eq!(Medians::of(&[]).weight, 1.0);
}

#[test]
fn newcomers_get_their_share() {
    let mut fleet = fleet(60);
    fleet[0].newcomer = true;
    const DRAWS: u32 = 6_000;
    let with = (0..DRAWS).filter(|job| group(&fleet, *job).iter().any(|one| one.newcomer)).count();
    let share = with as f64 / f64::from(DRAWS);
    // One of sixty would be in a twentieth of the groups by its weight alone.
    assert!((0.17..0.22).contains(&share), "{share}");
    // An answer that isn't checked isn't theirs to give.
    assert!((0..DRAWS).all(|job| !drawn(&fleet, job, &wanted(1))[0].newcomer));
}

/// A newcomer of a class of its own gets work too, else it could never become anything else.
#[test]
fn a_lone_class_is_not_starved() {
    let mut fleet = fleet(20);
    fleet[0] = Candidate { newcomer: true, numeric_class: class("toy", "new"), ..candidate(0) };
    fleet[1].numeric_class = class("toy", "rare");
    let groups = || (0..2_000).map(|job| group(&fleet, job));
    assert!(groups().filter(|group| group.iter().any(|one| one.newcomer)).count() > 250);
    let rare = |one: &&Candidate| one.numeric_class.hardware == "rare";
    assert!(groups().filter(|group| group.iter().any(rare)).count() > 50);
}

#[test]
fn one_class_where_three_owners_have_it() {
    let mut fleet = fleet(8);
    for one in &mut fleet[4..] {
        one.numeric_class = class("toy", "b");
    }
    let mut seen = BTreeSet::new();
    for job in 0..200 {
        let classes: BTreeSet<_> = group(&fleet, job).iter().map(|one| one.numeric_class.clone()).collect();
        assert_eq!(classes.len(), 1, "job {job}");
        seen.extend(classes);
    }
    assert_eq!(seen.len(), 2, "both classes get groups");
    // Two owners are not enough for a class of their own, and the group isn't short for it.
    fleet.truncate(6);
    fleet[0].numeric_class = class("toy", "b");
    fleet[1].numeric_class = class("toy", "c");
    fleet[5].owner = fleet[4].owner.clone();
    assert!((0..200).all(|job| group(&fleet, job).len() == 3));
}

#[test]
fn only_nodes_that_can_do_all_of_a_request_are_drawn_for_it() {
    let request = |temperature, seed| JobRequest {
        model: ModelName::new("m"),
        messages: Vec::new(),
        max_tokens: 1,
        temperature,
        seed,
        knobs: Knobs::default(),
        top_logprobs: None,
        stream: None,
    };
    let (temperature, seed) = (Feature::Temperature, Feature::Seed);
    for (request, features, is_drawn) in [
        (request(0.0, None), &[][..], true),
        (request(0.7, None), &[], false),
        (request(0.7, None), &[seed], false),
        (request(0.7, None), &[temperature], true),
        (request(0.0, Some(Seed::Signed(1))), &[temperature], false),
        (request(0.0, Some(Seed::Signed(1))), &[seed], true),
        (request(0.7, Some(Seed::Signed(1))), &[temperature], false),
        (request(0.7, Some(Seed::Signed(1))), &[temperature, seed], true),
    ] {
        let mut fleet = fleet(4);
        fleet[1].features = features.iter().copied().collect();
        let terms = Terms { needed: Features::needed(&request), ..wanted(4) };
        for job in 0..20 {
            let drawn = drawn(&fleet, job, &terms);
            assert_eq!(drawn.len(), if is_drawn { 4 } else { 3 }, "the others are drawn");
            assert_eq!(drawn.contains(&&fleet[1]), is_drawn, "{request:?} {features:?}");
        }
    }
}

#[test]
fn the_clients_own_nodes_and_neighbours_are_left_out() {
    let mut fleet = fleet(4);
    fleet[0].owner = OwnerId::new("client");
    let nodes = |fleet: &[Candidate]| -> BTreeSet<String> {
        let all = (0..50).flat_map(|job| group(fleet, job).into_iter().map(|one| one.node.to_string()));
        all.collect()
    };
    assert_eq!(nodes(&fleet), ["n1", "n2", "n3"].map(str::to_owned).into());
    fleet[1].address = address(7, 1);
    fleet[2].address = address(7, 200);
    assert!((0..50).all(|job| group(&fleet, job).len() == 2));
    // The same /24 written as IPv6, and a /48.
    fleet[2].address = Some("::ffff:203.0.7.9".parse().unwrap());
    assert!((0..50).all(|job| group(&fleet, job).len() == 2));
    fleet[1].address = Some("2001:db8:1:1::1".parse().unwrap());
    assert!((0..50).all(|job| group(&fleet, job).len() == 3));
    fleet[2].address = Some("2001:db8:1:2::1".parse().unwrap());
    assert!((0..50).all(|job| group(&fleet, job).len() == 2));
    // One machine is no network, and neither are addresses that are not for rent.
    for own in
        ["127.0.0.1", "::1", "10.1.2.3", "172.20.0.5", "192.168.7.9", "169.254.1.1", "fd00:1:2::5", "fe80::7"]
    {
        for one in &mut fleet {
            one.address = Some(own.parse().unwrap());
        }
        assert!((0..50).all(|job| group(&fleet, job).len() == 3), "{own}");
    }
    for rented in ["100.64.0.9", "172.32.0.5", "192.169.7.9", "2001:db8:1::5"] {
        for one in &mut fleet {
            one.address = Some(rented.parse().unwrap());
        }
        assert!((0..50).all(|job| group(&fleet, job).len() == 1), "{rented}");
    }
}

#[test]
fn a_fleet_of_one_owner_is_the_operators_choice() {
    let mut fleet = fleet(3);
    for one in &mut fleet {
        one.owner = OwnerId::new("client");
        one.address = address(1, 1);
    }
    assert!(group(&fleet, 0).is_empty());
    assert_eq!(drawn(&fleet, 0, &Terms { distinct: Distinct::Node, ..wanted(3) }).len(), 3);
}

#[test]
fn other_jobs_get_other_groups() {
    let fleet = fleet(10);
    let groups: BTreeSet<Vec<_>> =
        (0..100).map(|job| group(&fleet, job).iter().map(|one| one.node.clone()).collect()).collect();
    assert!(groups.len() > 80, "{}", groups.len());
}
