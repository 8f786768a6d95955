//! Each limit has a reply that says when to try again.

use infera_gateway::Config;
use serde_json::json;

use crate::support::rig::{Play, Rig, chat, job, unlimited};

#[tokio::test]
async fn jobs_that_wait() {
    let rig = Rig::start(Config { waiting_max: 2, ..unlimited() }).await;
    rig.play(Play::Leave);
    for _ in 0..2 {
        assert_eq!(rig.post("/submit_job", &job(), &[]).await.status, 200);
    }
    // Those who are refused together are told different times, and what is left of the key's limits.
    let mut told = Vec::new();
    for _ in 0..5 {
        let reply = rig.post("/submit_job", &job(), &[]).await;
        assert_eq!((reply.status, &reply.json()["code"]), (429, &json!("queue_full")));
        assert!(reply.json()["detail"].is_string());
        assert!(
            ["ratelimit", "ratelimit-policy", "x-ratelimit-remaining-tokens"]
                .map(|name| reply.header(name))
                .iter()
                .all(Option::is_some),
            "{:?}",
            reply.headers
        );
        told.push(reply.wait_ms().expect("a wait"));
    }
    told.sort_unstable();
    told.dedup();
    assert!(told.len() == 5 && told[0] >= 2_000 && told[4] <= 3_000, "{told:?}");
}

/// The account's own limit is the account's fault, and the limit of all accounts is ours. Both faces use the same
/// codes.
#[tokio::test]
async fn requests_that_are_stored() {
    let mut large = job();
    large["messages"][0]["content"] = json!("x".repeat(2_000));
    let mut waited = chat();
    waited["messages"][0]["content"] = json!("x".repeat(2_000));
    for (account, all, status, code) in
        [(5_000, 0, 429, "account_storage_full"), (0, 5_000, 503, "storage_full")]
    {
        let config = Config { account_stored_max_bytes: account, stored_max_bytes: all, ..unlimited() };
        let rig = Rig::start(config).await;
        let keyed = [("Idempotency-Key", "first")];
        assert_eq!(rig.post("/submit_job", &large, &keyed).await.status, 200);
        assert_eq!(rig.post("/submit_job", &large, &[]).await.status, 200);
        let refused = rig.post("/submit_job", &large, &[]).await;
        assert_eq!((refused.status, &refused.json()["code"]), (status, &json!(code)), "{}", refused.json());
        let first = refused.wait_ms();
        let refused = rig.post("/v1/chat/completions", &waited, &[]).await;
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (status, &json!(code)));
        let told = [first, refused.wait_ms()].map(|wait| wait.expect("a wait"));
        assert!(told.iter().all(|wait| (40_000..=60_000).contains(wait)) && told[0] != told[1], "{told:?}");
        assert_eq!(rig.post("/submit_job", &large, &keyed).await.status, 200, "it is stored already");
        assert_eq!(rig.post("/submit_job", &job(), &[]).await.status, 200, "there is room for a small one");
    }
}

#[tokio::test]
async fn clients_that_wait() {
    let rig = Rig::start(Config { waiters_max: 1, ..unlimited() }).await;
    rig.play(Play::Leave);
    let mut body = chat();
    body["request_timeout_time"] = json!(3);
    let (first, second) = tokio::join!(rig.post("/v1/chat/completions", &body, &[]), async {
        tokio::time::sleep(std::time::Duration::from_millis(1_000)).await;
        rig.post("/v1/chat/completions", &body, &[]).await
    });
    assert_eq!((first.status, second.status), (504, 503));
    assert_eq!(second.json()["error"]["code"], "overloaded");
}

#[tokio::test]
async fn sign_ups_from_one_address() {
    let rig = Rig::start(Config { signups_per_minute: 2, ..unlimited() }).await;
    let (mut statuses, mut codes, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    for (name, left) in [("a", "1"), ("b", "0"), ("c", "0"), ("d", "0")] {
        let body = json!({ "email": format!("{name}@example.com") }).to_string();
        let headers = [("Content-Type", "application/json"), ("X-Forwarded-For", name)];
        let reply = rig.send("POST", "/signup_user", &headers, body.as_bytes()).await;
        statuses.push(reply.status);
        codes.push(reply.json()["code"].clone());
        waits.extend(reply.wait_ms());
        assert_eq!(reply.header("ratelimit-policy"), Some("\"signups\";q=2;w=60"));
        assert!(
            reply
                .header("ratelimit")
                .is_some_and(|state| state.starts_with(&format!("\"signups\";r={left};t=")))
        );
        assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("2"));
        assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some(left));
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
    let refused = json!("signup_limit_exceeded");
    assert_eq!(codes, [json!(null), json!(null), refused.clone(), refused]);
    // Half a minute for one, and each is told a time of its own.
    assert!(waits.len() == 2 && waits[0] != waits[1], "{waits:?}");
    assert!(waits.iter().all(|wait| (29_000..=60_000).contains(wait)), "{waits:?}");
}

#[tokio::test]
async fn bodies() {
    let rig = Rig::start(Config { body_max_bytes: 1_000, ..unlimited() }).await;
    let mut body = job();
    body["messages"][0]["content"] = json!("x".repeat(1_000));
    let reply = rig.post("/submit_job", &body, &[]).await;
    assert_eq!(reply.status, 413);
    for encoding in ["br", "deflate", "gzip, gzip", "zstd"] {
        let reply = rig.post("/v1/chat/completions", &chat(), &[("Content-Encoding", encoding)]).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (415, &json!("encoding_not_supported")));
        assert_eq!(reply.header("accept-encoding"), Some("gzip, identity"));
    }
    assert_eq!(rig.post("/submit_job", &job(), &[("Content-Encoding", "identity")]).await.status, 200);
}

#[tokio::test]
async fn room_on_nodes() {
    let rig = Rig::start_with(unlimited(), 2).await;
    let reply = rig.post("/v1/chat/completions", &chat(), &[]).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (503, &json!("insufficient_nodes")));
    assert!(reply.header("retry-after").is_some());
    let mut one = chat();
    one["verification"] = json!({ "replicas": 1 });
    assert_eq!(rig.post("/v1/chat/completions", &one, &[]).await.status, 200);
    assert_eq!(rig.post("/submit_job", &job(), &[]).await.status, 200, "what nobody waits for can wait");
}
