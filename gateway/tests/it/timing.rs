//! `Server-Timing`: its entries share out the time that a request took.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::client::{Reply, read};
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

/// A client that sends its body late, or not at all, isn't told that the gateway took that time.
#[tokio::test]
async fn the_time_that_a_client_takes_to_send_its_body_is_no_ones_entry() {
    const PAUSE: Duration = Duration::from_millis(700);
    let rig = Rig::start(unlimited()).await;
    let body = chat().to_string();
    for (key, status) in [(rig.key.as_str(), 200), ("inf_wrong", 401)] {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\napi_key: {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
        let (first, rest) = body.split_at(10);
        stream.write_all(format!("{head}{first}").as_bytes()).await.expect("sent");
        tokio::time::sleep(PAUSE).await;
        stream.write_all(rest.as_bytes()).await.expect("sent");
        let reply = read(&mut stream).await.expect("a reply");
        let sum: f64 = entries(&reply).iter().map(|(_, cost)| cost).sum();
        assert_eq!(reply.status, status);
        assert!(sum < PAUSE.as_secs_f64() * 1e3 / 2.0, "{:?}", entries(&reply));
    }
}

/// What a client waits for is the network's time also where it looks at a job, and where it prefers to be told of one.
#[tokio::test]
async fn a_wait_for_a_jobs_end_is_shown_as_a_wait() {
    const WAITED_MS: f64 = 1_000.0;
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let preferred = rig.post("/v1/chat/completions", &chat(), &[("Prefer", "wait=1")]).await;
    let id = preferred.header("x-job-id").expect("a job");
    let shown = rig.get(&format!("/v1/jobs/{id}?wait=1")).await;
    let collected = rig.get("/v1/jobs/results?wait=1").await;
    assert_eq!((preferred.status, shown.status, collected.status), (202, 200, 200));
    for reply in [&preferred, &shown, &collected] {
        let entries = entries(reply);
        let of = |name| entries.iter().find(|(entry, _)| *entry == name).map_or(0.0, |(_, cost)| *cost);
        assert!(of("wait") >= WAITED_MS && of("gateway") < WAITED_MS / 2.0, "{entries:?}");
    }
    let at_once = rig.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(names(&entries(&at_once)), vec!["gateway"]);
}
