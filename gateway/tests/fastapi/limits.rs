//! Clients that send more than they may, at their default settings: OpenAI's asynchronous client, and one that obeys
//! `Retry-After`. All is as in production, but for the scale: a part of the requests, of the limit and of the window, so that
//! as many come back in a second as always do.

use infera_gateway::Config;
use serde_json::Value;

use crate::python;
use crate::support::rig::Rig;

/// Returns into how many parts the scale is cut. `LIMIT_PARTS=1` plays everything in real size and time.
fn parts(usual: u32) -> u32 {
    std::env::var("LIMIT_PARTS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn config(parts: u32) -> Config {
    let whole = Config::default();
    Config {
        requests_per_minute: whole.requests_per_minute / parts,
        limit_window_ms: whole.limit_window_ms / u64::from(parts),
        ..whole
    }
}

#[expect(clippy::print_stdout, reason = "the figures are what the test shows")]
async fn play(rig: &Rig, kind: &'static str, total: u32, at_once: &'static str) -> Value {
    let (url, key, total) = (format!("http://{}", rig.address), rig.key.clone(), total.to_string());
    let shown = total.clone();
    let played = tokio::task::spawn_blocking(move || {
        python::run("openai_limits.py", &[kind, &url, &key, &total, at_once])
    });
    let played: Value = serde_json::from_str(&played.await.expect("a script")).expect("JSON");
    println!("{shown} {kind}, {at_once} at once: {played}");
    played
}

/// A thousand chats with 600 a minute and 64 in flight: four in ten have to come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_chat_of_openais_client_fails_by_a_limit() {
    let parts = parts(4);
    for at_once in ["16", "64"] {
        let rig = Rig::start(config(parts)).await;
        let played = play(&rig, "chats", 1_000 / parts, at_once).await;
        assert_eq!(played["errors"], serde_json::json!({}), "{at_once} at once: {played}");
        let refused = played["refused"].as_u64().expect("a number");
        assert!((1..=u64::from(400 / parts)).contains(&refused), "the limit was reached: {played}");
    }
}

/// Three thousand jobs, one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_obeys_is_refused_less_than_a_hundred_times_in_three_thousand_jobs() {
    let parts = parts(8);
    let rig = Rig::start(config(parts)).await;
    let played = play(&rig, "jobs", 3_000 / parts, "1").await;
    let refused = played["refused"].as_u64().expect("a number");
    assert!((1..100).contains(&refused), "{played}");
}
