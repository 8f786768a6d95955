//! Registering nodes at a network that runs in one process, to which none can connect from outside.

use infera_gateway::Config;
use infera_ledger::{NetworkBook as _, NodeBook as _};
use infera_types::ids::NodeId;
use infera_types::time::Timestamp;
use serde_json::json;

use super::node_owners::post;
use crate::support::rig::{Rig, new_key, unlimited};

const SECRET: &str = "0123456789abcdef";

#[tokio::test]
async fn a_node_is_registered_and_told_that_it_cannot_connect() {
    let rig = Rig::start_of_one_process(unlimited()).await;
    let node = json!({ "node_id": "a", "secret": SECRET });
    let unknown = post(&rig, "/check_node_secret", &node, None).await;
    assert_eq!((unknown.status, &unknown.json()["code"]), (403, &json!("node_unknown")));
    assert_eq!(post(&rig, "/register_node_secret", &node, None).await.status, 401, "whose would it be?");
    assert_eq!(rig.ledger.nodes().await.expect("a ledger"), []);

    let registered = post(&rig, "/register_node_secret", &node, Some(&rig.key)).await;
    let body = registered.json();
    let id = body["node"].as_str().expect("an id").to_owned();
    assert_eq!(registered.status, 200);
    assert_eq!((&body["status"], &body["node_id"]), (&json!("registered"), &json!("a")));
    assert_eq!(body["connects"], json!(false));
    assert!(body["message"].as_str().is_some_and(|text| text.contains("one process")), "{body}");
    for (path, key) in [("/register_node_secret", Some(rig.key.as_str())), ("/check_node_secret", None)] {
        let again = post(&rig, path, &node, key).await;
        assert_eq!((again.status, again.json()), (200, body.clone()), "{path}");
    }

    let guess = json!({ "node_id": "a", "secret": "fedcba9876543210" });
    let guessed = post(&rig, "/check_node_secret", &guess, None).await;
    assert_eq!((guessed.status, guessed.json()), (403, unknown.json()), "like an unknown node");
    let (_, other) = new_key(&rig.ledger, "other@example.com").await;
    let taken = post(&rig, "/register_node_secret", &guess, Some(&other)).await;
    assert_eq!((taken.status, &taken.json()["code"]), (409, &json!("node_name_taken")));

    // Its owner sees and manages it as in a cluster.
    let drained = post(&rig, "/worker/deregister_node", &json!({ "node_url": "a" }), Some(&rig.key)).await;
    assert_eq!((drained.status, &drained.json()["status"]), (200, &json!("draining")));
    rig.ledger.revoke_node(&NodeId::new(id), Timestamp::now()).await.expect("a ledger");
    let revoked = post(&rig, "/check_node_secret", &node, None).await;
    assert_eq!((revoked.status, &revoked.json()["code"]), (403, &json!("node_revoked")));
}

#[tokio::test]
async fn it_is_not_ready_before_its_nodes_are_heard() {
    let rig = Rig::start_of_one_process_with(unlimited(), 0).await;
    let reply = rig.send("GET", "/readyz", &[], b"").await;
    let failing: Vec<String> = reply.json()["checks"]
        .as_object()
        .expect("checks")
        .iter()
        .filter(|(_, is_fine)| **is_fine == json!(false))
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!((reply.status, failing), (503, vec!["nodes".to_owned()]));
}

#[tokio::test]
async fn an_account_registers_a_bounded_number_of_nodes() {
    let config = Config { nodes_per_account_max: 3, ..unlimited() };
    let rig = Rig::start_of_one_process(config).await;
    let register = async |name: &str, key: &str| {
        let node = json!({ "node_id": name, "secret": SECRET });
        let reply = post(&rig, "/register_node_secret", &node, Some(key)).await;
        (reply.status, reply.json()["code"].clone())
    };
    for name in ["a", "b", "c"] {
        assert_eq!(register(name, &rig.key).await.0, 200, "{name}");
    }
    assert_eq!(register("d", &rig.key).await, (403, json!("too_many_nodes")));
    assert_eq!(register("b", &rig.key).await.0, 200, "it is known");
    let (_, other) = new_key(&rig.ledger, "other@example.com").await;
    assert_eq!(register("d", &other).await.0, 200);
}
