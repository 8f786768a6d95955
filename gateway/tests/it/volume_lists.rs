//! Lists of jobs, and cancelling several in one request.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client;
use crate::support::rig::{MODEL, Play, Rig, new_key, unlimited};
use crate::volume::{another_gateway, batch, ids, item};

#[tokio::test]
async fn jobs_are_listed_by_pages_and_filters() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let jobs = ids(&rig.post("/v1/jobs", &batch(45), &[]).await);
    rig.post("/v1/jobs/cancel", &json!({ "ids": [jobs[3], jobs[4]] }), &[]).await;
    let newest: Vec<String> = jobs.iter().rev().cloned().collect();
    for (order, expected) in [("", &newest), ("&order=asc", &jobs), ("&order=desc", &newest)] {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let page = rig.get(&format!("/v1/jobs?limit=20{order}{after}")).await;
            let body = page.json();
            let of_page = ids(&page);
            assert_eq!((&body["object"], &body["first_id"]), (&json!("list"), &json!(of_page[0])));
            assert_eq!(body["last_id"], json!(of_page[of_page.len() - 1]));
            all.extend(of_page);
            if body["has_more"] == false {
                break;
            }
            after = format!("&after={}", body["last_id"].as_str().expect("a cursor"));
        }
        assert_eq!(&all, expected, "{order}");
    }
    assert_eq!(ids(&rig.get("/v1/jobs").await).len(), 20, "as OpenAI's lists");
    for (query, expected) in [
        ("status=cancelled", vec![4, 3]),
        ("status=ended", vec![4, 3]),
        ("state=queued&limit=2", vec![44, 43]),
        ("status=running", vec![]),
        ("metadata[number]=7", vec![7]),
        ("metadata%5Bnumber%5D=7&status=queued&model=test-model", vec![7]),
        ("metadata[number]=7&metadata[other]=x", vec![]),
        ("model=none", vec![]),
        ("since=4000000000", vec![]),
        ("until=1000", vec![]),
        ("since=1000&until=4000000000&limit=1", vec![44]),
    ] {
        let expected: Vec<String> = expected.iter().map(|place: &usize| jobs[*place].clone()).collect();
        assert_eq!(ids(&rig.get(&format!("/v1/jobs?{query}")).await), expected, "{query}");
    }
    let one = rig.get("/v1/jobs?metadata[number]=3").await.json()["data"][0].clone();
    assert_eq!((&one["status"], &one["metadata"]["number"]), (&json!("cancelled"), &json!("3")));
    assert!(one["created"].is_u64() && one["ended"].is_u64() && one["expires"].is_u64());
    for wrong in ["limit=101", "order=up", "status=done", "after=x", "since=yesterday", "statsu=queued"] {
        let reply = rig.get(&format!("/v1/jobs?{wrong}")).await;
        let name = wrong.split('=').next();
        assert_eq!((reply.status, reply.json()["error"]["param"].as_str()), (400, name), "{wrong}");
    }
    let (_, stranger) = new_key(&rig.ledger, "grace@example.com").await;
    let strange = rig.send("GET", "/v1/jobs", &[("api_key", &stranger)], b"").await.json();
    assert_eq!(
        strange,
        json!({ "object": "list", "data": [], "has_more": false, "first_id": null, "last_id": null })
    );
}

#[tokio::test]
async fn several_jobs_are_cancelled_in_one_request() {
    let rig = Rig::start(unlimited()).await;
    let done = rig.post("/v1/chat/completions", &item(0), &[]).await.json()["job_id"].clone();
    rig.play(Play::Leave);
    let jobs = ids(&rig.post("/v1/jobs", &batch(6), &[]).await);
    let body = json!({ "ids": [jobs[1], done, "job_00000000000000000000000000000000", "no id", jobs[0]] });
    // At another gateway than the one that accepted them; a client that waits is told by the next poll.
    let (other, stop) = another_gateway(&rig).await;
    let waits = format!("/v1/jobs/{}?wait=60", jobs[1]);
    let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
    let text = body.to_string();
    let (waited, reply) = tokio::join!(rig.get(&waits), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        client::send(other, "POST", "/v1/jobs/cancel", &headers, text.as_bytes()).await.expect("a reply")
    });
    let reply = reply.json();
    let statuses: Vec<Value> =
        reply["data"].as_array().expect("a list").iter().map(|job| job["status"].clone()).collect();
    assert_eq!(statuses, ["cancelled", "succeeded", "not_found", "not_found", "cancelled"]);
    assert_eq!(
        (&reply["cancelled"], &reply["ended_before"], &reply["not_found"]),
        (&json!(2), &json!(1), &json!(2))
    );
    assert_eq!(waited.json()["status"], "cancelled");
    let again = rig.post("/v1/jobs/cancel", &body, &[]).await.json();
    assert_eq!((&again["cancelled"], &again["ended_before"]), (&json!(0), &json!(3)));

    let by_filter = |filter: Value| json!({ "filter": filter });
    let one =
        rig.post("/v1/jobs/cancel", &by_filter(json!({ "metadata": { "number": "4" } })), &[]).await.json();
    assert_eq!((&one["cancelled"], &one["data"][0]["id"]), (&json!(1), &json!(jobs[4])));
    let none = rig.post("/v1/jobs/cancel", &by_filter(json!({ "status": "running" })), &[]).await.json();
    assert_eq!((&none["cancelled"], &none["has_more"]), (&json!(0), &json!(false)));
    let rest = rig
        .post("/v1/jobs/cancel", &by_filter(json!({ "status": "queued", "model": MODEL })), &[])
        .await
        .json();
    assert_eq!((&rest["cancelled"], &rest["has_more"]), (&json!(3), &json!(false)));
    for wrong in [
        json!({}),
        json!({ "ids": [], "filter": {} }),
        json!({ "ids": [] }),
        json!({ "ids": [5] }),
        json!({ "ids": "x" }),
        json!({ "filter": { "status": "succeeded" } }),
        json!({ "filter": { "modle": MODEL } }),
        json!({ "filter": [] }),
        json!({ "filter": {}, "after": "x" }),
    ] {
        assert_eq!(rig.post("/v1/jobs/cancel", &wrong, &[]).await.status, 400, "{wrong}");
    }
    stop.cancel();
}
