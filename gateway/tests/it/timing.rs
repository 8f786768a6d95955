//! `Server-Timing`: its entries share out the time that a request took.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::Reply;
use crate::support::rig::{Play, Rig, chat, job, unlimited};

/// Returns the entries of a reply's header, in milliseconds.
fn entries(reply: &Reply) -> Vec<(&str, f64)> {
    let timing = reply.header("server-timing").expect("a reply that shows its time");
    let entry = |text| {
        let (name, cost) = str::split_once(text, ";dur=").expect("an entry");
        (name, cost.parse().expect("a number"))
    };
    timing.split(", ").map(entry).collect()
}

fn names<'a>(entries: &[(&'a str, f64)]) -> Vec<&'a str> {
    entries.iter().map(|(name, _)| *name).collect()
}

/// A client adds the entries up, so they must not exceed what it measured itself: no entry holds another.
#[tokio::test]
async fn the_entries_add_up_to_no_more_than_the_client_measured() {
    let rig = Rig::start(unlimited()).await;
    for (path, body, expected) in [
        ("/v1/chat/completions", chat(), &["gateway", "accept", "wait"][..]),
        ("/chat/completions", chat(), &["gateway", "accept", "wait"]),
        ("/submit_job", job(), &["gateway", "accept"]),
    ] {
        let asked = Instant::now();
        let reply = rig.post(path, &body, &[]).await;
        let measured_ms = asked.elapsed().as_secs_f64() * 1e3;
        let entries = entries(&reply);
        assert_eq!((reply.status, names(&entries)), (200, expected.to_vec()), "{path}");
        let sum: f64 = entries.iter().map(|(_, cost)| cost).sum();
        assert!(
            entries.iter().all(|(_, cost)| *cost > 0.0) && sum <= measured_ms,
            "{entries:?} of {measured_ms}"
        );
    }
    let refused = rig.send("POST", "/v1/chat/completions", &[], b"{}").await;
    assert_eq!((refused.status, names(&entries(&refused))), (401, vec!["gateway"]));
}

/// Errors share their time out too: what a client waited for the network is not shown as the gateway's own.
#[tokio::test]
async fn an_error_shows_what_its_client_waited_for() {
    const WAITED: Duration = Duration::from_secs(1);
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let mut body = chat();
    body["request_timeout_time"] = json!(WAITED.as_secs());
    let late = rig.post("/v1/chat/completions", &body, &[]).await;
    let entries = entries(&late);
    assert_eq!((late.status, names(&entries)), (504, vec!["gateway", "accept", "wait"]));
    assert!(entries[2].1 >= WAITED.as_secs_f64() * 1e3 && entries[0].1 < entries[2].1, "{entries:?}");
}

/// The look-up of an earlier job takes the commit's place where an answer is repeated.
#[tokio::test]
async fn a_repeated_answer_shows_its_look_up() {
    let rig = Rig::start(unlimited()).await;
    let key = [("idempotency-key", "once")];
    rig.post("/v1/chat/completions", &chat(), &key).await;
    let again = rig.post("/v1/chat/completions", &chat(), &key).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(names(&entries(&again)), vec!["gateway", "accept", "wait"]);
}
