//! What nodes earned and did, from postings in the ledger.

use std::time::Duration;

use infera_ledger::{
    JobOwner as _, NodeChange, NodeRoster as _, Posting, PostingEntry, Standing as _, Verdict, Whose,
};
use infera_types::day::{DAY_MS, Day};
use infera_types::ids::{AssignmentId, JobId, ModelName, NodeId};
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use super::node_owners::{post, register};
use crate::support::client;
use crate::support::rig::{MODEL, Rig, new_key, unlimited};

/// Posts a verdict with its points and folds it.
async fn judge(rig: &Rig, node: &NodeId, verdict: Verdict, millipoints: i64, posted_ms: Timestamp) {
    let entry = PostingEntry::Verdict {
        node: node.clone(),
        model: ModelName::new(MODEL),
        verdict,
        millipoints,
        elapsed_ms: 250,
        tokens: 3,
        on_time: true,
        numbers_outside: false,
        is_for_chosen_nodes: false,
    };
    let job_id = JobId::new();
    let posting = Posting { id: format!("verdict:{}", AssignmentId::new()), job_id, posted_ms, entry };
    rig.ledger.post(job_id, &[posting], false).await.expect("a ledger");
    while rig.ledger.project(100, Timestamp::now()).await.expect("a ledger") > 0 {}
}

/// Returns the time this many days before `now`, at the same hour.
fn days_before(now: Timestamp, days: u64) -> Timestamp {
    Timestamp::from_millis(now.as_millis() - days * DAY_MS)
}

#[tokio::test]
async fn points_are_summed_by_day_and_uptime_is_capped() {
    let rig = Rig::start(unlimited()).await;
    let (account, key) = new_key(&rig.ledger, "runner@example.com").await;
    let node = register(&rig, "a/b c", &account).await;
    let now = Timestamp::now();
    // 10,000 points of work in one interval: 6,000 of uptime would be more than 15 % of the day.
    judge(&rig, &node, Verdict::Valid, 8_500_000, days_before(now, 2)).await;
    judge(&rig, &node, Verdict::Missed, 0, days_before(now, 2)).await;
    judge(&rig, &node, Verdict::Valid, 100_000_000, now).await;
    judge(&rig, &node, Verdict::Invalid, 0, now).await;
    judge(&rig, &NodeId::fresh(), Verdict::Valid, 7_000, now).await;

    let body = json!({ "node_name": "a/b c", "last_days": 4 });
    let days = post(&rig, "/daily_points", &body, Some(&key)).await.json();
    let days = days.as_array().cloned().expect("a list");
    // The day may have changed since `now`.
    let today = Day::of(Timestamp::now());
    let at = |time: Timestamp| {
        let date = Day::of(time).to_string();
        days.iter().find(|day| day["date"] == date.as_str()).cloned().expect("listed")
    };
    assert_eq!(days.len(), 4);
    assert_eq!(days[3]["date"], today.to_string());
    assert_eq!(days[0]["date"], today.before(3).to_string(), "the oldest first");
    let expected = |time: Timestamp, [points, task, uptime]: [f64; 3]| json!({ "date": Day::of(time).to_string(), "points": points, "task_points": task, "uptime_points": uptime });
    let early = days_before(now, 2);
    assert_eq!(at(early), expected(early, [10_000.0, 8_500.0, 1_500.0]));
    assert_eq!(at(now), expected(now, [106_000.0, 100_000.0, 6_000.0]));
    assert_eq!(at(days_before(now, 1)), expected(days_before(now, 1), [0.0; 3]), "nothing is 0");

    let reply = rig.send("GET", "/node_points/a%2Fb%20c", &[("api_key", &key)], b"").await;
    let points = reply.json();
    assert_eq!(reply.status, 200, "{points}");
    assert_eq!((&points["node"], &points["node_id"]), (&json!(node), &json!("a/b c")));
    assert_eq!((&points["object"], &points["status"]), (&json!("node"), &json!("registered")));
    assert_eq!(points["points"], json!(116_000.0));
    assert_eq!((&points["task_points"], &points["uptime_points"]), (&json!(108_500.0), &json!(7_500.0)));
    assert_eq!((&points["tokens"], &points["today"]["date"]), (&json!(6), &json!(today.to_string())));

    let stats = post(&rig, "/node_jobs_stats", &json!({ "node_url": "a/b c" }), Some(&key)).await.json();
    let all = json!({ "total": 4, "valid": 2, "invalid": 1, "inconclusive": 0, "missed": 1, "neutral": 0 });
    assert_eq!(stats["jobs"], all);
    assert!(stats["today"]["total"].is_u64(), "{stats}");
    assert_eq!((&stats["by_model"][0]["model"], &stats["by_model"][0]["valid"]), (&json!(MODEL), &json!(2)));
}

#[tokio::test]
async fn a_node_without_work_has_no_points() {
    let rig = Rig::start(unlimited()).await;
    let (account, key) = new_key(&rig.ledger, "runner@example.com").await;
    register(&rig, "a", &account).await;
    let days =
        post(&rig, "/daily_points", &json!({ "node_name": "a", "last_days": 365 }), Some(&key)).await.json();
    let days = days.as_array().cloned().expect("a list");
    assert_eq!(days.len(), 365);
    assert!(days.iter().all(|day| day["points"] == json!(0.0)));
    let points = rig.send("GET", "/node_points/a", &[("api_key", &key)], b"").await.json();
    assert_eq!((&points["points"], &points["tokens"]), (&json!(0.0), &json!(0)));
    let stats = post(&rig, "/node_jobs_stats", &json!({ "node_url": "a" }), Some(&key)).await.json();
    assert_eq!((&stats["jobs"]["total"], &stats["by_model"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn everyone_may_see_which_ids_serve_which_models() {
    let rig = Rig::start(unlimited()).await;
    let (account, _) = new_key(&rig.ledger, "runner@example.com").await;
    let (early, late) = (register(&rig, "10.0.0.7", &account).await, register(&rig, "b", &account).await);
    let now = Timestamp::now();
    let hours_before = |hours: u64| Timestamp::from_millis(now.as_millis() - hours * 3_600_000);
    judge(&rig, &early, Verdict::Valid, 1, hours_before(30)).await;
    judge(&rig, &late, Verdict::Missed, 0, hours_before(2)).await;
    judge(&rig, &NodeId::fresh(), Verdict::Valid, 1, now).await;
    let look = async |hours: u32| {
        let path = format!("/node_model_mapping?time_frame={hours}");
        let reply = client::send(rig.address, "GET", &path, &[], b"").await.expect("a reply");
        assert_eq!(reply.status, 200);
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(!text.contains("10.0.0.7") && !text.contains(account.as_str()), "{text}");
        reply.json()
    };
    let nodes = |ids: &[&NodeId]| -> Value {
        Value::Object(ids.iter().map(|id| (id.to_string(), json!([MODEL]))).collect())
    };
    assert_eq!(look(24).await, json!({ "time_frame": 24, "nodes": nodes(&[&late]), "truncated": false }));
    assert_eq!(look(720).await["nodes"], nodes(&[&late, &early]));
    assert_eq!(look(1).await["nodes"], json!({}));
    let whose = Whose::Of(infera_types::ids::OwnerId::of_account(&account));
    let change = NodeChange::Withdraw { version: None };
    rig.ledger.change_node(&whose, "b", &change, Timestamp::now()).await.expect("a ledger");
    // One reading is shared for five seconds.
    for _ in 0..200 {
        if look(24).await["nodes"] == json!({}) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the node that was deregistered is still listed");
}
