//! The knobs of a conversation, on all routes that take one: kept as they are given, left out where they change nothing, and
//! refused by name where they are out of range, contradict each other or ask for what the model's nodes can't do.

use infera_broker::{Broker as _, topology};
use infera_gateway::Config;
use infera_types::features::{Feature, Features};
use infera_types::ids::{ModelName, VerifierId};
use infera_types::job::JobRequest;
use infera_types::knobs::Knobs;
use infera_types::messages::{CapacitySummary, ModelCapacity, Version, Wire as _};
use serde_json::{Value, json};

use crate::seeds::stored;
use crate::support::rig::{MODEL, Play, Rig, chat, job, unlimited};
use crate::support::told::told;

/// All routes that take a conversation, each with a good body of at most 16 tokens.
fn routes() -> [(&'static str, Value); 4] {
    [
        ("/v1/chat/completions", chat()),
        ("/v1/jobs", chat()),
        ("/chat/completions", chat()),
        ("/submit_job", job()),
    ]
}

fn with(mut body: Value, members: &Value) -> Value {
    for (name, value) in members.as_object().expect("members") {
        body[name] = value.clone();
    }
    body
}

/// Returns the members that a route knows: a job of `/v1/jobs` has no `max_output`, and may have no member that it doesn't know.
fn of_route(path: &str, members: &Value) -> Value {
    let mut members = members.clone();
    if path == "/v1/jobs" {
        members.as_object_mut().expect("members").shift_remove("max_output");
    }
    members
}

/// Sends the members on each route and expects a refusal that names this place, beginning with this field, and says these words.
async fn is_refused(rig: &Rig, members: Value, place: &str, words: &str) {
    for (path, body) in routes() {
        let reply = rig.post(path, &with(body, &of_route(path, &members)), &[]).await;
        let told = reply.json();
        let (named, said) = if path.starts_with("/v1/") {
            assert_eq!(
                (reply.status, &told["error"]["code"]),
                (400, &json!("invalid_value")),
                "{path} {members}"
            );
            (
                told["error"]["param"].as_str().unwrap_or_default().to_owned(),
                told["error"]["message"].to_string(),
            )
        } else {
            assert_eq!(reply.status, 422, "{path} {members} {told}");
            let steps = told["detail"][0]["loc"].as_array().cloned().unwrap_or_default();
            let place = steps.iter().skip(1).fold(String::new(), |place, step| match step {
                Value::String(name) if place.is_empty() => name.clone(),
                Value::String(name) => format!("{place}.{name}"),
                index => format!("{place}[{index}]"),
            });
            (place, told["detail"][0]["msg"].to_string())
        };
        let place =
            if path == "/submit_job" { place.replace("max_tokens", "max_output") } else { place.to_owned() };
        assert_eq!(named, place, "{path} {members}: {told}");
        assert!(said.contains(words), "{path} {members}: {said}");
    }
}

#[tokio::test]
async fn what_is_out_of_range_or_contradicts_itself_is_refused_by_name() {
    let rig = Rig::start(unlimited()).await;
    let biases = |count: u32| -> Value { (0..count).map(|id| (id.to_string(), json!(1))).collect() };
    for (members, place, words) in [
        (json!({ "stop": "" }), "stop", "at least 1 character"),
        (json!({ "stop": ["a", ""] }), "stop[1]", "at least 1 character"),
        (json!({ "stop": ["a", "b", "c", "d", "e"] }), "stop", "at most 4 items"),
        (json!({ "stop": "x".repeat(513) }), "stop", "at most 512 characters"),
        (json!({ "stop": ["x", 5] }), "stop[1]", "valid string"),
        (json!({ "stop": { "a": 1 } }), "stop", "valid string"),
        (json!({ "top_p": 0 }), "top_p", "greater than 0"),
        (json!({ "top_p": 1.01 }), "top_p", "less than or equal to 1"),
        (json!({ "top_p": "much" }), "top_p", "valid number"),
        (json!({ "top_k": -2 }), "top_k", "greater than or equal to -1"),
        (json!({ "top_k": 1.5 }), "top_k", "valid integer"),
        (json!({ "min_p": -0.1 }), "min_p", "greater than or equal to 0"),
        (json!({ "min_p": 1.1 }), "min_p", "less than or equal to 1"),
        (json!({ "frequency_penalty": 2.1 }), "frequency_penalty", "less than or equal to 2"),
        (json!({ "presence_penalty": -2.1 }), "presence_penalty", "greater than or equal to -2"),
        (json!({ "repetition_penalty": 0 }), "repetition_penalty", "greater than 0"),
        (json!({ "repetition_penalty": 2.1 }), "repetition_penalty", "less than or equal to 2"),
        (json!({ "logit_bias": [1] }), "logit_bias", "valid dictionary"),
        (json!({ "logit_bias": { "x": 1 } }), "logit_bias.x", "digits"),
        (json!({ "logit_bias": { "07": 1 } }), "logit_bias.07", "digits"),
        (json!({ "logit_bias": { "7": 100.5 } }), "logit_bias.7", "less than or equal to 100"),
        (json!({ "logit_bias": { "7": null } }), "logit_bias.7", "valid number"),
        (json!({ "logit_bias": biases(301) }), "logit_bias", "at most 300 items"),
        (json!({ "n": 0 }), "n", "greater than or equal to 1"),
        (json!({ "n": 9 }), "n", "less than or equal to 8"),
        (json!({ "min_tokens": -1 }), "min_tokens", "greater than or equal to 0"),
        (json!({ "min_tokens": 17 }), "min_tokens", "less than or equal to 16"),
        (json!({ "ignore_eos": 1 }), "ignore_eos", "valid boolean"),
        (json!({ "return_token_ids": "yes" }), "return_token_ids", "valid boolean"),
        (json!({ "logprobs": 5 }), "logprobs", "valid boolean"),
        (json!({ "top_logprobs": 3 }), "top_logprobs", "unless 'logprobs' is true"),
        (json!({ "logprobs": false, "top_logprobs": 1 }), "top_logprobs", "unless 'logprobs' is true"),
        (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs", "less than or equal to 20"),
        (json!({ "best_of": 2 }), "best_of", "value of 'n'"),
        (json!({ "n": 2, "best_of": 3 }), "best_of", "value of 'n'"),
        (json!({ "tools": [{ "type": "function" }] }), "tools", "not supported"),
        (json!({ "guided_regex": "a+" }), "guided_regex", "not supported"),
        (json!({ "grammar": "root ::= \"a\"" }), "grammar", "not supported"),
        (json!({ "bad_words": ["x"] }), "bad_words", "not supported"),
        (json!({ "suffix": "x" }), "suffix", "not supported"),
        (json!({ "repeat_penalty": 1.2 }), "repeat_penalty", "not supported"),
        (json!({ "skip_special_tokens": false }), "skip_special_tokens", "not supported"),
    ] {
        is_refused(&rig, members, place, words).await;
    }
}

/// What can't fit into one message names the longest answer that can.
#[tokio::test]
async fn an_answer_too_long_to_be_told_of_is_refused_with_the_longest_one() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    for likeliest in [0, 5, 20] {
        let asking = |tokens: u64| json!({ "logprobs": true, "top_logprobs": likeliest, "max_tokens": tokens, "max_output": tokens });
        let reply =
            rig.post("/v1/jobs", &with(chat(), &of_route("/v1/jobs", &asking(8_192))), &[]).await.json();
        let said = reply["error"]["message"].as_str().expect("a message").to_owned();
        let most: u64 = said
            .split("less than or equal to ")
            .nth(1)
            .and_then(|rest| rest.split(':').next())
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("{said}"));
        is_refused(&rig, asking(most + 1), "max_tokens", &format!("equal to {most}: ")).await;
        for (path, body) in routes() {
            if path != "/chat/completions" && path != "/v1/chat/completions" {
                let reply = rig.post(path, &with(body, &of_route(path, &asking(most))), &[]).await;
                assert!(matches!(reply.status, 200 | 202), "{path} {most} {}", reply.json());
            }
        }
    }
    // A length that the body leaves open is chosen so that it fits.
    let open =
        json!({ "model": MODEL, "messages": chat()["messages"], "logprobs": true, "top_logprobs": 20 });
    assert_eq!(rig.post("/v1/jobs", &open, &[]).await.status, 202);
}

async fn request_of(rig: &Rig, path: &str, body: &Value) -> JobRequest {
    let reply = rig.post(path, body, &[]).await;
    assert!(matches!(reply.status, 200 | 202), "{path} {body} {}", reply.json());
    stored(rig, reply.header("x-job-id").expect("a job")).await
}

#[tokio::test]
async fn knobs_are_kept_and_those_that_change_nothing_are_left_out() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let none = Knobs::default();
    for (members, knobs, top_logprobs) in [
        (
            json!({
                "stop": "\n\n", "top_p": 0.9, "top_k": 40, "min_p": 0.05, "frequency_penalty": -0.5, "presence_penalty": 0.25,
                "repetition_penalty": 1.1, "logit_bias": { "7": -100, "11": 2.5, "13": 0 }, "min_tokens": 3, "ignore_eos": true,
            }),
            Knobs {
                stop: vec!["\n\n".to_owned()],
                top_p: Some(0.9),
                top_k: Some(40),
                min_p: Some(0.05),
                frequency_penalty: Some(-0.5),
                presence_penalty: Some(0.25),
                repetition_penalty: Some(1.1),
                logit_bias: [(7, -100.0), (11, 2.5)].into(),
                min_tokens: 3,
                ignore_eos: true,
            },
            None,
        ),
        (
            json!({ "stop": ["a", "b", "c", "x".repeat(512)] }),
            Knobs {
                stop: vec!["a".to_owned(), "b".to_owned(), "c".to_owned(), "x".repeat(512)],
                ..none.clone()
            },
            None,
        ),
        (json!({ "logprobs": true }), none.clone(), Some(0)),
        (json!({ "logprobs": true, "top_logprobs": 20 }), none.clone(), Some(20)),
        (
            json!({
                "stop": [], "top_p": 1, "top_k": -1, "min_p": 0, "frequency_penalty": -0.0, "presence_penalty": 0, "n": 1,
                "repetition_penalty": 1, "logit_bias": {}, "min_tokens": 0, "ignore_eos": false, "logprobs": false,
                "top_logprobs": 0, "best_of": 1, "use_beam_search": false, "length_penalty": 1, "guided_choice": [],
                "return_token_ids": false, "echo": false, "suffix": "", "skip_special_tokens": true, "typical_p": 1.0,
            }),
            none.clone(),
            None,
        ),
        (
            json!({ "stop": null, "top_k": 0, "logit_bias": { "5": 0.0 }, "best_of": null }),
            none.clone(),
            None,
        ),
        (
            json!({
                "user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "prompt_cache_retention": "24h", "verbosity": "low",
                "parallel_tool_calls": true, "prediction": null, "reasoning_effort": "high",
            }),
            none.clone(),
            None,
        ),
        (json!({ "no_one_knows": [1], "cache_prompt": true }), none, None),
    ] {
        // Unknown members are refused at the network's own list of jobs.
        let is_known = members.get("cache_prompt").is_none();
        for path in ["/submit_job", "/v1/jobs"].into_iter().take(1 + usize::from(is_known)) {
            let body = if path == "/v1/jobs" { chat() } else { job() };
            let request = request_of(&rig, path, &with(body.clone(), &members)).await;
            assert_eq!((&request.knobs, request.top_logprobs), (&knobs, top_logprobs), "{path} {members}");
            if knobs.are_plain() {
                // It draws the same noise as before there were knobs.
                let plain = request_of(&rig, path, &body).await;
                assert_eq!(request.digest(), plain.digest(), "{path} {members}");
            }
        }
    }
}

#[tokio::test]
async fn log_probabilities_and_token_ids_are_told_in_openais_form() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::End(told()));
    let members = json!({ "logprobs": true, "top_logprobs": 2, "return_token_ids": true });
    for (path, body) in routes() {
        let reply = rig.post(path, &with(body, &members), &[("Prefer", "wait=30")]).await;
        let body = reply.json();
        let choice =
            if body["choices"].is_array() { &body["choices"][0] } else { &body["result"]["choices"][0] };
        assert_eq!((reply.status, &choice["token_ids"]), (200, &json!([7, 8, 9])), "{path} {body}");
        let content = choice["logprobs"]["content"].as_array().expect("content");
        assert_eq!((content.len(), &choice["logprobs"]["refusal"]), (3, &Value::Null));
        let first = &content[0];
        assert_eq!(
            (&first["token"], &first["bytes"], &first["logprob"]),
            (&json!("\u{fffd}"), &json!([0xc3]), &json!(-1.0))
        );
        assert_eq!(
            first["top_logprobs"][0],
            json!({ "token": "\u{e9}", "bytes": [0xc3, 0xa9], "logprob": -0.5 })
        );
        assert_eq!(first["top_logprobs"].as_array().map(Vec::len), Some(2));
        // No probability is above 1, and a token without a spelling has none.
        assert_eq!((&content[1]["logprob"], &content[1]["token"]), (&json!(0.0), &json!(" Par")));
        assert_eq!((&content[2]["logprob"], &content[2]["bytes"]), (&json!(-5.0), &Value::Null));
    }
    rig.play(Play::Answer);
    let plain = rig.post("/v1/chat/completions", &chat(), &[]).await.json();
    assert_eq!(
        (&plain["choices"][0]["logprobs"], plain["choices"][0].get("token_ids")),
        (&Value::Null, None)
    );
}

/// A job that is collected later still tells what its request asked for.
#[tokio::test]
async fn what_is_collected_later_tells_the_same() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::End(told()));
    let members = json!({ "logprobs": true, "return_token_ids": true });
    let id = rig.post("/submit_job", &with(job(), &members), &[]).await.json()["job_id"].clone();
    let path = format!("/v1/jobs/{}", id.as_str().expect("an id"));
    let ended = rig.get_until(&path, |job| job["status"] == "succeeded").await.json();
    let choice = &ended["result"]["choices"][0];
    assert_eq!(choice["token_ids"], json!([7, 8, 9]));
    assert_eq!(choice["logprobs"]["content"].as_array().map(Vec::len), Some(3));
}

/// Announces that the model's nodes can do these things and no more, until the gateway knows.
async fn announce(rig: &Rig, features: Option<Features>, is_known: impl Fn(u16) -> bool) {
    let models =
        vec![ModelCapacity { model: ModelName::new(MODEL), nodes: 4, owners: 4, free_slots: 8, features }];
    let summary = CapacitySummary { verifier: VerifierId::fresh(), models, speaks: Version::NEWEST };
    for _ in 0..200 {
        rig.broker.publish(&topology::capacity(), summary.to_message("capacity")).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let probe = with(job(), &json!({ "top_k": 5 }));
        if is_known(rig.post("/submit_job", &probe, &[]).await.status) {
            return;
        }
    }
    panic!("the gateway never knew");
}

#[tokio::test]
async fn a_model_lists_the_knobs_that_its_nodes_can_do() {
    let rig = Rig::start_with(Config { capacity_ttl_ms: 60_000, ..unlimited() }, 0).await;
    rig.play(Play::Leave);
    let all = [Feature::Temperature, Feature::Seed, Feature::Sampling2];
    for (features, has_knobs) in [(&all[..2], false), (&all, true)] {
        let features = Features::from_iter(features.iter().copied());
        announce(&rig, Some(features), |status| (status == 400) != has_knobs).await;
        let model = rig.get(&format!("/v1/models/{MODEL}")).await.json();
        let listed = model["supported_parameters"].to_string();
        for knob in ["n", "stop", "top_p", "logit_bias", "min_tokens", "logprobs", "top_logprobs"] {
            assert_eq!(listed.contains(&format!("\"{knob}\"")), has_knobs, "{knob} in {listed}");
        }
        assert!(listed.contains("\"temperature\"") && listed.contains("\"seed\""), "{listed}");
    }
}

#[tokio::test]
async fn what_the_models_nodes_can_not_do_is_refused_at_the_door() {
    // No other verifier is heard, which wouldn't tell.
    let rig = Rig::start_with(Config { capacity_ttl_ms: 60_000, ..unlimited() }, 0).await;
    rig.play(Play::Leave);
    announce(&rig, Some(Features::from_iter([Feature::Temperature])), |status| status == 400).await;
    for (members, parameter, all) in [
        (json!({ "top_k": 5, "stop": "x" }), "stop", "stop, top_k"),
        (json!({ "n": 2 }), "n", "n"),
        (json!({ "logprobs": true }), "logprobs", "logprobs"),
        (json!({ "seed": 1, "temperature": 0.5 }), "seed", "seed"),
    ] {
        for (path, body) in routes() {
            let reply = rig.post(path, &with(body, &members), &[]).await;
            assert_eq!(
                (reply.status, reply.header("x-error-code")),
                (400, Some("unsupported_by_model")),
                "{path} {members}"
            );
            let told = reply.json();
            let said = told["error"]["message"].as_str().or(told["detail"].as_str()).unwrap_or_default();
            assert!(said.contains(MODEL) && said.contains(&format!("by: {all}.")), "{said}");
            if path.starts_with("/v1") {
                assert_eq!(told["error"]["param"], parameter);
            }
        }
    }
    // Only a client that waits can stream.
    for path in ["/v1/chat/completions", "/chat/completions"] {
        for verification in [json!(null), json!({ "release": "first" })] {
            let body = with(chat(), &json!({ "stream": true, "verification": verification }));
            let reply = rig.post(path, &body, &[]).await;
            assert_eq!(
                (reply.status, reply.header("x-error-code")),
                (400, Some("unsupported_by_model")),
                "{path} {verification}"
            );
            assert!(reply.json().to_string().contains("by: stream."), "{}", reply.json());
        }
    }
    let several = json!({ "jobs": [chat(), with(chat(), &json!({ "min_p": 0.1 }))] });
    let told = rig.post("/v1/jobs", &several, &[]).await.json();
    assert_eq!(told["errors"]["data"][0]["param"], "jobs[1].min_p", "{told}");
    assert_eq!(told["errors"]["data"][0]["code"], "unsupported_by_model");
    // What they can do is taken, and so is what is asked of one node, of which only verifiers know.
    for members in [json!({ "temperature": 0.5 }), json!({ "top_k": 5, "verification": { "replicas": 1 } })] {
        assert_eq!(rig.post("/submit_job", &with(job(), &members), &[]).await.status, 200, "{members}");
    }
    announce(&rig, None, |status| status == 200).await;
}
