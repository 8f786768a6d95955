//! Requests for several answers: one request to its client, as many jobs to the network.

use std::time::Duration;

use infera_gateway::Config;
use infera_gateway::access::money_orders;
use infera_ledger::{JobOwner as _, JobReader as _, Notice, Statistics, Take};
use infera_types::ids::{JobId, VerifierId};
use infera_types::job::{End, FailureReason, Settlement};
use infera_types::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::client;
use crate::support::rig::{MODEL, Play, Rig, answered, chat, job, unlimited};

fn of(mut body: Value, n: u32) -> Value {
    body["n"] = json!(n);
    body
}

async fn counts(rig: &Rig) -> Statistics {
    rig.ledger.statistics(Timestamp::now()).await.expect("a ledger")
}

async fn until(rig: &Rig, wanted: impl Fn(&Statistics) -> bool) -> Statistics {
    for _ in 0..600 {
        let counts = counts(rig).await;
        if wanted(&counts) {
            return counts;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {:?}", counts(rig).await);
}

fn ids(value: &Value) -> Vec<String> {
    let list = value.as_array().expect("a list");
    list.iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn each_answer_is_a_choice_and_the_prompt_counts_once() {
    let rig = Rig::start(unlimited()).await;
    for path in ["/v1/chat/completions", "/chat/completions"] {
        for n in [2_u64, 8] {
            let before = counts(&rig).await;
            let reply = rig.post(path, &of(chat(), u32::try_from(n).expect("small")), &[]).await;
            let body = reply.json();
            assert_eq!(reply.status, 200, "{body}");
            let choices = body["choices"].as_array().expect("choices");
            assert_eq!(choices.len() as u64, n);
            for (index, choice) in choices.iter().enumerate() {
                assert_eq!(
                    (&choice["index"], &choice["message"]["content"]),
                    (&json!(index), &json!("Paris."))
                );
                assert_eq!(choice["verification"]["status"], "verified");
            }
            assert_eq!(
                (&body["usage"]["prompt_tokens"], &body["usage"]["completion_tokens"]),
                (&json!(12), &json!(3 * n))
            );
            assert_eq!(body["usage"]["total_tokens"], 12 + 3 * n);
            assert_eq!(
                (&body["job_id"], reply.header("x-job-id")),
                (&choices[0]["job_id"], body["job_id"].as_str())
            );
            // Each job says which answer it is, and of which request.
            let all: Vec<&Value> = choices.iter().map(|choice| &choice["job_id"]).collect();
            for (index, id) in all.iter().enumerate() {
                let job = rig.get(&format!("/v1/jobs/{}", id.as_str().expect("an id"))).await.json();
                assert_eq!(job["choice"], json!({ "index": index, "job_ids": all }), "{job}");
                assert_eq!(job["result"]["choices"][0]["index"], index);
                assert_eq!(job["result"]["usage"]["prompt_tokens"], if index == 0 { 12 } else { 0 });
            }
            let after = counts(&rig).await;
            assert_eq!(after.accepted - before.accepted, n);
            assert_eq!(after.prompt_tokens - before.prompt_tokens, 12);
            assert_eq!(after.completion_tokens - before.completion_tokens, 3 * n);
        }
    }
    let alone = rig.post("/v1/chat/completions", &of(chat(), 1), &[]).await.json();
    let job = rig.get(&format!("/v1/jobs/{}", alone["job_id"].as_str().expect("an id"))).await.json();
    assert_eq!((alone["choices"][0].get("job_id"), job.get("choice")), (None, None));
}

#[tokio::test]
async fn the_jobs_of_a_request_share_its_noise_and_have_numbers_of_their_own() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let told = rig.post("/submit_job", &of(job(), 3), &[]).await.json();
    let all: Vec<JobId> = ids(&told["job_ids"]).iter().map(|id| id.parse().expect("an id")).collect();
    let notices: Vec<Notice> = all.iter().map(|id| Notice::together(*id, false)).collect();
    let taken = rig.ledger.take(&VerifierId::fresh(), &notices, Timestamp::now()).await.expect("a ledger");
    for (index, take) in (0..).zip(taken) {
        let Take::Taken(job) = take else { panic!("{take:?}") };
        assert_eq!((job.choice.index, job.choice.count, job.choice.first(job.id)), (index, 3, all[0]));
    }
}

#[tokio::test]
async fn one_failure_fails_the_request_and_cancels_the_rest() {
    let rig = Rig::start(unlimited()).await;
    let failed = End::Failed { reason: FailureReason::NoConsensus, message: "They disagree.".to_owned() };
    for (count, path) in [(1, "/v1/chat/completions"), (2, "/chat/completions")] {
        rig.play(Play::Only(1, failed.clone()));
        let reply = rig.post(path, &of(chat(), 3), &[("Idempotency-Key", "k")]).await;
        assert_eq!(
            (reply.status, reply.header("x-error-code")),
            (502, Some("no_consensus")),
            "{}",
            reply.json()
        );
        let counts = until(&rig, |counts| counts.cancelled == 2 * count).await;
        assert_eq!((counts.failed, counts.queued, counts.running), (count, 0, 0));
    }
    // The failure gave the key back.
    rig.play(Play::Answer);
    let reply = rig.post("/v1/chat/completions", &of(chat(), 3), &[("Idempotency-Key", "k")]).await;
    assert_eq!((reply.status, reply.header("idempotent-replayed")), (200, None));
    // A request whose client doesn't wait fails in the same way.
    rig.play(Play::Only(2, failed));
    let told = rig.post("/submit_job", &of(job(), 3), &[]).await.json();
    let all = ids(&told["job_ids"]);
    rig.get_until(&format!("/v1/jobs/{}", all[0]), |job| job["status"] == "cancelled").await;
    rig.get_until(&format!("/v1/jobs/{}", all[2]), |job| job["status"] == "failed").await;
}

/// The gateway polls for ends whose completions were lost, and finds the cancelled answers beside the one that failed.
#[tokio::test]
async fn the_cause_is_told_though_its_completion_was_lost() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    for _ in 0..4 {
        let failing = async {
            until(&rig, |counts| counts.queued == 4).await;
            let listed = rig.get("/v1/jobs?status=queued&limit=1").await.json();
            let id: JobId = listed["data"][0]["id"].as_str().and_then(|id| id.parse().ok()).expect("a job");
            let notices = [Notice::together(id, false)];
            let taken = rig.ledger.take(&VerifierId::fresh(), &notices, Timestamp::now()).await;
            let Some(Take::Taken(job)) = taken.expect("a ledger").pop() else { panic!("{id} is not taken") };
            let settlement = Settlement {
                job_id: job.id,
                account: job.account,
                model: job.model,
                gateway: job.gateway,
                end: End::Failed { reason: FailureReason::NoConsensus, message: "They disagree.".to_owned() },
                group: None,
                settled_ms: Timestamp::now(),
            };
            rig.ledger.settle(&settlement).await.expect("a ledger");
        };
        let body = of(chat(), 4);
        let (reply, ()) = tokio::join!(rig.post("/v1/chat/completions", &body, &[]), failing);
        assert_eq!(
            (reply.status, reply.header("x-error-code")),
            (502, Some("no_consensus")),
            "{}",
            reply.json()
        );
    }
}

#[tokio::test]
async fn a_request_that_is_sent_again_under_its_key_is_the_same() {
    let rig = Rig::start(unlimited()).await;
    let key = [("Idempotency-Key", "k")];
    for (path, body) in [("/v1/chat/completions", chat()), ("/chat/completions", chat())] {
        let first = rig.post(path, &of(body.clone(), 3), &key).await;
        let before = counts(&rig).await.accepted;
        let again = rig.post(path, &of(body.clone(), 3), &key).await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")), "{path}");
        assert_eq!(again.json()["choices"], first.json()["choices"]);
        assert_eq!(again.json()["usage"], first.json()["usage"]);
        assert_eq!(counts(&rig).await.accepted, before);
        let other = rig.post(path, &of(body, 2), &key).await;
        assert_eq!((other.status, other.header("x-error-code")), (422, Some("idempotency_key_reused")));
    }
    rig.play(Play::Leave);
    let first = rig.post("/submit_job", &of(job(), 3), &key).await.json();
    let again = rig.post("/submit_job", &of(job(), 3), &key).await.json();
    assert_eq!(first["job_ids"].as_array().map(Vec::len), Some(3));
    assert_eq!(again, first);
    // One answer that hasn't come keeps the request in progress.
    rig.play(Play::Only(1, answered()));
    let mut slow = of(chat(), 2);
    slow["request_timeout_time"] = json!(1);
    let key = [("Idempotency-Key", "slow")];
    assert_eq!(rig.post("/v1/chat/completions", &slow, &key).await.status, 504);
    let again = rig.post("/v1/chat/completions", &slow, &key).await;
    assert_eq!((again.status, again.header("x-error-code")), (409, Some("idempotency_in_progress")));
}

/// Jobs of several requests are accepted together, each request whole, and their ends are collected like others.
#[tokio::test]
async fn several_requests_for_several_answers_are_submitted_and_collected() {
    let rig = Rig::start(unlimited()).await;
    let body = json!({ "jobs": [of(chat(), 2), chat(), of(chat(), 3)] });
    let reply = rig.post("/v1/jobs", &body, &[("Idempotency-Key", "all")]).await;
    let told = reply.json();
    assert_eq!((reply.status, told["data"].as_array().map(Vec::len)), (202, Some(3)), "{told}");
    let counted: Vec<usize> = told["data"]
        .as_array()
        .expect("data")
        .iter()
        .map(|one| one["job_ids"].as_array().map_or(1, Vec::len))
        .collect();
    assert_eq!(counted, [2, 1, 3]);
    let again = rig.post("/v1/jobs", &body, &[("Idempotency-Key", "all")]).await.json();
    for (one, other) in
        told["data"].as_array().into_iter().flatten().zip(again["data"].as_array().into_iter().flatten())
    {
        assert_eq!((&one["id"], &other["replayed"]), (&other["id"], &json!(true)));
    }
    let ended = until(&rig, |counts| counts.succeeded == 6).await;
    assert_eq!((ended.accepted, ended.prompt_tokens, ended.completion_tokens), (6, 36, 18));
    let mut lines = Vec::new();
    for _ in 0..200 {
        let reply = rig.get("/v1/jobs/results?after=end_0&limit=100").await;
        lines = String::from_utf8_lossy(&reply.body).lines().map(str::to_owned).collect::<Vec<_>>();
        if lines.len() == 6 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let all: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of_three =
        all.iter().filter(|line| line["choice"]["job_ids"].as_array().is_some_and(|ids| ids.len() == 3));
    let mut indexes: Vec<u64> = of_three.filter_map(|line| line["choice"]["index"].as_u64()).collect();
    indexes.sort_unstable();
    assert_eq!((all.len(), indexes), (6, vec![0, 1, 2]));
    let too_many = json!({ "jobs": vec![of(chat(), 8); 126] });
    let refused = rig.post("/v1/jobs", &too_many, &[]).await;
    let said = refused.json()["error"]["message"].to_string();
    assert!(refused.status == 400 && said.contains("at most 1000 answers together, not 1008"), "{said}");
    // One with a preference is told of by its first job, which names the others.
    let one = rig.post("/v1/jobs", &of(chat(), 2), &[("Prefer", "wait=30")]).await;
    assert_eq!((one.status, &one.json()["status"]), (200, &json!("succeeded")));
    assert_eq!(one.json()["choice"]["job_ids"].as_array().map(Vec::len), Some(2));
    let whole = rig.post("/v1/chat/completions", &of(chat(), 2), &[("Prefer", "wait=30")]).await.json();
    assert_eq!(whole["choices"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn all_answers_are_cancelled_together() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let told = rig.post("/submit_job", &of(job(), 3), &[]).await.json();
    let all = ids(&told["job_ids"]);
    let path = format!("/v1/jobs/{}", all[1]);
    let cancelled = rig.send("DELETE", &path, &[("api_key", &rig.key)], b"").await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
    assert_eq!(counts(&rig).await.cancelled, 3);
    let again = rig.send("DELETE", &path, &[("api_key", &rig.key)], b"").await;
    assert_eq!(again.status, 200);
    // Also by one that has ended, and for a client that waits.
    rig.play(Play::Only(0, answered()));
    let told = rig.post("/submit_job", &of(job(), 3), &[]).await.json();
    let first = format!("/v1/jobs/{}", ids(&told["job_ids"])[0]);
    rig.get_until(&first, |job| job["status"] == "succeeded").await;
    let kept = rig.send("DELETE", &first, &[("api_key", &rig.key)], b"").await.json();
    assert_eq!(kept["status"], "succeeded");
    assert_eq!(counts(&rig).await.cancelled, 5);
    // And when a client hangs up.
    rig.play(Play::Leave);
    let before = counts(&rig).await.accepted;
    let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
    let request =
        client::request("POST", "/v1/chat/completions", &headers, of(chat(), 4).to_string().as_bytes());
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    stream.write_all(&request).await.expect("sent");
    until(&rig, |counts| counts.accepted == before + 4).await;
    drop(stream);
    until(&rig, |counts| counts.cancelled == 9).await;
}

#[tokio::test]
async fn limits_count_each_answer() {
    // In flight.
    let rig = Rig::start(Config { in_flight_max: 3, turn_wait_ms: 0, ..unlimited() }).await;
    assert_eq!(rig.post("/v1/chat/completions", &of(chat(), 3), &[]).await.status, 200);
    for retry in ["0", "1"] {
        let headers = [("x-stainless-retry-count", retry)];
        for path in ["/v1/chat/completions", "/chat/completions"] {
            let refused = rig.post(path, &of(chat(), 4), &headers).await;
            // No later try would be any better.
            assert_eq!((refused.header("x-error-code"), refused.wait_ms()), (Some("invalid_value"), None));
            let said = String::from_utf8_lossy(&refused.body).into_owned();
            assert!(said.contains("less than or equal to 3: each answer"), "{said}");
            assert!(refused.status == if said.contains("\"param\":\"n\"") { 400 } else { 422 }, "{said}");
        }
    }
    assert_eq!(rig.post("/v1/chat/completions", &of(chat(), 3), &[]).await.status, 200, "turns come back");
    assert_eq!(rig.post("/submit_job", &of(job(), 5), &[]).await.status, 200, "no client waits for these");
    // Waiting.
    let rig = Rig::start(Config { waiting_max: 4, ..unlimited() }).await;
    rig.play(Play::Leave);
    assert_eq!(rig.post("/submit_job", &of(job(), 3), &[]).await.status, 200);
    let refused = rig.post("/submit_job", &of(job(), 2), &[]).await;
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("queue_full")));
    let several = json!({ "jobs": [chat(), of(chat(), 2)] });
    let refused = rig.post("/v1/jobs", &several, &[]).await.json();
    assert!(refused["error"]["message"].to_string().contains("Of these 2 jobs 1 fit now"), "{refused}");
    assert_eq!(counts(&rig).await.accepted, 3, "none of a request or all");
    assert_eq!(rig.post("/submit_job", &job(), &[]).await.status, 200);
    // Tokens per minute: a prompt of 12 by the estimate, and 16 for each answer.
    let rig = Rig::start(Config { tokens_per_minute: 100, ..unlimited() }).await;
    rig.play(Play::Leave);
    assert_eq!(rig.post("/submit_job", &job(), &[]).await.status, 200, "28 of 100");
    let fits = rig.post("/submit_job", &of(job(), 3), &[]).await;
    assert_eq!(fits.status, 200, "60 of 72: the prompt counts once");
    let refused = rig.post("/submit_job", &of(job(), 2), &[]).await;
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("token_limit_exceeded")), "44 of 12");
}

#[tokio::test]
async fn what_several_answers_cost_is_one_prompt_and_each_answer() {
    let rig = Rig::start(Config { catalogue_refresh_ms: 20, ..unlimited() }).await;
    money_orders::price(&*rig.ledger, MODEL, "1", "2").await.expect("a price");
    rig.get_until("/v1/models", |models| models["data"][0]["pricing"]["prompt"] == "0.000001").await;
    let reply = rig.post("/v1/chat/completions", &of(chat(), 3), &[]).await.json();
    assert_eq!(reply["usage"]["cost"], "0.00003", "12 + 3 times 3 times 2 millionths");
    // Of three answers, each reserves its own longest, and the prompt is reserved once.
    money_orders::limit(&*rig.ledger, "ada@example.com", "0.000300").await.expect("a limit");
    let fits = rig.post("/v1/chat/completions", &of(chat(), 2), &[]).await;
    assert_eq!(fits.status, 200, "{}", fits.json());
    let over = rig.post("/v1/chat/completions", &of(chat(), 8), &[]).await;
    assert_eq!((over.status, over.header("x-error-code")), (429, Some("insufficient_quota")));
    assert_eq!(counts(&rig).await.accepted, 5, "none of a request is accepted if not all are");
}
