//! Clients that say how long they wait and how long their jobs may take, and OpenAI's clients on the network's own
//! paths.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::rig::{MODEL, Play, Rig, chat, job, unlimited};

/// The paths that make one job, with a good body of each.
fn paths() -> [(&'static str, Value); 4] {
    [
        ("/v1/chat/completions", chat()),
        ("/chat/completions", chat()),
        ("/submit_job", job()),
        ("/v1/jobs", chat()),
    ]
}

#[tokio::test]
async fn a_client_that_prefers_not_to_wait_is_told_of_its_job() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    for (path, body) in paths() {
        let reply = rig.post(path, &body, &[("Prefer", "respond-async")]).await;
        let job = reply.json();
        assert_eq!(
            (reply.status, &job["status"], &job["object"]),
            (202, &json!("queued"), &json!("job")),
            "{path}"
        );
        assert_eq!(reply.header("preference-applied"), Some("respond-async"), "{path}");
        let location = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
        assert_eq!(reply.header("location"), Some(location.as_str()));
        assert_eq!(reply.header("x-job-id"), job["id"].as_str());
        assert_eq!(rig.get(&location).await.json()["status"], "queued");
    }
}

#[tokio::test]
async fn a_client_that_prefers_to_wait_gets_its_answer_or_its_job() {
    let rig = Rig::start(unlimited()).await;
    for (path, body) in paths() {
        rig.play(Play::Answer);
        let reply = rig.post(path, &body, &[("Prefer", "wait=30")]).await;
        let answer = reply.json();
        assert_eq!(reply.status, 200, "{path} {answer}");
        assert_eq!(reply.header("preference-applied"), Some("wait=30"), "{path}");
        let answer = if answer["object"] == "job" { answer["result"].clone() } else { answer };
        assert_eq!(answer["choices"][0]["message"]["content"], "Paris.", "{path}");

        rig.play(Play::Leave);
        let begun = Instant::now();
        let headers = [("Prefer", "respond-async, wait=1"), ("Idempotency-Key", "k")];
        let reply = rig.post(path, &body, &headers).await;
        let job = reply.json();
        assert_eq!((reply.status, &job["status"]), (202, &json!("queued")), "{path} {job}");
        assert_eq!(reply.header("preference-applied"), Some("respond-async, wait=1"), "{path}");
        assert!(begun.elapsed() >= Duration::from_millis(950), "{path} {:?}", begun.elapsed());
        // The job lives on, and the same request follows it again.
        let again = rig.post(path, &body, &headers).await;
        assert_eq!((again.status, &again.json()["id"]), (202, &job["id"]), "{path}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{path}");
        crate::lives::end_what_waits(&rig).await;
        let again = rig.post(path, &body, &headers).await;
        assert_eq!(again.status, 200, "{path} {}", again.json());
    }
    // What can't be done is ignored, and told by what is missing.
    rig.play(Play::Answer);
    let reply = rig.post("/v1/chat/completions", &chat(), &[("Prefer", "handling=strict, wait=soon")]).await;
    assert_eq!((reply.status, reply.header("preference-applied")), (200, None));
}

#[tokio::test]
async fn a_client_may_set_its_jobs_deadline() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let mut impatient = chat();
    impatient["request_timeout_time"] = json!(1);
    for (path, body) in paths() {
        let headers = [("Prefer", "respond-async"), ("Cancel-After", "90")];
        let job = rig.post(path, &body, &headers).await.json();
        let seconds = job["expires"].as_u64().zip(job["created"].as_u64()).map(|(end, begin)| end - begin);
        assert!(matches!(seconds, Some(89..=91)), "{path} {job}");
        for wrong in ["0", "-1", "soon", "3601"] {
            let reply = rig.post(path, &body, &[("Cancel-After", wrong)]).await;
            assert_eq!(reply.status, 400, "{path} {wrong}");
        }
    }
    let reply = rig.post("/v1/chat/completions", &impatient, &[("Cancel-After", "90")]).await;
    let id = reply.header("x-job-id").expect("a job").to_owned();
    let job = rig.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(
        job["expires"].as_u64().zip(job["created"].as_u64()).map(|(end, begin)| end - begin <= 2),
        Some(true)
    );
    let many = json!({ "jobs": [chat(), chat()] });
    let jobs = rig.post("/v1/jobs", &many, &[("Cancel-After", "30s")]).await.json();
    let id = jobs["data"][1]["id"].as_str().expect("an id");
    let job = rig.get(&format!("/v1/jobs/{id}")).await.json();
    let seconds = job["expires"].as_u64().zip(job["created"].as_u64()).map(|(end, begin)| end - begin);
    assert!(matches!(seconds, Some(29..=31)), "{job}");
}

/// Options that would change the answer are refused by name on every path, in the shape of the path.
#[tokio::test]
async fn what_would_change_the_answer_is_refused_on_every_path() {
    let rig = Rig::start(unlimited()).await;
    for (name, value) in [
        ("guided_json", json!({})),
        ("use_beam_search", json!(true)),
        ("stop_token_ids", json!([1])),
        ("prompt_logprobs", json!(0)),
        ("echo", json!(true)),
        ("typical_p", json!(0.9)),
        ("mirostat", json!(2)),
        ("best_of", json!(2)),
        ("tools", json!([{ "type": "function", "function": { "name": "f" } }])),
        ("response_format", json!({ "type": "json_object" })),
    ] {
        for (path, mut body) in paths() {
            body[name] = value.clone();
            let reply = rig.post(path, &body, &[]).await;
            let told = reply.json();
            if path.starts_with("/v1/") {
                assert_eq!((reply.status, &told["error"]["param"]), (400, &json!(name)), "{path} {told}");
            } else {
                assert_eq!(
                    (reply.status, &told["detail"][0]["loc"]),
                    (422, &json!(["body", name])),
                    "{path} {told}"
                );
                let message = told["detail"][0]["msg"].as_str().expect("a message");
                assert!(message.contains(name) && message.contains("not supported"), "{message}");
            }
        }
    }
}

/// A client whose base URL lacks `/v1` sends OpenAI's bodies to the network's own paths.
#[tokio::test]
async fn openais_bodies_are_served_on_either_path() {
    let rig = Rig::start(unlimited()).await;
    let messages = json!([{ "role": "user", "content": "x" }]);
    let parts = json!([{ "role": "developer", "content": [{ "type": "text", "text": "x" }] }]);
    let least = json!({ "model": MODEL, "messages": messages });
    for path in ["/chat/completions", "/v1/chat/completions"] {
        for body in [
            json!({ "model": MODEL, "messages": messages, "max_completion_tokens": 8 }),
            json!({ "model": MODEL, "messages": messages, "n": 1, "stream": false }),
            json!({ "model": MODEL, "messages": parts }),
            json!({ "model": MODEL, "messages": messages, "user": "u", "metadata": { "k": "v" } }),
        ] {
            let reply = rig.post(path, &body, &[]).await;
            assert_eq!(
                (reply.status, &reply.json()["object"]),
                (200, &json!("chat.completion")),
                "{path} {body}"
            );
        }
        let reply = rig.post(path, &least, &[("X-Stainless-Lang", "python")]).await;
        assert_eq!(reply.status, 200, "{path} {}", reply.json());
        let submitted = rig.post("/submit_job", &least, &[("X-Stainless-Lang", "python")]).await;
        assert_eq!(submitted.status, 200, "{}", submitted.json());
        assert!(submitted.json()["job_id"].is_string());
    }
    // A body that is not plainly OpenAI's is checked as the network's documents say.
    let reply = rig.post("/chat/completions", &least, &[]).await;
    let missing: Vec<&Value> = Vec::new();
    let told = reply.json();
    let fields: Vec<&Value> =
        told["detail"].as_array().map_or(missing, |all| all.iter().map(|one| &one["loc"][1]).collect());
    assert_eq!((reply.status, fields), (422, vec![&json!("max_tokens"), &json!("temperature")]));
    // The pairs of a chat are kept with its job.
    let with_pairs = json!({ "model": MODEL, "messages": messages, "metadata": { "k": "v" } });
    let job = rig.post("/v1/chat/completions", &with_pairs, &[]).await.json()["job_id"].clone();
    let listed = rig.get("/v1/jobs?metadata[k]=v&limit=1").await.json();
    assert_eq!(listed["data"][0]["id"], job);
}
