//! Nodes of one's own, groups and backstops, from a request to the reply that tells of them.

use infera_ledger::{NetworkBook as _, NodeChange, NodeRoster as _, PoolBook as _, Whose};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::time::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::client::{Client, question};
use crate::stage::{Stage, eventually, text};

fn asking(nodes: &str) -> Value {
    let mut body = question("What is 47 + 38?");
    body["verification"] = json!({ "nodes": nodes, "quorum": 3 });
    body
}

fn ledger(stage: &Stage) -> Arc<SqliteLedger> {
    let network = stage.network.as_ref().expect("a network that doesn't run yet");
    Arc::clone(&network.seams.ledger)
}

/// Makes a key for the account that owns this node, which has none.
async fn key_of_owner(client: &Client, ledger: &SqliteLedger, node: &str) -> (String, Client) {
    let nodes = ledger.nodes().await.expect("a ledger");
    let record = nodes.into_iter().find(|one| one.name == node).expect("the node");
    let body = json!({ "account": record.owner.as_str(), "scopes": ["user"] });
    let made = client.call("POST", "/v1/keys", Some(&body)).await;
    let key = made.json["key"].as_str().expect("a key").to_owned();
    (record.id.to_string(), Client { key, ..client.clone() })
}

/// Three private nodes of three owners form a group with their owners' consent. It serves its account's requests, compared as ever,
/// while strangers find no nodes; and the account itself, which owns none, is told so in numbers.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_private_nodes_answers_for_its_account_alone() {
    let mut stage = Stage::open(3).await;
    let ledger = ledger(&stage);
    stage.run(3).await;
    let client = stage.client.clone();
    let refused = client.chat(&asking("own")).await;
    assert_eq!((refused.status, &refused.json["error"]["code"]), (503, &json!("insufficient_nodes")));
    let said = refused.json["error"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("this account serve this model: 0 do"), "{said}");

    let made = client.call("POST", "/v1/node-groups", Some(&json!({ "name": "lab" }))).await.json;
    let add = format!("/v1/node-groups/{}/add_node", made["id"].as_str().expect("an id"));
    for index in 1..=3 {
        let name = format!("resident-{index}");
        let (node, owner) = key_of_owner(&client, &ledger, &name).await;
        let invited = client.call("POST", &add, Some(&json!({ "node": node }))).await;
        assert_eq!(invited.status, 200, "{}", invited.json);
        let unwilling = client.chat(&asking("group:lab")).await;
        assert_eq!(unwilling.status, 503, "{}", unwilling.json);
        let consent = owner.call("POST", &add, Some(&json!({ "node": name }))).await;
        assert_eq!(consent.json["nodes"][0]["status"], "member", "{}", consent.json);
        let change = NodeChange::Restrict { is_private: true };
        ledger.change_node(&Whose::Anyone, &name, &change, Timestamp::now()).await.expect("a ledger");
    }
    let reply = eventually("verifiers know the group", async || {
        let reply = client.chat(&asking("group:lab")).await;
        (reply.status == 200).then_some(reply.json)
    })
    .await;
    assert_eq!(text(&reply), "47 + 38 = 85.");
    let verification = &reply["verification"];
    assert_eq!(
        (&verification["status"], &verification["replicas"]["agreed"]),
        (&json!("verified"), &json!(3))
    );
    eventually("strangers have no nodes", async || {
        let reply = client.chat(&question("What is 5 + 6?")).await;
        (reply.status == 503).then_some(())
    })
    .await;
    eventually("they are no capacity for others", async || {
        let models = client.call("GET", "/v1/models", None).await.json;
        (models["data"][0]["nodes"] == 0).then_some(())
    })
    .await;
    // What is collected later waits for the same nodes, in the ledger.
    let mut job = asking("group:lab");
    job["max_output"] = job["max_tokens"].take();
    let submitted = client.call("POST", "/submit_job", Some(&job)).await;
    let id = submitted.json["job_id"].as_str().expect("a job").to_owned();
    eventually("the job ends", async || (client.job(&id).await["status"] == "succeeded").then_some(())).await;
    stage.close().await;
}

/// The third of three nodes is the network's own: it answers, and the reply says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_backstops_part_is_told_in_the_reply() {
    let mut stage = Stage::open(3).await;
    let ledger = ledger(&stage);
    ledger.set_backstop("resident-3", true, Timestamp::now()).await.expect("a ledger").expect("the node");
    stage.run(3).await;
    let mut body = question("What is 47 + 38?");
    body["verification"] = json!({ "quorum": 3 });
    let reply = eventually("verifiers know the backstop", async || {
        let reply = stage.client.chat(&body).await;
        assert_eq!(reply.status, 200, "{}", reply.json);
        (reply.json["verification"]["backstop"] == 1).then_some(reply.json)
    })
    .await;
    assert_eq!((text(&reply), &reply["verification"]["status"]), ("47 + 38 = 85.", &json!("verified")));
    let job = stage.client.job(reply["job_id"].as_str().expect("a job")).await;
    assert_eq!(job["verification"]["backstop"], 1);
    stage.close().await;
}
