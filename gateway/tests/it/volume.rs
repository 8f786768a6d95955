//! What accounts with many jobs use: several jobs in one request, and results in the order of ends, at any gateway.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use infera_gateway::{Config, Gateway, Seams};
use infera_types::shutdown::Shutdown;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::client::{self, Reply};
use crate::support::rig::{MODEL, Play, Rig, new_key, unlimited};

/// A job of a batch, which is like no other by its number.
pub(crate) fn item(number: usize) -> Value {
    json!({
        "model": MODEL,
        "messages": [{ "role": "user", "content": format!("Number {number}?") }],
        "metadata": { "number": number.to_string() },
    })
}

pub(crate) fn batch(count: usize) -> Value {
    json!({ "jobs": (0..count).map(item).collect::<Vec<_>>() })
}

pub(crate) fn ids(reply: &Reply) -> Vec<String> {
    let data = reply.json()["data"].as_array().cloned().unwrap_or_default();
    data.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
}

fn lines(reply: &Reply) -> Vec<Value> {
    let text = String::from_utf8(reply.body.clone()).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

async fn accepted(rig: &Rig) -> u64 {
    rig.get_until("/network_stats", |counts| counts["accepted"].is_u64()).await.json()["accepted"]
        .as_u64()
        .expect("a count")
}

/// Counts are shared for a second; this waits until they are fresh.
pub(crate) async fn accepted_now(rig: &Rig) -> u64 {
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    accepted(rig).await
}

/// Starts a second gateway on the rig's ledger and broker.
pub(crate) async fn another_gateway(rig: &Rig) -> (SocketAddr, Shutdown) {
    let seams = Seams {
        intake: rig.ledger.clone(),
        reader: rig.ledger.clone(),
        batches: rig.ledger.clone(),
        lists: rig.ledger.clone(),
        accounts: rig.ledger.clone(),
        keys: rig.ledger.clone(),
        erasures: rig.ledger.clone(),
        roster: rig.ledger.clone(),
        node_reader: rig.ledger.clone(),
        groups: rig.ledger.clone(),
        network: rig.ledger.clone(),
        broker: rig.broker.clone(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (address, shutdown) = (listener.local_addr().expect("an address"), Shutdown::new());
    tokio::spawn(Gateway::new(unlimited(), seams).run(listener, shutdown.clone()));
    (address, shutdown)
}

async fn get_at(address: SocketAddr, rig: &Rig, path: &str) -> Reply {
    client::send(address, "GET", path, &[("api_key", &rig.key)], b"").await.expect("a reply")
}

#[tokio::test]
async fn one_job_is_accepted_and_followed_to_its_end() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let reply = rig.post("/v1/jobs", &item(7), &[]).await;
    let job = reply.json();
    assert_eq!((reply.status, &job["status"], &job["object"]), (202, &json!("queued"), &json!("job")));
    assert_eq!(job["metadata"], json!({ "number": "7" }));
    let path = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
    assert_eq!(reply.header("location"), Some(path.as_str()));
    assert_eq!(reply.header("x-job-id"), job["id"].as_str());
    // A wait is bounded by the client.
    let begun = Instant::now();
    let waited = rig.get(&format!("{path}?wait=1")).await;
    assert_eq!((waited.status, &waited.json()["status"]), (200, &json!("queued")));
    assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
    // Its end comes to another gateway too, whichever accepted the job, and ends the wait.
    let (other, stop) = another_gateway(&rig).await;
    let (waits, elsewhere) = (format!("{path}?wait=60"), format!("{path}?wait=60"));
    let (here, there, ()) = tokio::join!(rig.get(&waits), get_at(other, &rig, &elsewhere), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        crate::lives::end_what_waits(&rig).await;
    });
    for reply in [here, there] {
        assert_eq!(reply.json()["status"], "succeeded");
        assert_eq!(reply.json()["result"]["choices"][0]["message"]["content"], "Paris.");
    }
    let ended = Instant::now();
    assert_eq!(rig.get(&format!("{path}?wait=60")).await.json()["status"], "succeeded");
    assert!(ended.elapsed() < Duration::from_secs(10), "what has ended is not waited for");
    for wrong in ["wait=61", "wait=-1", "wait=x", "wiat=1"] {
        assert_eq!(rig.get(&format!("{path}?{wrong}")).await.status, 400, "{wrong}");
    }
    stop.cancel();
}

#[tokio::test]
async fn several_jobs_are_accepted_in_one_request_and_their_results_collected() {
    const JOBS: usize = 250;
    let rig = Rig::start(unlimited()).await;
    let none = rig.get("/v1/jobs/results?after=latest").await;
    let begin = none.header("x-next-cursor").expect("a cursor").to_owned();
    assert_eq!((none.status, none.body.len(), none.header("x-jobs-live")), (200, 0, Some("0")));
    let reply = rig.post("/v1/jobs", &batch(JOBS), &[]).await;
    assert_eq!((reply.status, &reply.json()["object"]), (202, &json!("list")), "{}", reply.json());
    let jobs = ids(&reply);
    assert_eq!(jobs.len(), JOBS);
    assert!(jobs.is_sorted(), "in the order given");

    let (other, stop) = another_gateway(&rig).await;
    let (mut cursor, mut found, mut requests) = (begin.clone(), Vec::new(), 0);
    while found.len() < JOBS {
        let path = format!("/v1/jobs/results?after={cursor}&limit=100&min=100&wait=30");
        // Cursors are the ledger's, and go from one gateway to another.
        let page = if requests % 2 == 0 { rig.get(&path).await } else { get_at(other, &rig, &path).await };
        assert_eq!(page.status, 200, "{}", page.json());
        assert_eq!(page.header("content-type"), Some("application/x-ndjson"));
        let lines = lines(&page);
        let next = page.header("x-next-cursor").expect("a cursor").to_owned();
        assert_eq!(lines.last().map(|line| line["cursor"].clone()), Some(json!(next)));
        cursor = next;
        found.extend(lines);
        requests += 1;
    }
    assert_eq!(requests, JOBS.div_ceil(100), "full pages, and the last at once");
    let set: BTreeSet<&str> = found.iter().map(|line| line["id"].as_str().expect("an id")).collect();
    assert_eq!((found.len(), set.len()), (JOBS, JOBS), "each once");
    assert_eq!(set, jobs.iter().map(String::as_str).collect(), "every one");
    for line in &found {
        assert_eq!(line["status"], "succeeded");
        assert_eq!(line["result"]["choices"][0]["message"]["content"], "Paris.");
        let place = jobs.iter().position(|id| line["id"] == json!(id)).expect("a place");
        assert_eq!(
            line["metadata"]["number"],
            json!(place.to_string()),
            "the client finds its question again"
        );
    }
    // From the middle, the rest comes in the same order; behind the last there is nothing.
    let middle = found[99]["cursor"].as_str().expect("a cursor");
    let rest = lines(&rig.get(&format!("/v1/jobs/results?after={middle}&limit=1000")).await);
    assert_eq!(rest, found[100..]);
    let begun = Instant::now();
    let nothing = rig.get(&format!("/v1/jobs/results?after={cursor}&wait=1")).await;
    assert_eq!((nothing.status, nothing.body.len()), (200, 0));
    assert_eq!(nothing.header("x-next-cursor"), Some(cursor.as_str()));
    assert!(begun.elapsed() >= Duration::from_millis(950), "it is waited for the next job");
    // Another account sees nothing of it.
    let (_, stranger) = new_key(&rig.ledger, "grace@example.com").await;
    let strange = rig.send("GET", "/v1/jobs/results", &[("api_key", &stranger)], b"").await;
    assert_eq!((strange.status, strange.body.len()), (200, 0));
    stop.cancel();
}

#[tokio::test]
async fn a_result_that_is_waited_for_comes_when_its_job_ends() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    rig.post("/v1/jobs", &item(1), &[]).await;
    let begun = Instant::now();
    let (page, ()) = tokio::join!(rig.get("/v1/jobs/results?wait=60"), async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        crate::lives::end_what_waits(&rig).await;
    });
    assert_eq!(lines(&page).len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    for wrong in
        ["after=5", "after=end_", "after=end_-1", "limit=0", "limit=1001", "wait=61", "min=0", "until=3"]
    {
        let reply = rig.get(&format!("/v1/jobs/results?{wrong}")).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!("invalid_value")), "{wrong}");
    }
    assert_eq!(rig.send("GET", "/v1/jobs/results", &[], b"").await.status, 401);
}

#[tokio::test]
async fn a_batch_with_any_wrong_job_is_refused_as_a_whole_and_names_them() {
    let rig = Rig::start(unlimited()).await;
    let mut wrong = batch(6);
    wrong["jobs"][1]["messages"] = json!([]);
    wrong["jobs"][2]["temperature"] = json!(3);
    wrong["jobs"][2]["stream"] = json!(true);
    wrong["jobs"][4]["metadata"] = json!({ "k": 5 });
    wrong["jobs"][5]["idempotency_key"] = json!("");
    let reply = rig.post("/v1/jobs", &wrong, &[]).await;
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("jobs[1].messages")));
    let params = |reply: &Reply| -> Vec<String> {
        let errors = reply.json()["errors"]["data"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["param"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let codes: BTreeSet<String> = reply.json()["errors"]["data"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|error| error["code"].as_str().expect("a code").to_owned())
        .collect();
    assert_eq!(codes, ["invalid_value".to_owned()].into(), "as in the table of codes");
    let expected = [
        "jobs[1].messages",
        "jobs[2].temperature",
        "jobs[2].stream",
        "jobs[4].metadata.k",
        "jobs[5].idempotency_key",
    ];
    assert_eq!(params(&reply), expected, "{}", reply.json());

    let mut unanswerable = batch(4);
    unanswerable["jobs"][1]["model"] = json!("none");
    unanswerable["jobs"][3]["model"] = json!("neither");
    let reply = rig.post("/v1/jobs", &unanswerable, &[]).await;
    let errors = reply.json()["errors"]["data"].clone();
    assert_eq!(reply.status, 404, "{}", reply.json());
    assert_eq!(params(&reply), ["jobs[1].model", "jobs[3].model"]);
    assert_eq!(
        (&errors[0]["code"], &errors[1]["code"]),
        (&json!("model_not_found"), &json!("model_not_found"))
    );

    for body in [
        json!({ "jobs": [] }),
        json!({ "jobs": vec![json!({}); 1_001] }),
        json!({ "jobs": {} }),
        json!({ "jobs": [5] }),
        json!({ "jobs": [item(0)], "model": MODEL }),
        json!({ "model": MODEL }),
        json!([]),
    ] {
        let reply = rig.post("/v1/jobs", &body, &[]).await;
        assert_eq!(reply.status, 400, "{}", reply.json());
        assert!(reply.json()["error"]["message"].is_string());
    }
    // A thousand mistakes are counted, and a hundred of them listed.
    let reply = rig.post("/v1/jobs", &json!({ "jobs": vec![json!({}); 1_000] }), &[]).await;
    let listed = reply.json()["errors"]["data"].as_array().map(Vec::len);
    assert_eq!((reply.status, listed), (400, Some(101)));
    assert!(reply.body.len() < 64 * 1024, "{}", reply.body.len());
    assert_eq!(accepted_now(&rig).await, 0, "nothing of any of them was stored");
}

#[tokio::test]
async fn jobs_are_idempotent_one_by_one() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let keyed = |numbers: std::ops::Range<usize>| {
        let jobs: Vec<Value> = numbers
            .map(|number| {
                let mut job = item(number);
                job["idempotency_key"] = json!(format!("key {number}"));
                job
            })
            .collect();
        json!({ "jobs": jobs })
    };
    let first = ids(&rig.post("/v1/jobs", &keyed(0..3), &[]).await);
    let again = rig.post("/v1/jobs", &keyed(1..5), &[]).await;
    assert_eq!(ids(&again)[..2], first[1..], "two are known, two are new");
    let replayed: Vec<Value> =
        again.json()["data"].as_array().expect("a list").iter().map(|job| job["replayed"].clone()).collect();
    assert_eq!(replayed, [true, true, false, false]);
    // The same job alone, with its key in the body or in the header, is the same job.
    let mut alone = keyed(0..1)["jobs"][0].clone();
    assert_eq!(rig.post("/v1/jobs", &alone, &[]).await.json()["id"], json!(first[0]));
    alone.as_object_mut().expect("an object").remove("idempotency_key");
    let by_header = rig.post("/v1/jobs", &alone, &[("Idempotency-Key", "key 0")]).await;
    assert_eq!(
        (&by_header.json()["id"], by_header.header("idempotent-replayed")),
        (&json!(first[0]), Some("true"))
    );
    // A key with another question refuses all, by its place.
    let mut other = keyed(0..3);
    other["jobs"][1]["messages"][0]["content"] = json!("another question");
    let refused = rig.post("/v1/jobs", &other, &[]).await;
    let error = refused.json()["error"].clone();
    assert_eq!(
        (refused.status, &error["param"], &error["code"]),
        (422, &json!("jobs[1].idempotency_key"), &json!("idempotency_key_reused"))
    );
    // A key in the header stands for all jobs of the body that have none.
    let plain = rig.post("/v1/jobs", &batch(3), &[("Idempotency-Key", "all")]).await;
    let repeated = rig.post("/v1/jobs", &batch(3), &[("Idempotency-Key", "all")]).await;
    assert_eq!(ids(&plain), ids(&repeated));
    // What has ended meanwhile is told as it is.
    let cancel = json!({ "ids": [first[0]] });
    assert_eq!(rig.post("/v1/jobs/cancel", &cancel, &[]).await.json()["cancelled"], 1);
    let known = rig.post("/v1/jobs", &keyed(0..1), &[]).await;
    assert_eq!(known.json()["data"][0]["status"], "cancelled");
    assert_eq!(accepted_now(&rig).await, 8);
}

#[tokio::test]
async fn as_many_ids_are_cancelled_as_a_request_may_name() {
    let rig = Rig::start(unlimited()).await;
    let ids: Vec<String> = (0..1_000).map(|number| format!("job_{number:032x}")).collect();
    let reply = rig.post("/v1/jobs/cancel", &json!({ "ids": ids }), &[]).await;
    assert_eq!((reply.status, &reply.json()["not_found"]), (200, &json!(1_000)), "{}", reply.json()["error"]);
    for since in [json!(5), json!(5.0), json!(null)] {
        let reply = rig.post("/v1/jobs/cancel", &json!({ "filter": { "since": since } }), &[]).await;
        assert_eq!(reply.status, 200, "{since}");
    }
    for since in [
        json!(-1),
        json!(5.5),
        json!("soon"),
        json!("5"),
        json!(false),
        json!(253_402_300_800_u64),
        json!([]),
    ] {
        let reply = rig.post("/v1/jobs/cancel", &json!({ "filter": { "since": since } }), &[]).await;
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("filter.since")), "{since}");
    }
}

#[tokio::test]
async fn a_batch_that_does_not_fit_says_how_many_do() {
    let rig = Rig::start(Config { waiting_max: 5, ..unlimited() }).await;
    rig.play(Play::Leave);
    let refused = rig.post("/v1/jobs", &batch(7), &[]).await;
    let error = &refused.json()["error"];
    assert_eq!(
        (refused.status, &error["code"], &error["type"]),
        (429, &json!("queue_full"), &json!("requests"))
    );
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("Of these 7 jobs 5 fit now; none was accepted."), "{message}");
    assert!(refused.header("retry-after").is_some());
    let fits = rig.post("/v1/jobs", &batch(5), &[("Idempotency-Key", "k")]).await;
    assert_eq!(fits.status, 202);
    assert_eq!(rig.post("/v1/jobs", &item(9), &[]).await.status, 429);
    assert_eq!(
        rig.post("/v1/jobs", &batch(5), &[("Idempotency-Key", "k")]).await.status,
        202,
        "known already"
    );

    let rig = Rig::start(Config { account_stored_max_bytes: 1_000, ..unlimited() }).await;
    let refused = rig.post("/v1/jobs", &batch(20), &[]).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &json!("account_storage_full")));
    let rig = Rig::start(Config { stored_max_bytes: 1_000, ..unlimited() }).await;
    let refused = rig.post("/v1/jobs", &batch(20), &[]).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &json!("storage_full")));
    let rig = Rig::start(Config { outbox_max: 3, ..unlimited() }).await;
    // The ledger holds them until their turn, so they take no places on the way to the broker.
    assert_eq!(rig.post("/v1/jobs", &batch(4), &[]).await.status, 202);
}
