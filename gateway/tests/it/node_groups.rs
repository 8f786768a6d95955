//! Which nodes a request may ask, groups of nodes, and what keys say by default.

use std::sync::atomic::Ordering;

use infera_gateway::Config;
use infera_ledger::{
    Feeding as _, GroupBounds, GroupChange, GroupChanged, GroupOrder, HeldQuestion, JobReader as _,
    KeyBook as _, NetworkBook as _, NewGroup, NewNode, NodeGroupBook as _, NodePool, PoolBook as _,
    Registered,
};
use infera_types::ids::{AccountId, Digest, GroupId, ModelName};
use infera_types::service::Lane;
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::rig::{MODEL, Play, Rig, chat, job, new_key, unlimited};

/// Sends a request with JSON under a key.
async fn ask(rig: &Rig, key: &str, method: &str, path: &str, body: &Value) -> Reply {
    let headers = [("api_key", key), ("Content-Type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    rig.send(method, path, &headers, body.as_bytes()).await
}

async fn node(rig: &Rig, name: &str, account: &AccountId) -> String {
    let new = NewNode { name: name.to_owned(), secret: Digest::of(b"s"), account: Some(account.clone()) };
    match rig.ledger.register_node(&new, Timestamp::now()).await.expect("a ledger") {
        Registered::Node(record) => record.id.to_string(),
        Registered::WrongSecret => panic!("a fresh name"),
    }
}

fn code(reply: &Reply) -> (u16, Value) {
    (reply.status, reply.json()["error"]["code"].clone())
}

fn with_nodes(mut body: Value, nodes: &str) -> Value {
    body["verification"] = json!({ "nodes": nodes });
    body
}

/// Returns the pools of the jobs that are held for nodes of their own.
async fn held(rig: &Rig) -> Vec<NodePool> {
    let question = HeldQuestion {
        model: ModelName::new(MODEL),
        lane: Lane::Own,
        after: None,
        flows_max: 99,
        jobs_max: 99,
    };
    let flows = rig.ledger.held(&question, Timestamp::now()).await.expect("a ledger");
    flows
        .iter()
        .flat_map(|flow| flow.jobs.iter().map(|_| NodePool::of_share(flow.key.share.as_str())))
        .collect()
}

#[tokio::test]
async fn a_group_is_managed_over_the_api_and_by_its_account_alone() {
    let rig = Rig::start(unlimited()).await;
    let (runner, runners) = new_key(&rig.ledger, "runner@example.com").await;
    let (_, stranger) = new_key(&rig.ledger, "eve@example.com").await;
    let (user, users) = new_key(&rig.ledger, "user@example.com").await;
    let made = ask(&rig, &rig.key, "POST", "/v1/node-groups", &json!({ "name": "lab" })).await;
    assert_eq!(made.status, 200, "{}", made.json());
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("grp_"));
    for (name, status) in [("lab", 409), ("grp_x", 400), ("", 400), ("a b", 400)] {
        let reply = ask(&rig, &rig.key, "POST", "/v1/node-groups", &json!({ "name": name })).await;
        assert_eq!(reply.status, status, "{name:?}: {}", reply.json());
    }
    let theirs = node(&rig, "theirs", &runner).await;
    let path = format!("/v1/node-groups/{id}");
    let act = async |key: &str, act: &str, body: Value| {
        ask(&rig, key, "POST", &format!("/v1/node-groups/{id}/{act}"), &body).await
    };
    // Its runner hasn't been asked, and can't be pulled in.
    assert_eq!(code(&act(&runners, "add_node", json!({ "node": "theirs" })).await).0, 404);
    let shown = act(&rig.key, "add_node", json!({ "node": theirs })).await.json();
    let entry = &shown["nodes"][0];
    assert_eq!((&entry["status"], &entry["node_id"]), (&json!("invited"), &Value::Null), "{shown}");
    let listed = ask(&rig, &runners, "GET", "/v1/node-groups", &Value::Null).await.json();
    assert_eq!((&listed["data"][0]["id"], &listed["data"][0]["is_own"]), (&json!(id), &json!(false)));
    let shown = act(&runners, "add_node", json!({ "node": "theirs" })).await.json();
    let entry = &shown["nodes"][0];
    assert_eq!((&entry["status"], &entry["node_id"]), (&json!("member"), &json!("theirs")), "{shown}");
    assert_eq!(shown.get("accounts"), None, "its users are its account's to see");
    // By its name, too, for its account.
    let shown = ask(&rig, &rig.key, "GET", "/v1/node-groups/lab", &Value::Null).await.json();
    assert_eq!(shown["nodes"][0]["status"], "member");

    for method in ["GET", "DELETE"] {
        let reply = ask(&rig, &stranger, method, &path, &Value::Null).await;
        assert_eq!(code(&reply), (404, json!("node_group_not_found")), "{method}");
    }
    for (action, body) in [
        ("add_node", json!({ "node": theirs })),
        ("remove_node", json!({ "node": theirs })),
        ("allow_account", json!({ "account": user })),
        ("disallow_account", json!({ "account": user })),
    ] {
        assert_eq!(code(&act(&stranger, action, body).await).0, 404, "{action}");
    }
    assert_eq!(
        act(&rig.key, "allow_account", json!({ "account": user })).await.json()["accounts"],
        json!([user])
    );
    assert_eq!(act(&rig.key, "allow_account", json!({ "account": "acct0" })).await.status, 404);
    assert_eq!(ask(&rig, &users, "GET", &path, &Value::Null).await.json()["nodes"], json!([]));
    assert_eq!(ask(&rig, &users, "DELETE", &path, &Value::Null).await.status, 404, "it isn't theirs");
    let left = act(&runners, "remove_node", json!({ "node": "theirs" })).await.json();
    assert_eq!(left["left"], true);
    assert_eq!(
        code(&act(&rig.key, "remove_node", json!({ "node": theirs })).await),
        (404, json!("node_not_found"))
    );
    let deleted = ask(&rig, &rig.key, "DELETE", &path, &Value::Null).await;
    assert_eq!((deleted.status, &deleted.json()["deleted"]), (200, &json!(true)));
    assert_eq!(ask(&rig, &rig.key, "GET", &path, &Value::Null).await.status, 404);
}

/// A node that is in a hundred groups joins no other, and its owner is told what to do.
#[tokio::test]
async fn a_node_is_in_so_many_groups_and_no_more() {
    let rig = Rig::start(unlimited()).await;
    let (runner, runners) = new_key(&rig.ledger, "runner@example.com").await;
    let theirs = node(&rig, "theirs", &runner).await;
    let most = infera_gateway::access::group_orders::BOUNDS.memberships_max;
    let unbounded = GroupBounds {
        groups_max: 999,
        nodes_max: 999,
        accounts_max: 999,
        uses_max: 999,
        invitations_max: 999,
        memberships_max: 999,
    };
    for number in 0..most {
        let new = NewGroup { id: GroupId::fresh(), account: runner.clone(), name: format!("g{number}") };
        rig.ledger.create_group(&new, &unbounded, Timestamp::now()).await.expect("a ledger");
        let change = GroupChange::AddNode("theirs".to_owned());
        let order = GroupOrder { by: runner.clone(), group: new.id, change };
        let changed = rig.ledger.change_group(&order, &unbounded, Timestamp::now()).await.expect("a ledger");
        assert_eq!(changed, GroupChanged::Done);
    }
    let made = ask(&rig, &rig.key, "POST", "/v1/node-groups", &json!({ "name": "lab" })).await.json();
    let path = format!("/v1/node-groups/{}/add_node", made["id"].as_str().expect("an id"));
    let invited = ask(&rig, &rig.key, "POST", &path, &json!({ "node": theirs })).await;
    assert_eq!(invited.status, 200, "an invitation is no membership");
    let refused = ask(&rig, &runners, "POST", &path, &json!({ "node": "theirs" })).await;
    assert_eq!(code(&refused), (409, json!("node_group_full")));
    let message = refused.json()["error"]["message"].clone();
    assert_eq!(message, "This node is in 100 groups, which is the most. Take it out of another one first.");
    let leave = json!({ "node": "theirs" });
    assert_eq!(ask(&rig, &runners, "POST", "/v1/node-groups/g0/remove_node", &leave).await.status, 200);
    let joined = ask(&rig, &runners, "POST", &path, &json!({ "node": "theirs" })).await.json();
    assert_eq!(joined["nodes"][0]["status"], "member", "{joined}");
}

#[tokio::test]
async fn a_request_says_which_nodes_may_be_asked() {
    let rig = Rig::start_with(Config { key_ttl_ms: 0, ..unlimited() }, 0).await;
    let account = account_of(&rig).await;
    let made = ask(&rig, &rig.key, "POST", "/v1/node-groups", &json!({ "name": "lab" })).await.json();
    let id = made["id"].as_str().expect("an id");
    rig.is_feeding.store(false, Ordering::Relaxed);
    let group = NodePool::Group(GroupId::new(id));
    for (nodes, pool) in [
        ("own".to_owned(), NodePool::Account(account)),
        ("group:lab".to_owned(), group.clone()),
        (format!("group:{id}"), group),
    ] {
        let before = held(&rig).await.len();
        for path in ["/submit_job", "/v1/jobs"] {
            let body = with_nodes(if path == "/submit_job" { job() } else { chat() }, &nodes);
            let reply = rig.post(path, &body, &[]).await;
            assert!(reply.status < 300, "{path} {nodes}: {}", reply.json());
        }
        let pools = held(&rig).await;
        assert_eq!(pools.len(), before + 2);
        assert_eq!(pools.iter().filter(|one| **one == pool).count() % 2, 0, "{nodes}");
    }
    let several = json!({ "jobs": [with_nodes(chat(), "own"), with_nodes(chat(), "any"), chat()] });
    let before = held(&rig).await.len();
    assert!(rig.post("/v1/jobs", &several, &[]).await.status < 300);
    assert_eq!(held(&rig).await.len(), before + 1, "one of three");

    for (face, path, body) in [
        ("own", "/submit_job", job()),
        ("OpenAI's", "/v1/chat/completions", chat()),
        ("jobs", "/v1/jobs", chat()),
    ] {
        for nodes in ["mine", "group:", "group:a b", "Own", ""] {
            let reply = rig.post(path, &with_nodes(body.clone(), nodes), &[]).await;
            assert_eq!(
                reply.status,
                if face == "own" { 422 } else { 400 },
                "{face} {nodes:?}: {}",
                reply.json()
            );
        }
        let reply = rig.post(path, &with_nodes(body, "group:nothing"), &[]).await;
        assert_eq!(reply.status, 404, "{face}: {}", reply.json());
    }
}

async fn account_of(rig: &Rig) -> AccountId {
    let hash = infera_gateway::access::ApiKey::parse(&rig.key).expect("a key").hash();
    infera_ledger::AccountBook::key(&*rig.ledger, hash).await.expect("a ledger").expect("a key").account
}

/// A client that waits for nodes of its own is answered whatever strangers' nodes there are, from a queue of its own.
#[tokio::test]
async fn a_chat_for_ones_own_nodes_needs_no_strangers() {
    let rig = Rig::start_with(unlimited(), 1).await;
    let reply = rig.post("/v1/chat/completions", &chat(), &[]).await;
    assert_eq!(code(&reply), (503, json!("insufficient_nodes")));
    rig.play(Play::Answer);
    let reply = rig.post("/v1/chat/completions", &with_nodes(chat(), "own"), &[]).await;
    assert_eq!(reply.status, 200, "{}", reply.json());
    let id = reply.json()["job_id"].as_str().expect("a job").parse().expect("an id");
    let account = account_of(&rig).await;
    let view = rig.ledger.job(&account, id).await.expect("a ledger").expect("the job");
    assert!(view.settlement.is_some());
}

/// A key's default holds for requests that say nothing, goes on to the key's successor, and is for its account to set.
#[tokio::test]
async fn a_key_says_which_nodes_are_asked() {
    let rig = Rig::start_with(Config { key_ttl_ms: 60_000, ..unlimited() }, 0).await;
    let (_, stranger) = new_key(&rig.ledger, "eve@example.com").await;
    rig.is_feeding.store(false, Ordering::Relaxed);
    let made = ask(&rig, &rig.key, "POST", "/v1/keys", &json!({ "name": "own" })).await.json();
    let (id, key) = (made["id"].as_str().expect("an id"), made["key"].as_str().expect("a key"));
    let path = format!("/v1/keys/{id}/nodes");
    let submit = async |key: &str, body: Value| {
        let before = held(&rig).await.len();
        let reply = ask(&rig, key, "POST", "/submit_job", &body).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
        held(&rig).await.len() - before
    };
    assert_eq!(submit(key, job()).await, 0);
    assert_eq!(ask(&rig, key, "GET", &path, &Value::Null).await.json()["nodes"], "any");
    assert_eq!(ask(&rig, &stranger, "POST", &path, &json!({ "nodes": "own" })).await.status, 404);
    assert_eq!(ask(&rig, key, "POST", &path, &json!({ "nodes": "group:nothing" })).await.status, 404);
    assert_eq!(ask(&rig, key, "POST", &path, &json!({ "nodes": "mine" })).await.status, 400);
    // The key was used a moment ago, and this gateway remembers it; the change is seen at once nevertheless.
    let set = ask(&rig, &rig.key, "POST", &path, &json!({ "nodes": "own" })).await;
    assert_eq!((set.status, &set.json()["nodes"]), (200, &json!("own")));
    assert_eq!(submit(key, job()).await, 1);
    assert_eq!(submit(key, with_nodes(job(), "any")).await, 0, "the request has the last word");
    let rotated = ask(&rig, &rig.key, "POST", &format!("/v1/keys/{id}/rotate"), &json!({})).await.json();
    assert_eq!(submit(rotated["key"].as_str().expect("a key"), job()).await, 1);
    assert_eq!(ask(&rig, &rig.key, "POST", &path, &json!({ "nodes": null })).await.json()["nodes"], "any");
    let view =
        rig.ledger.key_by_id(&infera_types::ids::KeyId::new(id)).await.expect("a ledger").expect("a key");
    assert_eq!(rig.ledger.key_pool(&view.id).await.expect("a ledger"), NodePool::Open);
}

/// An owner says whom its node serves, and that it does is no secret of its.
#[tokio::test]
async fn a_node_is_made_private_by_its_owner() {
    let rig = Rig::start(unlimited()).await;
    let account = account_of(&rig).await;
    node(&rig, "basement", &account).await;
    let register = async |body: Value| ask(&rig, &rig.key, "POST", "/worker/register_node", &body).await;
    for (serves, shown) in [(json!("own"), "own"), (Value::Null, "own"), (json!("all"), "all")] {
        let reply = register(json!({ "node_url": "basement", "serves": serves })).await;
        let node = reply.json();
        assert_eq!((reply.status, &node["serves"], &node["backstop"]), (200, &json!(shown), &json!(false)));
    }
    assert_eq!(register(json!({ "node_url": "basement", "serves": "me" })).await.status, 422);
    rig.ledger.set_backstop("basement", true, Timestamp::now()).await.expect("a ledger");
    assert_eq!(register(json!({ "node_url": "basement" })).await.json()["backstop"], true);
}
