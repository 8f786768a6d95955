//! Which nodes a job may go to: an account's own, a group's, strangers', and the network's backstops only where strangers can't
//! fill a group.

use std::collections::BTreeSet;
use std::net::IpAddr;

use infera_ledger::NodePool;
use infera_types::features::Features;
use infera_types::ids::{AccountId, AssignmentId, Digest, GroupId, NodeId, OwnerId};
use infera_types::job::{AssignmentRecord, AssignmentState};
use infera_types::numbers::NumericClass;
use infera_types::time::Timestamp;
use infera_verifier::decisions::group_draw::{
    Candidate, Distinct, Draw, Filled, Medians, Member, fill, machines,
};
use infera_verifier::decisions::lanes::own_held_max;
use proptest::prelude::*;

use super::sample::class;

fn candidate(number: u32, owner: &str) -> Candidate {
    Candidate {
        node: NodeId::new(format!("n{number}")),
        owner: OwnerId::new(owner),
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

fn own() -> NodePool {
    NodePool::Account(AccountId::new("client"))
}

fn lab() -> NodePool {
    NodePool::Group(GroupId::new("grp_lab"))
}

/// What differs from an ordinary draw for a job of the account `client`.
struct Terms {
    pool: NodePool,
    wanted: usize,
    members: Vec<Member>,
    classes: Vec<NumericClass>,
}

fn of(pool: NodePool) -> Terms {
    Terms { pool, wanted: 3, members: Vec::new(), classes: Vec::new() }
}

fn filled(candidates: &[Candidate], job: u32, terms: &Terms) -> Filled {
    let (key, account, medians) =
        (Digest::of(&job.to_le_bytes()), AccountId::new("client"), Medians::of(candidates));
    let distinct = if terms.pool.is_open() { Distinct::Owner } else { Distinct::Machine };
    let draw = Draw {
        key: &key,
        account: &account,
        pool: &terms.pool,
        needed: &Features::default(),
        wanted: terms.wanted,
        members: &terms.members,
        excluded_owners: &[],
        excluded_nodes: &[],
        classes: &terms.classes,
        distinct,
        medians: &medians,
    };
    fill(candidates, &draw, &[])
}

fn group(candidates: &[Candidate], job: u32, terms: &Terms) -> Option<Vec<Candidate>> {
    match filled(candidates, job, terms) {
        Filled::Drawn(indexes) => Some(indexes.iter().map(|index| candidates[*index].clone()).collect()),
        Filled::NoRoom | Filled::TooFew => None,
    }
}

/// As verifiers see a backstop in the open pool.
fn backstop(number: u32) -> Candidate {
    Candidate { is_backstop: true, ..candidate(number, OwnerId::network().as_str()) }
}

prop_compose! {
    /// Any node of a small world, where owners, machines, groups and addresses collide often.
    fn any_candidate()(
        owner in 0..6_u32,
        machine in proptest::option::of(0..4_u8),
        address in proptest::option::of(0..4_u8),
        is_private in proptest::bool::weighted(0.3),
        is_backstop in proptest::bool::weighted(0.3),
        in_lab in proptest::bool::weighted(0.4),
        free_slots in 0..3_u32,
        newcomer in proptest::bool::weighted(0.3),
        ejected in proptest::bool::weighted(0.1),
    ) -> Candidate {
        let owner = if owner == 0 { "client".to_owned() } else { format!("o{owner}") };
        Candidate {
            machine: machine.map(|machine| format!("m{machine}")),
            address: address.map(|host| IpAddr::from([203, 0, 113, host])),
            is_private,
            is_backstop,
            groups: if in_lab { vec![GroupId::new("grp_lab")] } else { Vec::new() },
            free_slots,
            newcomer,
            ejected,
            ..candidate(0, &owner)
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

/// A fleet as verifiers see it in the open pool: a backstop's owner is the network.
fn in_the_open(mut fleet: Vec<Candidate>) -> Vec<Candidate> {
    for one in fleet.iter_mut().filter(|one| one.is_backstop) {
        one.owner = OwnerId::network();
        one.address = None;
    }
    fleet
}

fn are_one_machine(one: &Candidate, other: &Candidate) -> bool {
    match (&one.machine, &other.machine) {
        (Some(one), Some(other)) => one == other,
        _ => one.address.is_some() && one.address == other.address,
    }
}

/// The owners of strangers' nodes that could ever be drawn for a job of the account `client`, each of a network of its own.
fn strangers(fleet: &[Candidate]) -> BTreeSet<&OwnerId> {
    let fits = |one: &&Candidate| {
        !one.ejected && !one.is_private && !one.is_backstop && one.owner.as_str() != "client"
    };
    fleet.iter().filter(fits).map(|one| &one.owner).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn classes_narrow_a_draw_only_where_they_can_fill_it(
        mut fleet in any_fleet(),
        hardware in proptest::collection::vec(0_usize..3, 14),
        wanted in 1_usize..4,
        job in 0_u32..100,
    ) {
        for (one, hardware) in fleet.iter_mut().zip(hardware) {
            one.numeric_class = class("toy", ["a", "b", "c"][hardware]);
        }
        let fleet = in_the_open(fleet);
        let all = filled(&fleet, job, &Terms { wanted, ..of(NodePool::Open) });
        let classes = vec![class("toy", "a"), class("toy", "b")];
        let narrowed = filled(&fleet, job, &Terms { wanted, classes: classes.clone(), ..of(NodePool::Open) });
        prop_assert!(narrowed != Filled::TooFew || all == Filled::TooFew, "it never fails for want of a class");
        if let Filled::Drawn(drawn) = &narrowed {
            let are_alike = drawn.iter().all(|index| classes.contains(&fleet[*index].numeric_class));
            prop_assert!(are_alike || narrowed == all, "{:?} is neither of the classes nor drawn as ever", drawn);
        }
    }

    /// A job that is for its account's nodes, or a group's, goes to no other node, whatever else there is.
    #[test]
    fn no_strangers_node_is_in_a_group_of_ones_own(fleet in any_fleet(), job: u32, wanted in 0..5_usize) {
        for pool in [own(), lab()] {
            let drawn = group(&fleet, job, &Terms { wanted, ..of(pool.clone()) });
            for one in drawn.iter().flatten() {
                let is_in = match &pool {
                    NodePool::Group(group) => one.groups.contains(group),
                    _ => one.owner.as_str() == "client",
                };
                prop_assert!(is_in && !one.ejected && one.free_slots > 0, "{one:?} for {pool:?}");
            }
        }
    }

    #[test]
    fn members_of_ones_own_group_are_on_different_machines(fleet in any_fleet(), job: u32) {
        for pool in [own(), lab()] {
            let drawn = group(&fleet, job, &of(pool.clone())).unwrap_or_default();
            for (place, one) in drawn.iter().enumerate() {
                for other in &drawn[..place] {
                    prop_assert!(one.node != other.node && !are_one_machine(one, other), "{drawn:?}");
                }
            }
            // What is counted for the client is what a group can be drawn from.
            let (nodes, machines) = machines(&fleet, &pool);
            prop_assert!(machines <= nodes);
            if filled(&fleet, job, &of(pool)) == Filled::TooFew {
                prop_assert!(machines < 6, "six machines always hold three that differ");
            }
        }
    }

    #[test]
    fn no_private_node_is_drawn_for_strangers(fleet in any_fleet(), job: u32, wanted in 0..5_usize) {
        let drawn = group(&in_the_open(fleet), job, &Terms { wanted, ..of(NodePool::Open) });
        prop_assert!(drawn.iter().flatten().all(|one| !one.is_private && one.owner.as_str() != "client"));
    }

    /// While three strangers' owners have nodes that could be drawn, even if all are busy now, no backstop is; and there is never
    /// more than one in a group, since all are the network's.
    #[test]
    fn no_backstop_is_drawn_while_strangers_can_fill_the_group(fleet in any_fleet(), job: u32, wanted in 1..4_usize) {
        // Owners alone decide, so that no two are of one network.
        let mut fleet = in_the_open(fleet);
        fleet.iter_mut().for_each(|one| one.address = None);
        let terms = Terms { wanted, ..of(NodePool::Open) };
        let enough = strangers(&fleet).len() >= wanted;
        match filled(&fleet, job, &terms) {
            Filled::Drawn(indexes) => {
                let backstops = indexes.iter().filter(|index| fleet[**index].is_backstop).count();
                prop_assert!(backstops <= 1);
                prop_assert!(!enough || backstops == 0, "{backstops} although strangers could");
            }
            Filled::NoRoom => {}
            Filled::TooFew => prop_assert!(!enough),
        }
    }

    /// Where strangers can't fill a group a backstop does, if one is there.
    #[test]
    fn a_backstop_fills_what_strangers_leave_open(owners in 0..3_u32, job: u32, wanted in 1..4_usize) {
        let mut fleet: Vec<_> = (0..owners).map(|number| candidate(number, &format!("o{number}"))).collect();
        fleet.push(backstop(8));
        fleet.push(backstop(9));
        let drawn = group(&fleet, job, &Terms { wanted, ..of(NodePool::Open) });
        let have = owners as usize;
        let expected = if have >= wanted { Some(0) } else if have + 1 == wanted { Some(1) } else { None };
        let backstops = drawn.map(|group| group.iter().filter(|one| one.is_backstop).count());
        prop_assert_eq!(backstops, expected);
    }
}

#[test]
fn busy_strangers_are_waited_for() {
    let mut fleet: Vec<_> = (0..3).map(|number| candidate(number, &format!("o{number}"))).collect();
    fleet.push(backstop(9));
    fleet[0].free_slots = 0;
    assert_eq!(filled(&fleet, 1, &of(NodePool::Open)), Filled::NoRoom);
    fleet.remove(0);
    assert!(
        group(&fleet, 1, &of(NodePool::Open)).is_some_and(|group| group.iter().any(|one| one.is_backstop))
    );
    // A busy backstop is waited for as well, where it is needed.
    fleet[2].free_slots = 0;
    assert_eq!(filled(&fleet, 1, &of(NodePool::Open)), Filled::NoRoom);
    fleet.remove(2);
    assert_eq!(filled(&fleet, 1, &of(NodePool::Open)), Filled::TooFew);
}

/// A replacement is a backstop only where there is no other, and never a second one.
#[test]
fn a_group_has_one_backstop_at_most() {
    let fleet = [candidate(0, "o0"), candidate(1, "o1"), backstop(8), backstop(9)];
    let one = |members: &[usize]| Terms {
        wanted: 1,
        members: members.iter().map(|index| Member::from(&fleet[*index])).collect(),
        ..of(NodePool::Open)
    };
    let drawn = |members: &[usize]| group(&fleet, 1, &one(members)).map(|group| group[0].node.to_string());
    assert_eq!(drawn(&[0]).as_deref(), Some("n1"));
    assert!(drawn(&[0, 1]).is_some_and(|node| ["n8", "n9"].contains(&node.as_str())));
    assert_eq!(drawn(&[0, 1, 2]), None);
}

/// What takes the place of a node after tokens were shown is of the classes of those that agreed, busy or not, and of another class
/// only where these have too few.
#[test]
fn replacements_are_of_the_classes_that_agreed_while_there_are_enough() {
    let of_class = |number: u32, hardware: &str, free_slots| Candidate {
        numeric_class: class("toy", hardware),
        free_slots,
        ..candidate(number, &format!("o{number}"))
    };
    let replace = |fleet: &[Candidate], classes: &[&str]| {
        let classes = classes.iter().map(|hardware| class("toy", hardware)).collect();
        filled(fleet, 1, &Terms { wanted: 1, classes, ..of(NodePool::Open) })
    };
    // Were it not for the classes, others would be the likelier.
    let mut fleet: Vec<_> = (0..20).map(|number| of_class(number, "b", 1)).collect();
    fleet.push(of_class(20, "a", 1));
    fleet.push(of_class(21, "c", 1));
    assert_eq!(replace(&fleet, &["a"]), Filled::Drawn(vec![20]));
    assert!(
        matches!(replace(&fleet, &["a", "c"]), Filled::Drawn(drawn) if [vec![20], vec![21]].contains(&drawn))
    );
    assert!(matches!(replace(&fleet, &[]), Filled::Drawn(drawn) if drawn[0] < 20));
    fleet[20].free_slots = 0;
    assert_eq!(replace(&fleet, &["a"]), Filled::NoRoom, "its room is waited for");
    assert!(matches!(replace(&fleet, &["d"]), Filled::Drawn(_)), "there is none of the class");
    fleet[20].ejected = true;
    assert!(matches!(replace(&fleet, &["a"]), Filled::Drawn(_)), "there is none that may be asked");
}

/// In a pool of one's own a backstop is a node like others.
#[test]
fn an_owner_may_use_its_backstops_itself() {
    let fleet: Vec<_> = (0..3)
        .map(|number| Candidate { is_backstop: true, is_private: true, ..candidate(number, "client") })
        .collect();
    assert_eq!(group(&fleet, 1, &of(own())).map(|group| group.len()), Some(3));
    assert_eq!(filled(&fleet, 1, &of(NodePool::Open)), Filled::TooFew);
}

#[test]
fn machines_are_told_apart_by_what_nodes_say_and_else_by_their_addresses() {
    let at = |machine: Option<&str>, address: Option<&str>| Candidate {
        machine: machine.map(str::to_owned),
        address: address.map(|address| address.parse().unwrap()),
        ..candidate(0, "client")
    };
    for (one, other, differ) in [
        (at(Some("a"), None), at(Some("b"), None), true),
        (at(Some("a"), None), at(Some("a"), None), false),
        // Several machines may be behind one address, and one machine at two.
        (at(Some("a"), Some("192.0.2.1")), at(Some("b"), Some("192.0.2.1")), true),
        (at(Some("a"), Some("192.0.2.1")), at(Some("a"), Some("192.0.2.2")), false),
        // One that names none is known by its address alone.
        (at(None, Some("192.0.2.1")), at(Some("b"), Some("192.0.2.1")), false),
        (at(None, Some("192.0.2.1")), at(None, Some("::ffff:192.0.2.1")), false),
        (at(None, Some("192.0.2.1")), at(None, Some("192.0.2.2")), true),
        (at(None, Some("127.0.0.1")), at(None, Some("127.0.0.1")), false),
        (at(None, None), at(None, None), true),
    ] {
        let fleet = [one, Candidate { node: NodeId::new("n1"), ..other }];
        let both = group(&fleet, 1, &Terms { wanted: 2, ..of(own()) });
        assert_eq!(both.is_some(), differ, "{fleet:?}");
        assert_eq!(machines(&fleet, &own()), (2, if differ { 2 } else { 1 }));
    }
}

/// A group whose members share an owner was drawn by machines, so they are judged as different parties.
#[test]
fn a_group_says_itself_how_it_was_drawn() {
    let record = |node: &str, owner: &str, state| AssignmentRecord {
        id: AssignmentId::new(),
        node: NodeId::new(node),
        owner: OwnerId::new(owner),
        state,
        sent_ms: Timestamp::default(),
        budget_ms: 1,
        replica: None,
    };
    let (answered, neutral) = (AssignmentState::Answered, AssignmentState::Neutral);
    for (others_owner, state, expected) in [
        ("o1", answered, Distinct::Machine),
        ("o2", answered, Distinct::Owner),
        // One that was busy is replaced by another node of its owner, too.
        ("o1", neutral, Distinct::Owner),
    ] {
        let group = [record("n1", "o1", answered), record("n2", others_owner, state)];
        assert_eq!(Distinct::Owner.of_group(&group), expected, "{others_owner} {state:?}");
        assert_eq!(Distinct::Node.of_group(&group), Distinct::Node);
    }
}

/// Jobs of one's own are taken whatever strangers' nodes do, and never without a bound.
#[test]
fn what_is_held_for_ones_own_nodes_follows_what_runs_there() {
    for (running, held_max, expected) in [(0, 1_024, 64), (10, 1_024, 74), (2_000, 1_024, 1_024), (0, 1, 1)] {
        assert_eq!(own_held_max(running, held_max), expected, "{running} {held_max}");
    }
}
