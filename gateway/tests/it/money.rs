//! Models have prices, keys and accounts have limits, and what an answer costs is told and counted, on both faces.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use infera_gateway::access::money_orders;
use infera_gateway::{Config, Gateway, Seams};
use infera_types::shutdown::Shutdown;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::client::{self, Reply};
use crate::support::rig::{MODEL, Play, Rig, chat, job, unlimited};

/// What a request of the rig's reserves at the price of [`priced`]: 30 bytes of prompt with 160 tokens around them, and 16 tokens of answer.
const RESERVED: &str = "0.000222";

/// What an answer of the rig's costs: 12 tokens of prompt and 3 of answer.
const COST: &str = "0.000018";

const EMAIL: &str = "ada@example.com";

fn config() -> Config {
    Config { catalogue_refresh_ms: 20, ..unlimited() }
}

/// Sets the model's price and waits until the gateway knows it.
async fn price(rig: &Rig, prompt: &str, completion: &str, per_token: &str) {
    money_orders::price(&*rig.ledger, MODEL, prompt, completion).await.expect("a price");
    rig.get_until("/v1/models", |models| models["data"][0]["pricing"]["prompt"] == per_token).await;
}

/// Starts a gateway whose model costs 1 for a million tokens of prompts and 2 for a million of answers.
async fn priced() -> Rig {
    let rig = Rig::start(config()).await;
    price(&rig, "1", "2.000000", "0.000001").await;
    rig
}

async fn limit(rig: &Rig, amount: &str) {
    money_orders::limit(&*rig.ledger, EMAIL, amount).await.expect("a limit");
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

/// Checks that a reply refuses for want of money, in a way that no client tries again.
#[track_caller]
fn is_over(reply: &Reply, whose: &str) {
    assert_eq!(
        (reply.status, reply.header("x-error-code")),
        (429, Some("insufficient_quota")),
        "{}",
        reply.json()
    );
    assert_eq!((reply.header("x-should-retry"), reply.header("retry-after")), (Some("false"), None));
    let text = reply.json().to_string();
    assert!(text.contains(whose) && text.contains("for this calendar month"), "{text}");
}

#[tokio::test]
async fn prices_are_shown_and_costs_are_told_and_counted() {
    let rig = Rig::start(config()).await;
    let free = rig.get(&format!("/v1/models/{MODEL}")).await.json();
    let pricing = json!({ "prompt": "0", "completion": "0", "request": "0", "currency": "USD" });
    assert_eq!(free["pricing"], pricing);
    let reply = rig.post("/v1/chat/completions", &chat(), &[]).await.json();
    assert_eq!(reply["usage"].get("cost"), None, "a free answer names no cost");

    price(&rig, "1", "2", "0.000001").await;
    let shown = rig.get(&format!("/v1/models/{MODEL}")).await.json();
    let pricing =
        json!({ "prompt": "0.000001", "completion": "0.000002", "request": "0", "currency": "USD" });
    assert_eq!(shown["pricing"], pricing);
    for path in ["/v1/chat/completions", "/chat/completions"] {
        let reply = rig.post(path, &chat(), &[]).await;
        assert_eq!((reply.status, &reply.json()["usage"]["cost"]), (200, &json!(COST)), "{path}");
    }
    let submitted = rig.post("/submit_job", &job(), &[]).await.json();
    let path = format!("/v1/jobs/{}", submitted["job_id"].as_str().expect("a job"));
    // The job keeps the price at which it was accepted.
    price(&rig, "1000", "2000", "0.001").await;
    let ended = rig.get_until(&path, |job| job["status"] == "succeeded").await.json();
    assert_eq!(ended["result"]["usage"]["cost"], COST);
    let collected = rig.get("/v1/jobs/results").await;
    assert!(String::from_utf8(collected.body).expect("text").contains(r#""cost":"0.000018""#));

    let usage = rig.get("/v1/usage").await.json();
    let month = json!({ "spend_limit": null, "spent": "0.000054", "reserved": "0", "pays": false });
    assert_eq!((&usage["currency"], &usage["month"]), (&json!("USD"), &month));
    let sum = (&usage["data"][0]["requests"], &usage["data"][0]["cost"]);
    assert_eq!(sum, (&json!(4), &json!("0.000054")), "three of four answers cost something");
    let csv = String::from_utf8(rig.get("/v1/usage?format=csv").await.body).expect("text");
    assert!(csv.contains(",total_tokens,cost\r\n") && csv.ends_with(",0.000054\r\n"), "{csv}");
}

#[tokio::test]
async fn an_accounts_limit_refuses_on_both_faces_and_ends_make_room() {
    let rig = priced().await;
    limit(&rig, "0.00025").await;
    rig.play(Play::Leave);
    let first = rig.post("/submit_job", &job(), &[]).await.json();
    let usage = rig.get("/v1/usage").await.json();
    assert_eq!(
        (&usage["month"]["reserved"], &usage["month"]["spend_limit"]),
        (&json!(RESERVED), &json!("0.00025"))
    );
    for (path, body) in [
        ("/v1/chat/completions", chat()),
        ("/chat/completions", chat()),
        ("/submit_job", job()),
        ("/v1/jobs", chat()),
        ("/v1/jobs", json!({ "jobs": [chat()] })),
    ] {
        is_over(&rig.post(path, &body, &[]).await, "account's spend limit of 0.00025");
    }
    // What fits is accepted: 190 and 4 tokens are 0.000198, of which a cancelled job needs none.
    let path = format!("/v1/jobs/{}", first["job_id"].as_str().expect("a job"));
    let cancelled = rig.send("DELETE", &path, &[("api_key", &rig.key)], b"").await;
    assert_eq!(cancelled.json()["status"], "cancelled");
    assert_eq!(rig.get("/v1/usage").await.json()["month"]["reserved"], "0");
    rig.play(Play::Answer);
    assert_eq!(rig.post("/v1/chat/completions", &chat(), &[]).await.status, 200);
    let batch =
        json!({ "jobs": [with(chat(), "max_tokens", json!(4)), with(chat(), "max_tokens", json!(9))] });
    let reply = rig.post("/v1/jobs", &batch, &[]).await;
    is_over(&reply, "of these 2 jobs, of which none was accepted, 1 fit");
    limit(&rig, "none").await;
    assert_eq!(rig.post("/v1/jobs", &batch, &[]).await.status, 202);
}

#[tokio::test]
async fn a_keys_limit_is_set_by_the_api_and_not_got_around() {
    let rig = priced().await;
    let headers = |key: &str| {
        [("api_key".to_owned(), key.to_owned()), ("Content-Type".to_owned(), "application/json".to_owned())]
    };
    let ask = async |key: &str, method: &str, path: &str, body: Value| {
        let headers = headers(key);
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        rig.send(method, path, &headers, body.to_string().as_bytes()).await
    };
    let made = ask(&rig.key, "POST", "/v1/keys", json!({ "name": "intern", "spend_limit": "0.00025" })).await;
    let made = made.json();
    assert_eq!(
        (&made["spend_limit"], &made["spent"], &made["reserved"]),
        (&json!("0.00025"), &json!("0"), &json!("0"))
    );
    let (id, key) = (made["id"].as_str().expect("an id"), made["key"].as_str().expect("a key"));
    let path = format!("/v1/keys/{id}");
    assert_eq!(ask(key, "POST", "/v1/chat/completions", chat()).await.status, 200);
    assert_eq!(ask(key, "POST", "/v1/chat/completions", chat()).await.status, 200);
    is_over(&ask(key, "POST", "/v1/chat/completions", chat()).await, "This key's spend limit of 0.00025");
    assert_eq!(rig.post("/v1/chat/completions", &chat(), &[]).await.status, 200, "another key has no limit");
    let listed = rig.get("/v1/keys").await.json();
    let listed =
        listed["data"].as_array().expect("keys").iter().find(|key| key["id"] == id).expect("the key");
    assert_eq!((&listed["spend_limit"], &listed["spent"]), (&json!("0.00025"), &json!("0.000036")));

    // Neither a new key, nor a higher limit, nor a successor lets it spend more.
    for (method, path, body) in [
        ("POST", "/v1/keys", json!({})),
        ("POST", "/v1/keys", json!({ "spend_limit": "0.00001" })),
        ("PATCH", path.as_str(), json!({ "spend_limit": null })),
    ] {
        let reply = ask(key, method, path, body).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (403, &json!("insufficient_scope")),
            "{path}"
        );
    }
    let own = rig.get("/v1/keys").await.json();
    let other = own["data"].as_array().expect("keys").iter().find(|key| key["id"] != id).expect("another");
    let other = format!("/v1/keys/{}/rotate", other["id"].as_str().expect("an id"));
    assert_eq!(ask(key, "POST", &other, json!({})).await.status, 403);
    let rotated = ask(key, "POST", &format!("{path}/rotate"), json!({})).await.json();
    assert_eq!((&rotated["spend_limit"], &rotated["spent"]), (&json!("0.00025"), &json!("0.000036")));
    let successor = rotated["key"].as_str().expect("a key");
    is_over(&ask(successor, "POST", "/v1/chat/completions", chat()).await, "This key's spend limit");

    let path = format!("/v1/keys/{}", rotated["id"].as_str().expect("an id"));
    let raised = ask(&rig.key, "PATCH", &path, json!({ "spend_limit": "1" })).await.json();
    assert_eq!(raised["spend_limit"], "1");
    assert_eq!(ask(successor, "POST", "/v1/chat/completions", chat()).await.status, 200);
    let freed = ask(&rig.key, "PATCH", &path, json!({ "spend_limit": null })).await.json();
    assert_eq!((&freed["spend_limit"], &freed["name"]), (&Value::Null, &json!("intern")));
    for wrong in [json!("-1"), json!("1e3"), json!(1.5), json!("0.0000000001"), json!("x")] {
        let reply = ask(&rig.key, "PATCH", &path, json!({ "spend_limit": wrong })).await;
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("spend_limit")), "{wrong}");
    }
}

#[tokio::test]
async fn a_model_dearer_than_the_request_takes_is_refused() {
    let rig = priced().await;
    for (max, status) in [
        (json!({ "prompt": "1", "completion": "2" }), 200),
        (json!({ "prompt": 1, "completion": 2.5 }), 200),
        (json!({}), 200),
        (json!({ "prompt": "0.999999" }), 400),
        (json!({ "completion": 1.999999 }), 400),
    ] {
        for (path, body) in [
            ("/v1/chat/completions", chat()),
            ("/chat/completions", chat()),
            ("/submit_job", job()),
            ("/v1/jobs", chat()),
            ("/v1/jobs", json!({ "jobs": [chat(), chat()] })),
        ] {
            let is_batch = body.get("jobs").is_some();
            let body = match body {
                body if is_batch => {
                    json!({ "jobs": [chat(), with(body["jobs"][1].clone(), "max_price", max.clone())] })
                }
                body => with(body, "max_price", max.clone()),
            };
            let reply = rig.post(path, &body, &[]).await;
            // A job that no client waits for is only accepted.
            let status = if status == 200 && path == "/v1/jobs" { 202 } else { status };
            assert_eq!(reply.status, status, "{path} {max}: {}", reply.json());
            if status == 400 {
                let text = reply.json().to_string();
                assert!(text.contains("This model costs 1 for a million tokens of prompts and 2 "), "{text}");
                let param = if is_batch { "jobs[1].max_price" } else { "max_price" };
                assert!(!path.starts_with("/v1") || reply.json()["error"]["param"] == param, "{text}");
            }
        }
    }
    // An earlier job is answered, whatever the model costs by now.
    let body = with(job(), "max_price", json!({ "prompt": 1 }));
    let key = [("Idempotency-Key", "a")];
    let first = rig.post("/submit_job", &body, &key).await.json();
    price(&rig, "3", "3", "0.000003").await;
    assert_eq!(rig.post("/submit_job", &body, &key).await.json()["job_id"], first["job_id"]);
    assert_eq!(rig.post("/submit_job", &body, &[]).await.header("x-error-code"), Some("price_above_max"));
}

/// A batch that is sent again gets its earlier jobs, whatever the model costs by now; none of its other jobs is accepted above
/// their largest price.
#[tokio::test]
async fn a_batch_that_is_sent_again_keeps_its_price() {
    let rig = priced().await;
    rig.play(Play::Leave);
    let keyed = |name: &str| {
        let body = with(chat(), "max_price", json!({ "prompt": "1", "completion": "2" }));
        with(body, "idempotency_key", json!(name))
    };
    let batch = json!({ "jobs": [keyed("a"), chat(), keyed("b")] });
    let first = rig.post("/v1/jobs", &batch, &[]).await.json();
    price(&rig, "3", "3", "0.000003").await;
    let again = rig.post("/v1/jobs", &batch, &[]).await;
    assert_eq!(again.status, 202, "{}", again.json());
    let again = again.json();
    let id = |reply: &Value, place: usize| reply["data"][place]["id"].clone();
    assert_eq!((id(&again, 0), id(&again, 2)), (id(&first, 0), id(&first, 2)));
    assert!(id(&again, 1).is_string() && id(&again, 1) != id(&first, 1), "{again}");
    let mixed = json!({ "jobs": [keyed("a"), keyed("c")] });
    let refused = rig.post("/v1/jobs", &mixed, &[]).await;
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("jobs[1].max_price")));
    let known = json!({ "jobs": [keyed("b"), keyed("a")] });
    let known = rig.post("/v1/jobs", &known, &[]).await.json();
    assert_eq!((id(&known, 0), id(&known, 1)), (id(&first, 2), id(&first, 0)));
}

/// Starts a second gateway on the seams of a rig.
async fn second(rig: &Rig, shutdown: Shutdown) -> SocketAddr {
    let seams = Seams {
        intake: Arc::clone(&rig.ledger) as _,
        reader: Arc::clone(&rig.ledger) as _,
        batches: Arc::clone(&rig.ledger) as _,
        lists: Arc::clone(&rig.ledger) as _,
        roster: Arc::clone(&rig.ledger) as _,
        node_reader: Arc::clone(&rig.ledger) as _,
        accounts: Arc::clone(&rig.ledger) as _,
        keys: Arc::clone(&rig.ledger) as _,
        erasures: Arc::clone(&rig.ledger) as _,
        groups: Arc::clone(&rig.ledger) as _,
        network: Arc::clone(&rig.ledger) as _,
        broker: Arc::clone(&rig.broker) as _,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(Gateway::new(config(), seams).run(listener, shutdown));
    for _ in 0..500 {
        let ready = client::send(address, "GET", "/readyz", &[], b"").await;
        if ready.is_ok_and(|reply| reply.status == 200) {
            return address;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the second gateway was never ready")
}

/// Two gateways on one ledger: not one job beyond the limit is accepted, and all for which there is room are.
#[tokio::test]
async fn a_limit_holds_at_two_gateways_to_the_last_job() {
    let rig = priced().await;
    let shutdown = Shutdown::new();
    let other = second(&rig, shutdown.clone()).await;
    rig.play(Play::Leave);
    // Ten jobs reserve 0.00222.
    limit(&rig, "0.00222").await;
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..60 {
        let address = if number % 2 == 0 { rig.address } else { other };
        let key = rig.key.clone();
        callers.spawn(async move {
            let headers = [("api_key", key.as_str()), ("Content-Type", "application/json")];
            let body = job().to_string();
            client::send(address, "POST", "/submit_job", &headers, body.as_bytes())
                .await
                .expect("a reply")
                .status
        });
    }
    let statuses = callers.join_all().await;
    let accepted = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!((accepted, statuses.iter().filter(|status| **status == 429).count()), (10, 50));
    assert_eq!(rig.get("/v1/usage").await.json()["month"]["reserved"], "0.00222");
    shutdown.cancel();
}

#[tokio::test]
async fn an_operators_mistakes_are_told() {
    let rig = Rig::start(config()).await;
    let ledger = &*rig.ledger;
    for (told, part) in [
        (money_orders::price(ledger, "no-model", "1", "1").await, "the catalogue has no model no-model"),
        (money_orders::price(ledger, MODEL, "1,5", "1").await, "\"1,5\": an amount is a decimal number"),
        (money_orders::price(ledger, MODEL, "1", "1000001").await, "up to 1000000"),
        (money_orders::limit(ledger, "no@example.com", "1").await, "no account signed up as no@example.com"),
        (money_orders::limit(ledger, EMAIL, "-1").await, "at most 9 decimal places"),
        (money_orders::pays(ledger, "no@example.com", true).await, "POST /signup_user first"),
    ] {
        let told = told.expect_err(part).to_string();
        assert!(told.contains(part), "{told}");
    }
    let told = money_orders::pays(ledger, EMAIL, true).await.expect("an account");
    assert!(told.ends_with("its jobs earn their nodes points"), "{told}");
    assert_eq!(rig.get("/v1/usage").await.json()["month"]["pays"], true);
    assert!(money_orders::price(ledger, MODEL, "0", "0").await.expect("a model").contains("is free"));
}
