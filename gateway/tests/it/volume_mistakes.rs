//! What is said of jobs that can't be accepted, alone and in a list.

use serde_json::{Value, json};

use crate::support::rig::{Rig, unlimited};
use crate::volume::{accepted_now, item};

/// The same fault has the same status and code, whether its job is sent alone or among others; there the place names the job.
#[tokio::test]
async fn a_fault_is_told_alike_alone_and_among_others() {
    let rig = Rig::start(unlimited()).await;
    let with = |member: &str, value: Value| {
        let mut job = item(1);
        job[member] = value;
        job
    };
    let known = with("idempotency_key", json!("k"));
    assert_eq!(rig.post("/v1/jobs", &known, &[]).await.status, 202);
    let mut reused = known.clone();
    reused["messages"][0]["content"] = json!("another question");
    let mut untitled = item(1);
    untitled.as_object_mut().expect("an object").shift_remove("messages");
    for (job, code, member) in [
        (with("model", json!("none")), "model_not_found", "model"),
        (untitled, "missing_field", "messages"),
        (with("temperature", json!(3)), "invalid_value", "temperature"),
        (with("temprature", json!(1)), "invalid_value", "temprature"),
        (with("service_tier", json!("priority")), "priority_not_allowed", "service_tier"),
        (
            with("verification", json!({ "nodes": "group:none" })),
            "node_group_not_found",
            "verification.nodes",
        ),
        (reused, "idempotency_key_reused", "idempotency_key"),
    ] {
        let alone = rig.post("/v1/jobs", &job, &[]).await;
        let among = rig.post("/v1/jobs", &json!({ "jobs": [item(7), item(8), job] }), &[]).await;
        assert_eq!(alone.json()["error"]["code"], json!(code), "{}", alone.json());
        let told = among.json();
        assert_eq!(
            (among.status, &told["error"]["code"], among.header("x-error-code")),
            (alone.status, &json!(code), Some(code)),
            "{told}"
        );
        assert_eq!(told["error"]["param"], json!(format!("jobs[2].{member}")));
        let listed = &told["errors"]["data"];
        assert_eq!((listed.as_array().map(Vec::len), &listed[0]["code"]), (Some(1), &json!(code)), "{told}");
        assert_eq!(told["error"]["type"], alone.json()["error"]["type"]);
    }
    // Of several faults the first one decides, and all are listed.
    let strangers = with("verification", json!({ "nodes": "group:none" }));
    let jobs = json!({ "jobs": [item(1), with("model", json!("none")), item(2), strangers] });
    let told = rig.post("/v1/jobs", &jobs, &[]).await;
    let listed: Vec<Value> = told.json()["errors"]["data"].as_array().cloned().unwrap_or_default();
    assert_eq!((told.status, listed.len()), (404, 2), "{}", told.json());
    assert_eq!(
        (&listed[0]["param"], &listed[1]["param"]),
        (&json!("jobs[1].model"), &json!("jobs[3].verification.nodes"))
    );
    assert_eq!(
        (&told.json()["error"]["code"], &listed[1]["code"]),
        (&json!("model_not_found"), &json!("node_group_not_found"))
    );
}

/// A misspelt member would be ignored: the job would be a second one, or answered otherwise than was meant.
#[tokio::test]
async fn a_jobs_misspelt_member_is_named_with_what_was_meant() {
    let rig = Rig::start(unlimited()).await;
    let with = |member: &str| {
        let mut job = item(1);
        job[member] = json!("x");
        job
    };
    for (member, meant) in [
        ("idempotencykey", "idempotency_key"),
        ("metdata", "metadata"),
        ("max_output", ""),
        ("max_token", "max_tokens"),
        ("temprature", "temperature"),
        ("priorities", ""),
    ] {
        for (body, place) in [
            (with(member), member.to_owned()),
            (json!({ "jobs": [item(0), with(member)] }), format!("jobs[1].{member}")),
        ] {
            let reply = rig.post("/v1/jobs", &body, &[]).await;
            let error = reply.json()["error"].clone();
            assert_eq!((reply.status, &error["param"]), (400, &json!(place)), "{error}");
            let said = error["message"].as_str().expect("a message");
            let is_told = said.contains(&format!("did you mean '{meant}'?"));
            assert!(if meant.is_empty() { said.contains("no such member") } else { is_told }, "{said}");
        }
    }
    let reply = rig.post("/v1/jobs", &json!({ "job": [item(0)] }), &[]).await;
    let said = reply.json()["error"]["message"].as_str().expect("a message").to_owned();
    assert!(reply.status == 400 && said.contains("did you mean 'jobs'?"), "{said}");
    let reply = rig.post("/v1/jobs", &json!({ "jobs": [item(0)], "metadata": {} }), &[]).await;
    let said = reply.json()["error"]["message"].as_str().expect("a message").to_owned();
    assert!(reply.status == 400 && said.ends_with("There are: 'jobs'."), "{said}");
    assert_eq!(accepted_now(&rig).await, 0);
}
