//! How jobs wait for their turn: which go to the broker at once, what they are counted under, and in which tier.

use std::sync::atomic::Ordering;
use std::time::Duration;

use infera_broker::{Broker as _, topology};
use infera_gateway::Config;
use infera_gateway::access::{ApiKey, share_orders};
use infera_ledger::{Feeding as _, Flow, HeldQuestion};
use infera_types::ids::ModelName;
use infera_types::service::{Lane, ServiceTier};
use infera_types::time::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::client;
use crate::support::rig::{MODEL, Play, Rig, chat, job, new_key, unlimited};

fn with(mut body: Value, tier: Value) -> Value {
    body["service_tier"] = tier;
    body
}

async fn held(rig: &Rig, lane: Lane) -> Vec<Flow> {
    let question =
        HeldQuestion { model: ModelName::new(MODEL), lane, after: None, flows_max: 99, jobs_max: 99 };
    rig.ledger.held(&question, Timestamp::now()).await.expect("a ledger")
}

/// Returns how many jobs of the lane were offered, and how many are held.
async fn waiting(rig: &Rig, lane: Lane) -> (u64, u64) {
    let kinds = rig.ledger.waiting(u32::MAX).await.expect("a ledger");
    kinds.iter().find(|kind| kind.lane == lane).map_or((0, 0), |kind| (kind.offered, kind.held))
}

async fn until_waiting(rig: &Rig, lane: Lane, wanted: (u64, u64)) {
    for _ in 0..600 {
        if waiting(rig, lane).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{lane:?} never had {wanted:?} but {:?}", waiting(rig, lane).await);
}

#[tokio::test]
async fn the_tier_that_was_used_is_told() {
    let rig = Rig::start(Config { key_ttl_ms: 0, ..unlimited() }).await;
    for path in ["/v1/chat/completions", "/chat/completions"] {
        for (asked, used) in [
            (json!(null), "default"),
            (json!("auto"), "default"),
            (json!("default"), "default"),
            (json!("flex"), "flex"),
        ] {
            let reply = rig.post(path, &with(chat(), asked.clone()), &[]).await;
            assert_eq!((reply.status, &reply.json()["service_tier"]), (200, &json!(used)), "{path} {asked}");
        }
        assert_eq!(rig.post(path, &chat(), &[]).await.json()["service_tier"], "default");
    }
    let submitted = rig.post("/submit_job", &with(job(), json!("flex")), &[]).await.json();
    let path = format!("/v1/jobs/{}", submitted["job_id"].as_str().expect("an id"));
    let shown = rig.get_until(&path, |job| job["status"] == "succeeded").await.json();
    assert_eq!((&shown["service_tier"], &shown["result"]["service_tier"]), (&json!("flex"), &json!("flex")));

    for wrong in [json!("scale"), json!("Priority"), json!(""), json!(3), json!(["flex"])] {
        let refused = rig.post("/v1/chat/completions", &with(chat(), wrong.clone()), &[]).await;
        let error = refused.json()["error"].clone();
        assert_eq!((refused.status, &error["param"]), (400, &json!("service_tier")), "{wrong}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("'priority'")), "{error}");
        assert_eq!(rig.post("/submit_job", &with(job(), wrong), &[]).await.status, 422);
    }
}

#[tokio::test]
async fn priority_needs_a_right_that_an_operator_gives_and_takes() {
    let rig = Rig::start(Config { key_ttl_ms: 0, ..unlimited() }).await;
    let ask = async |path: &str, body: Value| rig.post(path, &with(body, json!("priority")), &[]).await;
    let refused = ask("/v1/chat/completions", chat()).await;
    let error = refused.json()["error"].clone();
    assert_eq!((refused.status, &error["code"]), (403, &json!("priority_not_allowed")));
    assert_eq!((&error["param"], &error["type"]), (&json!("service_tier"), &json!("invalid_request_error")));
    assert!(error["message"].as_str().is_some_and(|text| text.contains("operator")), "{error}");
    for (path, body) in [("/chat/completions", chat()), ("/submit_job", job())] {
        let refused = ask(path, body).await;
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (403, &json!("priority_not_allowed")),
            "{path}"
        );
    }
    share_orders::allow_priority(&rig.key, true, &*rig.ledger).await.expect("an order");
    let answered = ask("/v1/chat/completions", chat()).await;
    assert_eq!((answered.status, &answered.json()["service_tier"]), (200, &json!("priority")));
    assert_eq!(ask("/submit_job", job()).await.status, 200);
    let hash = ApiKey::parse(&rig.key).expect("a key").hash().to_string();
    share_orders::allow_priority(&hash, false, &*rig.ledger).await.expect("an order");
    assert_eq!(ask("/v1/chat/completions", chat()).await.status, 403);
}

/// Chats of unproven accounts of one network count together; a proven account counts by itself.
#[tokio::test]
async fn chats_beyond_a_shares_places_are_held() {
    let rig = Rig::start(Config { offered_max: 2, key_ttl_ms: 0, ..unlimited() }).await;
    rig.is_feeding.store(false, Ordering::Relaxed);
    rig.play(Play::Leave);
    // What the verifier's part leaves is acked, so it stays queued in the ledger alone.
    let (_, other) = new_key(&rig.ledger, "bob@example.com").await;
    let (known_account, known) = new_key(&rig.ledger, "eve@example.com").await;
    let body = chat().to_string();
    let mut clients = JoinSet::new();
    let mut chat_as = |key: &str| {
        let (address, key, body) = (rig.address, key.to_owned(), body.clone());
        clients.spawn(async move {
            let headers = [("api_key", key.as_str()), ("Content-Type", "application/json")];
            let reply = client::send(address, "POST", "/chat/completions", &headers, body.as_bytes()).await;
            reply.expect("a reply").status
        });
    };
    for (key, wanted) in [(&rig.key, (1, 0)), (&other, (2, 0)), (&rig.key, (2, 1)), (&known, (2, 2))] {
        chat_as(key);
        until_waiting(&rig, Lane::First, wanted).await;
    }
    let flows = held(&rig, Lane::First).await;
    assert!(flows.iter().all(|flow| flow.key.share.as_str() == "net:127.0.0.0/24"), "{flows:?}");
    share_orders::prove("Eve@Example.com", &*rig.ledger).await.expect("an order");
    share_orders::weigh("eve@example.com", 7, &*rig.ledger).await.expect("an order");
    for wanted in [(3, 2), (4, 2), (4, 3)] {
        chat_as(&known);
        until_waiting(&rig, Lane::First, wanted).await;
    }
    let flows = held(&rig, Lane::First).await;
    let own = flows.iter().find(|flow| flow.key.share.as_str() == known_account.as_str()).expect("a flow");
    assert_eq!((own.weight, own.jobs.len(), own.key.tier), (7, 1, ServiceTier::Default));
    // 30 bytes of text, and what the template puts around a message.
    let text = chat()["messages"][0]["content"].as_str().map_or(0, str::len) as u64;
    assert_eq!(own.jobs[0].prompt_tokens, text.div_ceil(4) + 4);

    rig.play(Play::Answer);
    rig.is_feeding.store(true, Ordering::Relaxed);
    until_waiting(&rig, Lane::First, (4, 0)).await;
    let answered = clients.join_next().await.expect("a client").expect("no panic");
    assert_eq!(answered, 200, "a held chat is answered in its turn");
}

/// A job that is collected later has no notice before its turn, and neither has a chat of the tier flex.
#[tokio::test]
async fn what_can_wait_is_held_until_its_turn() {
    let rig = Rig::start(unlimited()).await;
    rig.is_feeding.store(false, Ordering::Relaxed);
    let submitted = rig.post("/submit_job", &job(), &[]).await.json();
    let flex = with(chat(), json!("flex"));
    let look = async {
        until_waiting(&rig, Lane::Later, (0, 2)).await;
        assert_eq!(waiting(&rig, Lane::First).await, (0, 0));
        let queue = topology::jobs(&ModelName::new(MODEL)).name;
        assert_eq!(rig.broker.depth(&queue).await.expect("a broker"), Some(0));
        rig.is_feeding.store(true, Ordering::Relaxed);
    };
    let (waited, ()) = tokio::join!(rig.post("/v1/chat/completions", &flex, &[]), look);
    assert_eq!((waited.status, &waited.json()["service_tier"]), (200, &json!("flex")));
    let path = format!("/v1/jobs/{}", submitted["job_id"].as_str().expect("an id"));
    rig.get_until(&path, |job| job["status"] == "succeeded").await;
}
