//! The limits of one key and of all keys of an account: what is left is told on every reply, and those who are refused are
//! told a time at which they are served.

use std::time::Duration;

use infera_gateway::Config;
use infera_ledger::KeyBook as _;
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::rig::{Play, Rig, chat, job, new_key, unlimited};

fn number(reply: &Reply, name: &str) -> u64 {
    reply
        .header(name)
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("{name}: {:?}", reply.headers))
}

/// Returns a body that is refused when it is read, so that it costs no job.
fn unfit() -> Value {
    json!({})
}

#[tokio::test]
async fn what_is_left_is_told_on_every_reply_to_the_digit() {
    let rig = Rig::start(Config { requests_per_minute: 3, in_flight_max: 5, ..unlimited() }).await;
    let policy = "\"rpm\";q=3;w=60, \"looks\";q=6000;w=60, \"inflight\";q=5;qu=\"concurrent-requests\"";
    for (left, status) in [(2, 200), (1, 400), (0, 200)] {
        let body = if status == 200 { chat() } else { unfit() };
        let reply = rig.post("/v1/chat/completions", &body, &[]).await;
        assert_eq!(reply.status, status, "{}", reply.json());
        assert_eq!(number(&reply, "x-ratelimit-limit-requests"), 3);
        assert_eq!(number(&reply, "x-ratelimit-remaining-requests"), left, "errors count, too, and are told");
        assert_eq!(reply.header("ratelimit-policy"), Some(policy));
        let state = reply.header("ratelimit").expect("a state");
        assert!(state.starts_with(&format!("\"rpm\";r={left};t=")), "{state}");
        assert!(state.ends_with("\"inflight\";r=4"), "{state}");
        let reset = reply.header("x-ratelimit-reset-requests").expect("a time");
        assert!(reset.ends_with('s'), "{reset}");
    }
    let refused = rig.post("/v1/chat/completions", &chat(), &[]).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    assert_eq!(refused.json()["error"]["type"], "requests");
    let (seconds, milliseconds) = (number(&refused, "retry-after"), number(&refused, "retry-after-ms"));
    assert!((19_000..=21_000).contains(&milliseconds), "a third of a minute: {milliseconds}");
    assert_eq!(seconds, milliseconds.div_ceil(1_000));
    assert_eq!(number(&refused, "x-ratelimit-remaining-requests"), 0);
    for path in ["/v1/models", "/v1/jobs/job_00000000000000000000000000000000", "/v1/keys"] {
        let look = rig.get(path).await;
        assert!(
            [200, 404].contains(&look.status),
            "looks have an allowance of their own: {path} {}",
            look.status
        );
        assert_eq!(number(&look, "x-ratelimit-remaining-requests"), 0);
        assert!(look.header("ratelimit").is_some_and(|state| state.contains("\"looks\";r=59")), "{path}");
    }
    let unknown = rig.send("GET", "/v1/models", &[("api_key", "inf_x")], b"").await;
    assert_eq!((unknown.status, unknown.header("ratelimit-policy")), (401, None));
    let seed = rig.post("/submit_job", &job(), &[]).await;
    let expected =
        json!({ "detail": "Too many requests per minute for this key.", "code": "rate_limit_exceeded" });
    assert_eq!((seed.status, seed.json()), (429, expected));
}

/// Reserved are the prompt's estimate and the longest answer; what the answer didn't use comes back.
#[tokio::test]
async fn tokens_are_reserved_at_the_door_and_settled_at_the_end() {
    let rig = Rig::start(Config { tokens_per_minute: 1_000, ..unlimited() }).await;
    let answered = rig.post("/v1/chat/completions", &chat(), &[]).await;
    // The rig's answer has twelve tokens of prompt and three of answer.
    assert_eq!((answered.status, number(&answered, "x-ratelimit-limit-tokens")), (200, 1_000));
    let left = number(&answered, "x-ratelimit-remaining-tokens");
    assert!((985..=999).contains(&left), "{left}");
    rig.play(Play::Leave);
    let mut large = job();
    large["max_output"] = json!(8_000);
    let submitted = rig.post("/submit_job", &large, &[]).await;
    let left = number(&submitted, "x-ratelimit-remaining-tokens");
    assert!((470..=511).contains(&left), "clipped to the context of 512: {left}");
    let refused = rig.post("/submit_job", &large, &[]).await;
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("token_limit_exceeded")));
    assert!(number(&refused, "retry-after") <= 10, "{:?}", refused.headers);
    let after = number(&refused, "x-ratelimit-remaining-tokens");
    assert!(after >= left, "a refusal isn't charged: {after}");
    let job = submitted.json()["job_id"].as_str().expect("an id").to_owned();
    let bearer = [("api_key", rig.key.as_str())];
    rig.send("DELETE", &format!("/v1/jobs/{job}"), &bearer, b"").await;
    for _ in 0..100 {
        if number(&rig.get("/v1/models").await, "x-ratelimit-remaining-tokens") > 950 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the tokens of a cancelled job never came back");
}

#[tokio::test]
async fn an_accounts_keys_share_its_limits() {
    let rig = Rig::start(Config { requests_per_minute: 4, ..unlimited() }).await;
    let key = infera_gateway::access::ApiKey::generate().expect("randomness");
    let (account, first) = new_key(&rig.ledger, "grace@example.com").await;
    rig.ledger.add_key(&key.row(account), 9, Timestamp::now()).await.expect("a ledger");
    let ask = async |key: &str| {
        let headers = [("api_key", key), ("Content-Type", "application/json")];
        rig.send("POST", "/submit_job", &headers, job().to_string().as_bytes()).await
    };
    for (number, key) in [first.as_str(), key.expose(), &first, key.expose()].into_iter().enumerate() {
        let reply = ask(key).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some((3 - number).to_string().as_str()));
    }
    assert_eq!((ask(&first).await.status, ask(key.expose()).await.status), (429, 429));
    assert_eq!(rig.post("/submit_job", &job(), &[]).await.status, 200, "another account");
}

#[tokio::test]
async fn a_request_beyond_those_in_flight_waits_or_is_refused() {
    let rig = Rig::start(Config { in_flight_max: 1, turn_wait_ms: 1_500, ..unlimited() }).await;
    rig.play(Play::Leave);
    let mut body = chat();
    body["request_timeout_time"] = json!(1);
    let late = |milliseconds| tokio::time::sleep(Duration::from_millis(milliseconds));
    let (first, second, third, look) = tokio::join!(
        rig.post("/chat/completions", &body, &[]),
        async {
            late(300).await;
            rig.post("/chat/completions", &body, &[]).await
        },
        async {
            late(600).await;
            rig.post("/chat/completions", &body, &[]).await
        },
        async {
            late(800).await;
            rig.get("/v1/models").await
        }
    );
    assert_eq!((first.status, second.status, look.status), (504, 504, 200), "the second waited for its turn");
    assert_eq!((third.status, &third.json()["code"]), (429, &json!("concurrency_limit_exceeded")));
    assert!(number(&third, "retry-after-ms") >= 1_000, "{:?}", third.headers);
    assert_eq!(rig.post("/v1/chat/completions", &unfit(), &[]).await.status, 400, "turns come back");
}
