//! Checks nodes as their owners see and manage them, and what verdicts add up to per day.

use super::sample::{accept, model, verdict};
use super::{Halves, at, must};
use infera_ledger::{
    NewNode, NodeChange, NodeDay, NodeRecord, NodeView, NodeWish, Posting, PostingEntry, Registered,
    ServingNode, Verdict, VerdictCounts, Whose,
};
use infera_types::day::{DAY_MS, Day};
use infera_types::ids::{AccountId, Digest, ModelName, NodeId, OwnerId};
use infera_types::time::Timestamp;

async fn registered(ledger: &Halves, name: &str, account: &AccountId) -> NodeRecord {
    let node =
        NewNode { name: name.to_owned(), secret: Digest::of(b"secret"), account: Some(account.clone()) };
    match must(ledger.network.register_node(&node, at(1)).await) {
        Registered::Node(record) => record,
        Registered::WrongSecret => unreachable!("a fresh name"),
    }
}

fn of(account: &AccountId) -> Whose {
    Whose::Of(OwnerId::of_account(account))
}

const fn enlist() -> NodeChange {
    NodeChange::Enlist { version: None }
}

const fn withdraw() -> NodeChange {
    NodeChange::Withdraw { version: None }
}

/// A name leads its owner and an operator to the node, and others to nothing, whether the name is taken or not.
pub async fn a_node_is_shown_to_its_owner_alone(ledger: &Halves) {
    let (owner, other) = (AccountId::fresh(), AccountId::fresh());
    let record = registered(ledger, "http://192.0.2.1:8000/*", &owner).await;
    registered(ledger, "b", &owner).await;
    let view = NodeView {
        id: record.id.clone(),
        name: record.name.clone(),
        owner: record.owner.clone(),
        registered_ms: at(1),
        withdrawn_ms: None,
        version: None,
        models: None,
        private_ms: None,
        backstop_ms: None,
    };
    let look = async |whose: &Whose, name: &str| must(ledger.roster.node_of(whose, name).await);
    for whose in [of(&owner), Whose::Anyone] {
        assert_eq!(look(&whose, &record.name).await, Some(view.clone()));
        assert_eq!(look(&whose, "nothing").await, None);
    }
    assert_eq!(look(&of(&other), &record.name).await, None);
    assert_eq!(must(ledger.roster.count_of(&OwnerId::of_account(&owner)).await), 2);
    assert_eq!(must(ledger.roster.count_of(&OwnerId::of_account(&other)).await), 0);

    for change in [enlist(), withdraw(), NodeChange::OfferModels(Vec::new())] {
        assert_eq!(must(ledger.roster.change_node(&of(&other), &record.name, &change, at(2)).await), None);
        assert_eq!(must(ledger.roster.change_node(&of(&owner), "nothing", &change, at(2)).await), None);
    }
    assert_eq!(look(&of(&owner), &record.name).await, Some(view), "others changed nothing");
    must(ledger.nodes.revoke_node(&record.id, at(3)).await);
    for whose in [of(&owner), Whose::Anyone] {
        assert_eq!(look(&whose, &record.name).await, None, "revoked");
        assert_eq!(must(ledger.roster.change_node(&whose, &record.name, &enlist(), at(4)).await), None);
    }
    assert_eq!(must(ledger.roster.count_of(&OwnerId::of_account(&owner)).await), 2, "its name stays taken");
}

/// Each change is seen at once, by the owner and by draws; the first time of withdrawing stays until the node is enlisted.
pub async fn an_owner_says_what_its_node_is_drawn_for(ledger: &Halves) {
    let owner = AccountId::fresh();
    let node = registered(ledger, "a", &owner).await;
    registered(ledger, "silent", &owner).await;
    let change = async |change: NodeChange, now: u64| {
        must(ledger.roster.change_node(&of(&owner), "a", &change, at(now)).await)
    };
    let version = |version: &str| Some(version.to_owned());
    assert_eq!(must(ledger.node_reader.wishes().await), [], "nothing was said");
    let first = change(NodeChange::Enlist { version: version("1.0") }, 2).await;
    assert!(first.is_some_and(|view| view.withdrawn_ms.is_none() && view.version == version("1.0")));
    assert_eq!(must(ledger.node_reader.wishes().await), [], "that is what it was anyway");

    for now in [3, 4] {
        let view = change(withdraw(), now).await;
        assert!(view.is_some_and(|view| view.withdrawn_ms == Some(at(3)) && view.version == version("1.0")));
    }
    let models = vec![model(), ModelName::new("another")];
    let view = change(NodeChange::OfferModels(models.clone()), 5).await;
    assert!(view.is_some_and(|view| view.models.as_deref() == Some(&models[..])));
    let wish = NodeWish { node: node.id.clone(), is_withdrawn: true, models: Some(models.clone()) };
    assert!(!wish.allows(&model()));
    assert_eq!(must(ledger.node_reader.wishes().await), [wish]);

    let back = change(NodeChange::Enlist { version: version("1.1") }, 6).await;
    assert!(back.is_some_and(|view| view.withdrawn_ms.is_none() && view.version == version("1.1")));
    let wish = NodeWish { node: node.id.clone(), is_withdrawn: false, models: Some(models) };
    assert!(wish.allows(&model()) && !wish.allows(&ModelName::new("a third")));
    assert_eq!(must(ledger.node_reader.wishes().await), [wish]);
    assert!(change(NodeChange::OfferModels(Vec::new()), 7).await.is_some());
    assert!(must(ledger.node_reader.wishes().await).iter().all(|wish| !wish.allows(&model())), "for none");
    must(ledger.nodes.revoke_node(&node.id, at(8)).await);
    assert_eq!(must(ledger.node_reader.wishes().await), []);
}

/// Registering a node by its secret again, as every start of it does, is no change of its owner's wishes.
pub async fn what_a_nodes_owner_said_survives_its_registration(ledger: &Halves) {
    let owner = AccountId::fresh();
    let record = registered(ledger, "a", &owner).await;
    must(ledger.roster.change_node(&of(&owner), "a", &withdraw(), at(2)).await);
    assert_eq!(registered(ledger, "a", &owner).await, record);
    let view = must(ledger.roster.node_of(&of(&owner), "a").await);
    assert_eq!(view.and_then(|view| view.withdrawn_ms), Some(at(2)));
}

async fn fold_all(ledger: &Halves) {
    while must(ledger.standing.project(2, at(0)).await) > 0 {}
}

/// Days begin at midnight in UTC; folding in parts gives the same sums; each interval with a VALID counts once.
pub async fn a_nodes_days_are_what_its_verdicts_add_up_to(ledger: &Halves) {
    let midnight = (at(0).as_millis() / DAY_MS + 1) * DAY_MS;
    let job = accept(ledger).await;
    let (node, other) = (NodeId::fresh(), NodeId::fresh());
    let minute = |minute: u64| Timestamp::from_millis(midnight + minute * 60_000);
    let judged = |node: &NodeId, word, posted_ms| Posting {
        posted_ms,
        ..verdict(infera_types::ids::JobId::new(), node, word, 0)
    };
    let before = Timestamp::from_millis(midnight - 1);
    let postings = [
        judged(&node, Verdict::Valid, before),
        judged(&node, Verdict::Valid, minute(0)),
        judged(&node, Verdict::Valid, minute(9)),
        judged(&node, Verdict::Valid, minute(10)),
        judged(&node, Verdict::Valid, minute(8 * 60)),
        judged(&node, Verdict::Valid, minute(24 * 60 - 1)),
        judged(&node, Verdict::Missed, minute(30)),
        judged(&node, Verdict::Invalid, minute(40)),
        judged(&node, Verdict::Inconclusive, minute(50)),
        judged(&node, Verdict::Neutral, minute(60)),
        judged(&other, Verdict::Valid, minute(70)),
    ];
    for posting in &postings {
        must(ledger.owner.post(posting.job_id, std::slice::from_ref(posting), false).await);
    }
    must(ledger.owner.post(job.id, &[usage_of(&job.account, job.id)], false).await);
    let day = Day::new(midnight / DAY_MS);
    assert_eq!(must(ledger.node_reader.days(&node, day.before(9)).await), [], "nothing is folded yet");
    fold_all(ledger).await;
    let eve = NodeDay {
        millipoints: 500,
        tokens: 3,
        verdicts: VerdictCounts { valid: 1, ..VerdictCounts::default() },
        valid_intervals: [0, 0, 1 << 47],
        ..NodeDay::empty(day.before(1))
    };
    let whole = NodeDay {
        millipoints: 2_500,
        tokens: 15,
        verdicts: VerdictCounts { valid: 5, invalid: 1, inconclusive: 1, missed: 1, neutral: 1 },
        valid_intervals: [0b11, 1, 1 << 47],
        ..NodeDay::empty(day)
    };
    assert_eq!(must(ledger.node_reader.days(&node, day.before(9)).await), [eve, whole]);
    assert_eq!(must(ledger.node_reader.days(&node, day).await), [whole]);
    assert_eq!(must(ledger.node_reader.days(&other, day).await).len(), 1);
    assert_eq!(must(ledger.node_reader.days(&NodeId::fresh(), Day::new(0)).await), []);
    let balance = must(ledger.standing.balance(node.as_str()).await);
    assert_eq!(balance.millipoints, eve.millipoints + whole.millipoints, "days and balances agree");
    assert_eq!(balance.completion_tokens, eve.tokens + whole.tokens);
    let standings = must(ledger.node_reader.standings_of(&node).await);
    assert_eq!(standings.iter().map(|standing| standing.valid_count).collect::<Vec<_>>(), [6]);

    // Later postings are added to what is there.
    let more = judged(&node, Verdict::Valid, minute(24 * 60 - 2));
    must(ledger.owner.post(more.job_id, std::slice::from_ref(&more), false).await);
    fold_all(ledger).await;
    let added = must(ledger.node_reader.days(&node, day).await);
    assert_eq!(added[0].verdicts.valid, 6);
    assert_eq!((added[0].millipoints, added[0].valid_intervals), (3_000, whole.valid_intervals));
}

fn usage_of(account: &AccountId, job: infera_types::ids::JobId) -> Posting {
    let entry = PostingEntry::Usage { account: account.clone(), prompt_tokens: 5, completion_tokens: 7 };
    Posting { id: format!("usage:{job}"), job_id: job, posted_ms: at(5), entry }
}

/// A node is listed for a model while its record is recent and it may be drawn for it, latest first.
pub async fn nodes_that_served_lately_are_listed(ledger: &Halves) {
    let owner = AccountId::fresh();
    let (early, late) = (registered(ledger, "a", &owner).await, registered(ledger, "b", &owner).await);
    for (node, now) in [(&early.id, 10), (&late.id, 20), (&NodeId::fresh(), 30)] {
        let posting = verdict(infera_types::ids::JobId::new(), node, Verdict::Valid, now);
        must(ledger.owner.post(posting.job_id, &[posting], false).await);
    }
    fold_all(ledger).await;
    let serving =
        |node: &NodeRecord, now| ServingNode { node: node.id.clone(), model: model(), judged_ms: at(now) };
    let listed = async |since: u64, limit| must(ledger.node_reader.serving(at(since), limit).await);
    assert_eq!(listed(10, 9).await, [serving(&late, 20), serving(&early, 10)], "unregistered nodes aren't");
    assert_eq!(listed(11, 9).await, [serving(&late, 20)]);
    assert_eq!(listed(0, 1).await, [serving(&late, 20)]);
    let change = async |name: &str, change: NodeChange| {
        must(ledger.roster.change_node(&of(&owner), name, &change, at(40)).await);
    };
    change("b", NodeChange::OfferModels(vec![ModelName::new("another")])).await;
    assert_eq!(listed(0, 9).await, [serving(&early, 10)]);
    change("a", withdraw()).await;
    assert_eq!(listed(0, 9).await, []);
    change("a", enlist()).await;
    change("b", NodeChange::OfferModels(vec![model()])).await;
    assert_eq!(listed(0, 9).await.len(), 2);
}
