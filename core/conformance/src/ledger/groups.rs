//! Checks groups of nodes, and what is noted of single nodes for draws.

use super::sample::new_job;
use super::{Halves, at, must};
use infera_ledger::{
    GroupBounds, GroupChange, GroupChanged, GroupMade, GroupOrder, NewGroup, NewNode, NodeChange, NodeRecord,
    Registered, Whose,
};
use infera_types::ids::{AccountId, Digest, GroupId, NodeId, OwnerId};

const BOUNDS: GroupBounds = GroupBounds {
    groups_max: 2,
    nodes_max: 2,
    accounts_max: 2,
    uses_max: 2,
    invitations_max: 1,
    memberships_max: 2,
};

pub(super) async fn account(ledger: &Halves, name: &str) -> AccountId {
    must(ledger.accounts.sign_up(&format!("{name}@example.org"), None, at(0)).await).account
}

async fn node(ledger: &Halves, name: &str, account: &AccountId) -> NodeRecord {
    let new = NewNode { name: name.to_owned(), secret: Digest::of(b"s"), account: Some(account.clone()) };
    match must(ledger.network.register_node(&new, at(1)).await) {
        Registered::Node(record) => record,
        Registered::WrongSecret => unreachable!("a fresh name"),
    }
}

async fn made(ledger: &Halves, account: &AccountId, name: &str) -> GroupId {
    let group = NewGroup { id: GroupId::fresh(), account: account.clone(), name: name.to_owned() };
    assert_eq!(must(ledger.groups.create_group(&group, &BOUNDS, at(2)).await), GroupMade::Made);
    group.id
}

async fn changed(ledger: &Halves, by: &AccountId, group: &GroupId, change: GroupChange) -> GroupChanged {
    let order = GroupOrder { by: by.clone(), group: group.clone(), change };
    must(ledger.groups.change_group(&order, &BOUNDS, at(3)).await)
}

fn add(node: &str) -> GroupChange {
    GroupChange::AddNode(node.to_owned())
}

fn remove(node: &str) -> GroupChange {
    GroupChange::RemoveNode(node.to_owned())
}

/// Returns the members that draws are told of.
async fn members(ledger: &Halves) -> Vec<(GroupId, NodeId)> {
    must(ledger.node_reader.pools().await).members
}

/// A group's name leads its own account to it, and no other; a name is used once, and free again after the group.
pub async fn a_group_is_made_found_and_deleted_by_its_account(ledger: &Halves) {
    let (owner, other) = (account(ledger, "owner").await, account(ledger, "other").await);
    let id = made(ledger, &owner, "lab").await;
    let again = NewGroup { id: GroupId::fresh(), account: owner.clone(), name: "lab".to_owned() };
    assert_eq!(must(ledger.groups.create_group(&again, &BOUNDS, at(2)).await), GroupMade::NameTaken);
    let same = NewGroup { id: id.clone(), ..again.clone() };
    assert_eq!(
        must(ledger.groups.create_group(&same, &BOUNDS, at(9)).await),
        GroupMade::Made,
        "the same again"
    );
    let unknown = NewGroup { account: AccountId::fresh(), ..again };
    assert_eq!(must(ledger.groups.create_group(&unknown, &BOUNDS, at(2)).await), GroupMade::NoAccount);

    let theirs = made(ledger, &other, "lab").await;
    let usable =
        async |account: &AccountId, named: &str| must(ledger.groups.usable_group(account, named).await);
    assert_eq!(usable(&owner, "lab").await, Some(id.clone()));
    assert_eq!(usable(&owner, id.as_str()).await, Some(id.clone()));
    assert_eq!(usable(&other, "lab").await, Some(theirs));
    assert_eq!(usable(&other, id.as_str()).await, None, "it is not theirs to use");
    assert_eq!(usable(&owner, "nothing").await, None);
    let listed = must(ledger.groups.groups_of(&owner, 9).await);
    assert_eq!(listed.iter().map(|group| (&group.id, group.created_ms)).collect::<Vec<_>>(), [(&id, at(2))]);

    assert!(!must(ledger.groups.delete_group(&other, &id).await), "another account's");
    let own = node(ledger, "n", &owner).await;
    assert_eq!(changed(ledger, &owner, &id, add("n")).await, GroupChanged::Done);
    assert_eq!(changed(ledger, &owner, &id, GroupChange::Allow(other.clone())).await, GroupChanged::Done);
    assert!(must(ledger.groups.delete_group(&owner, &id).await));
    assert!(!must(ledger.groups.delete_group(&owner, &id).await));
    assert_eq!(must(ledger.groups.group(&id).await), None);
    assert_eq!((usable(&owner, "lab").await, usable(&other, id.as_str()).await), (None, None));
    assert_eq!(members(ledger).await, []);
    assert_eq!(changed(ledger, &owner, &id, add(own.id.as_str())).await, GroupChanged::NoGroup);
    let fresh = made(ledger, &owner, "lab").await;
    assert_eq!(must(ledger.groups.group(&fresh).await).map(|whole| whole.nodes), Some(Vec::new()));
}

/// The group's account invites, the node's owner consents, and either can end it; a revoked node has left.
pub async fn a_node_is_in_a_group_only_if_both_want_it(ledger: &Halves) {
    let (owner, runner) = (account(ledger, "owner").await, account(ledger, "runner").await);
    let stranger = account(ledger, "stranger").await;
    let (own, theirs) = (node(ledger, "own", &owner).await, node(ledger, "theirs", &runner).await);
    let id = made(ledger, &owner, "lab").await;
    let member = |node: &NodeRecord| (id.clone(), node.id.clone());

    assert_eq!(changed(ledger, &runner, &id, add("theirs")).await, GroupChanged::NoGroup, "it wasn't asked");
    assert_eq!(
        changed(ledger, &owner, &id, add("theirs")).await,
        GroupChanged::NoNode,
        "a name is its owner's"
    );
    assert_eq!(changed(ledger, &owner, &id, add("own")).await, GroupChanged::Done);
    assert_eq!(changed(ledger, &owner, &id, add(theirs.id.as_str())).await, GroupChanged::Done);
    assert_eq!(members(ledger).await, [member(&own)], "it was only asked");
    assert_eq!(must(ledger.groups.groups_of(&runner, 9).await).len(), 1, "its owner sees the invitation");
    for by in [&stranger, &owner] {
        changed(ledger, by, &id, add(theirs.id.as_str())).await;
        assert_eq!(members(ledger).await, [member(&own)], "others can't consent for it");
    }
    assert_eq!(changed(ledger, &runner, &id, add("theirs")).await, GroupChanged::Done);
    let mut both = vec![member(&own), member(&theirs)];
    both.sort();
    let mut found = members(ledger).await;
    found.sort();
    assert_eq!(found, both);
    let whole = must(ledger.groups.group(&id).await);
    let nodes = whole.map(|whole| whole.nodes).unwrap_or_default();
    let shown: Vec<_> = nodes.iter().map(|node| (node.owner.clone(), node.willing_ms)).collect();
    assert!(shown.contains(&(OwnerId::of_account(&runner), Some(at(3)))), "{shown:?}");

    assert_eq!(changed(ledger, &stranger, &id, remove(theirs.id.as_str())).await, GroupChanged::NoGroup);
    assert_eq!(changed(ledger, &runner, &id, remove(own.id.as_str())).await, GroupChanged::NoGroup);
    assert_eq!(changed(ledger, &runner, &id, remove("theirs")).await, GroupChanged::Done);
    assert_eq!(members(ledger).await, [member(&own)]);
    assert_eq!(changed(ledger, &runner, &id, add("theirs")).await, GroupChanged::NoGroup, "it has left");
    assert_eq!(changed(ledger, &owner, &id, remove(theirs.id.as_str())).await, GroupChanged::NoNode);
    must(ledger.nodes.revoke_node(&own.id, at(5)).await);
    assert_eq!(members(ledger).await, []);
    assert_eq!(changed(ledger, &owner, &id, add("own")).await, GroupChanged::NoNode);
}

/// Groups, nodes, invitations and users have bounds, and what is there already can be repeated at them.
pub async fn groups_are_bounded(ledger: &Halves) {
    let (owner, runner) = (account(ledger, "owner").await, account(ledger, "runner").await);
    let (first, second) = (made(ledger, &owner, "a").await, made(ledger, &owner, "b").await);
    let third = NewGroup { id: GroupId::fresh(), account: owner.clone(), name: "c".to_owned() };
    assert_eq!(must(ledger.groups.create_group(&third, &BOUNDS, at(2)).await), GroupMade::Full);
    for name in ["n1", "n2", "n3"] {
        node(ledger, name, &owner).await;
    }
    for (name, outcome) in [
        ("n1", GroupChanged::Done),
        ("n2", GroupChanged::Done),
        ("n3", GroupChanged::Full),
        ("n1", GroupChanged::Done),
    ] {
        assert_eq!(changed(ledger, &owner, &first, add(name)).await, outcome, "{name}");
    }
    let theirs = node(ledger, "theirs", &runner).await;
    assert_eq!(changed(ledger, &owner, &second, add(theirs.id.as_str())).await, GroupChanged::Done);
    let other = account(ledger, "other").await;
    let elsewhere = made(ledger, &other, "x").await;
    let invited = changed(ledger, &other, &elsewhere, add(theirs.id.as_str())).await;
    assert_eq!(invited, GroupChanged::Full, "one invitation is open");
    changed(ledger, &runner, &second, add("theirs")).await;
    let invited = changed(ledger, &other, &elsewhere, add(theirs.id.as_str())).await;
    assert_eq!(invited, GroupChanged::Done, "it was answered");
    for (name, outcome) in [
        ("u1", GroupChanged::Done),
        ("u2", GroupChanged::Done),
        ("u3", GroupChanged::Full),
        ("u1", GroupChanged::Done),
    ] {
        let user = account(ledger, name).await;
        assert_eq!(changed(ledger, &owner, &first, GroupChange::Allow(user)).await, outcome, "{name}");
    }
}

/// A node joins no more groups than it may, its own account's and others' together; its owner may repeat itself at the bound, and
/// what it left is free again. Ids of groups have one length, so that the number bounds the bytes.
pub async fn the_groups_that_a_node_is_in_are_bounded(ledger: &Halves) {
    let (owner, other) = (account(ledger, "owner").await, account(ledger, "other").await);
    let runner = account(ledger, "runner").await;
    let theirs = node(ledger, "theirs", &runner).await;
    let (one, two) = (made(ledger, &owner, "a").await, made(ledger, &other, "b").await);
    let (three, own) = (made(ledger, &owner, "c").await, made(ledger, &runner, "own").await);
    let invite = async |by: &AccountId, group: &GroupId| {
        assert_eq!(changed(ledger, by, group, add(theirs.id.as_str())).await, GroupChanged::Done);
    };
    for (by, group) in [(&owner, &one), (&other, &two)] {
        invite(by, group).await;
        assert_eq!(changed(ledger, &runner, group, add("theirs")).await, GroupChanged::Done);
    }
    invite(&owner, &three).await;
    for (group, why) in [(&three, "an invitation"), (&own, "a group of its own account")] {
        assert_eq!(changed(ledger, &runner, group, add("theirs")).await, GroupChanged::Full, "{why}");
    }
    assert_eq!(changed(ledger, &runner, &one, add("theirs")).await, GroupChanged::Done, "the same again");
    assert_eq!(members(ledger).await.len(), 2);
    assert_eq!(changed(ledger, &runner, &two, remove("theirs")).await, GroupChanged::Done);
    assert_eq!(changed(ledger, &runner, &three, add("theirs")).await, GroupChanged::Done, "one is left");
    assert_eq!(changed(ledger, &runner, &own, add("theirs")).await, GroupChanged::Full);
    assert_eq!(changed(ledger, &runner, &two, add("theirs")).await, GroupChanged::NoGroup, "it wasn't asked");
    assert!([one, two, three, own].iter().all(|group| group.as_str().len() == 36));
}

/// Others let an account use so many groups, and no more: it needs not consent, so it is bounded for it. What it left is free again.
pub async fn the_groups_that_an_account_may_use_are_bounded(ledger: &Halves) {
    let user = account(ledger, "user").await;
    let allow = GroupChange::Allow(user.clone());
    let mut groups = Vec::new();
    for (name, outcome) in [("a", GroupChanged::Done), ("b", GroupChanged::Done), ("c", GroupChanged::Full)] {
        let owner = account(ledger, name).await;
        let group = made(ledger, &owner, "lab").await;
        assert_eq!(changed(ledger, &owner, &group, allow.clone()).await, outcome, "{name}");
        groups.push((owner, group));
    }
    let [(first, one), _, (third, three)] = &groups[..] else { unreachable!("three were made") };
    assert_eq!(changed(ledger, first, one, allow.clone()).await, GroupChanged::Done, "the same again");
    assert_eq!(changed(ledger, &user, one, GroupChange::Disallow(user.clone())).await, GroupChanged::Done);
    assert_eq!(changed(ledger, third, three, allow).await, GroupChanged::Done);
    // Its own are no one's to bound here.
    made(ledger, &user, "own").await;
}

/// However many groups others had before, and however many they invite its nodes to, an account's own come first in its list.
pub async fn an_accounts_own_groups_are_listed_first(ledger: &Halves) {
    let (user, runner) = (account(ledger, "user").await, account(ledger, "runner").await);
    let theirs = node(ledger, "theirs", &user).await;
    let [invited, joined, used] = [made(ledger, &runner, "x").await, made(ledger, &runner, "y").await, {
        let other = account(ledger, "other").await;
        let used = made(ledger, &other, "z").await;
        changed(ledger, &other, &used, GroupChange::Allow(user.clone())).await;
        used
    }];
    for group in [&joined, &invited] {
        assert_eq!(changed(ledger, &runner, group, add(theirs.id.as_str())).await, GroupChanged::Done);
        if group == &joined {
            assert_eq!(changed(ledger, &user, group, add("theirs")).await, GroupChanged::Done);
        }
    }
    let new = NewGroup { id: GroupId::fresh(), account: user.clone(), name: "own".to_owned() };
    assert_eq!(must(ledger.groups.create_group(&new, &BOUNDS, at(900)).await), GroupMade::Made);
    let listed = async |limit| {
        let groups = must(ledger.groups.groups_of(&user, limit).await);
        groups.into_iter().map(|group| group.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(9).await, [new.id.clone(), used, joined, invited]);
    assert_eq!(listed(1).await, std::slice::from_ref(&new.id));
    // A group counts once, by what is nearest to the account.
    assert_eq!(changed(ledger, &user, &new.id, add("theirs")).await, GroupChanged::Done);
    assert_eq!(listed(9).await.len(), 4);
}

/// The number of what draws are told changes with it, and with nothing else that is as frequent as jobs.
pub async fn what_draws_are_told_has_a_version(ledger: &Halves) {
    let owner = account(ledger, "owner").await;
    let version = async || must(ledger.node_reader.pools_version().await);
    let mut last = version().await;
    let mut grew = async |what: &str| {
        let now = version().await;
        assert!(now > last, "{what}");
        last = now;
    };
    let own = node(ledger, "own", &owner).await;
    let group = made(ledger, &owner, "lab").await;
    grew("a group").await;
    changed(ledger, &owner, &group, add("own")).await;
    grew("a node").await;
    let user = account(ledger, "user").await;
    changed(ledger, &owner, &group, GroupChange::Allow(user.clone())).await;
    grew("a user").await;
    changed(ledger, &owner, &group, GroupChange::Disallow(user.clone())).await;
    grew("a user that is gone").await;
    let theirs = node(ledger, "theirs", &user).await;
    changed(ledger, &owner, &group, add(theirs.id.as_str())).await;
    grew("an invitation").await;
    changed(ledger, &user, &group, add("theirs")).await;
    grew("a consent").await;
    changed(ledger, &user, &group, remove("theirs")).await;
    grew("a node that left").await;
    let whose = Whose::Of(OwnerId::of_account(&owner));
    let restrict = NodeChange::Restrict { is_private: true };
    must(ledger.roster.change_node(&whose, "own", &restrict, at(4)).await);
    grew("a private node").await;
    must(ledger.groups.set_backstop("own", true, at(5)).await);
    grew("a backstop").await;
    must(ledger.nodes.revoke_node(&own.id, at(6)).await);
    grew("a revoked node").await;
    assert!(must(ledger.groups.delete_group(&owner, &group).await));
    grew("a group that is gone").await;
    let before = version().await;
    node(ledger, "theirs", &user).await;
    must(
        ledger
            .roster
            .change_node(&Whose::Anyone, "theirs", &NodeChange::Withdraw { version: None }, at(7))
            .await,
    );
    must(ledger.intake.accept(new_job(&owner)).await);
    assert_eq!(version().await, before);
}

/// Only the group's account lets others use it; they may leave, and see it meanwhile.
pub async fn a_groups_users_are_those_that_its_account_allows(ledger: &Halves) {
    let (owner, user) = (account(ledger, "owner").await, account(ledger, "user").await);
    let id = made(ledger, &owner, "lab").await;
    let users = async || {
        let mut users = must(ledger.node_reader.pools().await).users;
        users.sort();
        users
    };
    let allow = |account: &AccountId| GroupChange::Allow(account.clone());
    let disallow = |account: &AccountId| GroupChange::Disallow(account.clone());
    assert_eq!(users().await, [(id.clone(), owner.clone())]);
    assert_eq!(changed(ledger, &user, &id, allow(&user)).await, GroupChanged::NoGroup);
    assert_eq!(changed(ledger, &owner, &id, allow(&AccountId::fresh())).await, GroupChanged::NoAccount);
    for _ in 0..2 {
        assert_eq!(changed(ledger, &owner, &id, allow(&user)).await, GroupChanged::Done);
    }
    let mut both = vec![(id.clone(), owner.clone()), (id.clone(), user.clone())];
    both.sort();
    assert_eq!(users().await, both);
    assert_eq!(must(ledger.groups.usable_group(&user, id.as_str()).await), Some(id.clone()));
    assert_eq!(must(ledger.groups.usable_group(&user, "lab").await), None, "its name is its account's");
    assert_eq!(must(ledger.groups.groups_of(&user, 9).await).len(), 1);
    assert_eq!(changed(ledger, &user, &id, disallow(&owner)).await, GroupChanged::NoGroup);
    assert_eq!(changed(ledger, &user, &id, disallow(&user)).await, GroupChanged::Done);
    assert_eq!(changed(ledger, &owner, &id, disallow(&user)).await, GroupChanged::NoAccount);
    assert_eq!(must(ledger.groups.usable_group(&user, id.as_str()).await), None);
}

/// An owner restricts its node, an operator makes it a backstop by its name or id; the first time of each stays.
pub async fn private_nodes_and_backstops_are_told_to_draws(ledger: &Halves) {
    let owner = account(ledger, "owner").await;
    let (one, two) = (node(ledger, "one", &owner).await, node(ledger, "two", &owner).await);
    let noted = async || {
        let pools = must(ledger.node_reader.pools().await);
        (pools.private, pools.backstops)
    };
    assert_eq!(noted().await, (Vec::new(), Vec::new()));
    let whose = Whose::Of(OwnerId::of_account(&owner));
    let restrict = async |is_private: bool, now: u64| {
        let change = NodeChange::Restrict { is_private };
        let view = must(ledger.roster.change_node(&whose, "one", &change, at(now)).await);
        view.and_then(|view| view.private_ms)
    };
    assert_eq!((restrict(true, 2).await, restrict(true, 3).await), (Some(at(2)), Some(at(2))));
    let backstop = async |named: &str, is_backstop: bool, now: u64| {
        must(ledger.groups.set_backstop(named, is_backstop, at(now)).await).map(|record| record.id)
    };
    assert_eq!(backstop("two", true, 4).await, Some(two.id.clone()));
    assert_eq!(backstop(two.id.as_str(), true, 5).await, Some(two.id.clone()));
    assert_eq!(backstop("nothing", true, 5).await, None);
    let view = must(ledger.roster.node_of(&whose, "two").await);
    assert_eq!(view.and_then(|view| view.backstop_ms), Some(at(4)));
    assert_eq!(noted().await, (vec![one.id.clone()], vec![two.id.clone()]));
    assert_eq!(restrict(false, 6).await, None);
    assert_eq!(backstop("two", false, 7).await, Some(two.id.clone()));
    assert_eq!(noted().await, (Vec::new(), Vec::new()));
    restrict(true, 8).await;
    must(ledger.nodes.revoke_node(&one.id, at(9)).await);
    assert_eq!(noted().await, (Vec::new(), Vec::new()), "a revoked node is none");
    assert_eq!(backstop("one", true, 10).await, None);
}

/// A node that is named like another one's id is neither made a backstop, nor invited, nor removed in its place.
pub async fn an_id_is_no_name(ledger: &Halves) {
    let (owner, eve) = (account(ledger, "owner").await, account(ledger, "eve").await);
    let real = node(ledger, "real", &owner).await;
    let fake = node(ledger, real.id.as_str(), &eve).await;
    let backstops = async || must(ledger.node_reader.pools().await).backstops;
    for _ in 0..2 {
        let made = must(ledger.groups.set_backstop(real.id.as_str(), true, at(4)).await);
        assert_eq!(made.map(|record| record.id), Some(real.id.clone()));
        assert_eq!(backstops().await, std::slice::from_ref(&real.id));
    }
    assert!(must(ledger.groups.set_backstop(fake.id.as_str(), true, at(4)).await).is_some());
    assert!(must(ledger.groups.set_backstop(real.id.as_str(), false, at(5)).await).is_some());
    assert_eq!(backstops().await, std::slice::from_ref(&fake.id), "its id ends no other's");
    let group = made(ledger, &eve, "lab").await;
    assert_eq!(changed(ledger, &eve, &group, add(real.id.as_str())).await, GroupChanged::Done);
    assert_eq!(members(ledger).await, [], "the other one was invited");
    assert_eq!(changed(ledger, &eve, &group, add(fake.id.as_str())).await, GroupChanged::Done);
    assert_eq!(changed(ledger, &eve, &group, remove(real.id.as_str())).await, GroupChanged::Done);
    assert_eq!(members(ledger).await, [(group, fake.id)]);
    must(ledger.nodes.revoke_node(&real.id, at(6)).await);
    assert_eq!(must(ledger.groups.set_backstop(real.id.as_str(), true, at(7)).await), None, "it is revoked");
}
