//! The warden at a real broker: nodes that are revoked, whose token ran out while they consume, or that flood the broker
//! with connections are cut off within a minute, and the others stay. The verifier's own messages and its ledger are
//! embedded; the nodes and their connections are RabbitMQ's.
//!
//! `make services` starts it; `data/services.env` says where it is, how its management is asked, and which key signs.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a check fails by panicking")]

#[path = "../../../core/broker/rabbitmq/tests/hostile_node/signing.rs"]
mod signing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use infera_archive::local::LocalArchive;
use infera_broker::connections::Connections as _;
use infera_broker::memory::MemoryBroker;
use infera_broker::{Broker, Consumer, Published, topology};
use infera_broker_rabbitmq::management::{self, ManagementApi};
use infera_broker_rabbitmq::{Config, RabbitBroker, Token};
use infera_ledger::{AccountBook as _, NetworkBook as _, NewNode, NodeBook as _, NodeCheck, Registered};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{Digest, NodeId};
use infera_types::messages::{Heartbeat, Version, Wire as _};
use infera_types::secret::Secret;
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use infera_verifier::Gate;
use infera_verifier::{Seams, Verifier};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How soon a node that is shut out must be disconnected.
const OFF_WITHIN: Duration = Duration::from_secs(60);

/// What the services say of themselves under this name.
fn named(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} isn't set; `make services` starts the servers and tells their addresses")
    })
}

/// Registers a node that the ledger admits for `lives`, and returns its id.
async fn admitted(ledger: &SqliteLedger, name: &str, lives: Duration) -> NodeId {
    let now = Timestamp::now();
    let account = ledger.sign_up("fleet@example.org", None, now).await.unwrap().account;
    ledger.allow_fleet("fleet@example.org", now).await.unwrap();
    let node = NewNode { name: name.to_owned(), secret: Digest::of(b"secret"), account: Some(account) };
    let Registered::Node(record) = ledger.register_node(&node, now).await.unwrap() else { panic!("{name}") };
    let check = ledger.admit_node(name, Digest::of(b"secret"), now.after(lives)).await.unwrap();
    assert_eq!(check, NodeCheck::Admitted(record.clone()));
    record.id
}

/// The node's token, as a gateway makes it.
fn token(node: &NodeId, lives: Duration) -> Token {
    let queue = topology::node(node, "warden").name;
    let claims = json!({
        "aud": "rabbitmq",
        "sub": node.as_str(),
        "exp": Timestamp::now().after(lives).as_secs(),
        "scope": [format!("rabbitmq.read:%2F/{queue}"), format!("rabbitmq.write:%2F/infera.nodes/{node}.*")],
    });
    let value = signing::signed(&claims, &named("TEST_TOKEN_KEY"));
    Token { value: Secret::new(value), expires: Instant::now() + lives }
}

/// A connection that consumes the node's queue, and never gets another token.
async fn consuming(node: &NodeId, lives: Duration) -> (Arc<RabbitBroker>, Box<dyn Consumer>) {
    let (_, tokens) = watch::channel(token(node, lives));
    let url = named("TEST_RABBITMQ_URL");
    let (_, address) = url.split_once('@').unwrap();
    let config = Config { url: Secret::new(format!("amqp://{address}")), ..Config::default() };
    let broker = RabbitBroker::start_as_node(&config, tokens).unwrap();
    let consumer = broker.consume(&topology::node(node, "warden").name, 1).await.unwrap();
    (broker, consumer)
}

/// The consumer ends in time; how long that took.
async fn cut_off(consumer: &mut Box<dyn Consumer>, since: Instant) -> Duration {
    let ended = timeout(OFF_WITHIN, consumer.next()).await.expect("still consuming");
    assert!(ended.is_none(), "something was delivered");
    since.elapsed()
}

/// A verifier that judges nothing here and looks after the door.
fn verifier(ledger: &Arc<SqliteLedger>, broker: &Arc<MemoryBroker>, archive: Arc<LocalArchive>) -> Verifier {
    let seams = Seams {
        owner: Arc::clone(ledger) as _,
        reader: Arc::clone(ledger) as _,
        standing: Arc::clone(ledger) as _,
        sweeping: Arc::clone(ledger) as _,
        feeding: Arc::clone(ledger) as _,
        network: Arc::clone(ledger) as _,
        nodes: Arc::clone(ledger) as _,
        index: Arc::clone(ledger) as _,
        pruning: Arc::clone(ledger) as _,
        erasing: Arc::clone(ledger) as _,
        segments: Arc::clone(ledger) as _,
        archive,
        broker: Arc::clone(broker) as _,
    };
    let gate = Gate { connections: management(), book: Arc::clone(ledger) as _ };
    Verifier::new(infera_verifier::Config::default(), seams, HashMap::new()).unwrap().guarding(gate)
}

fn management() -> Arc<ManagementApi> {
    let url = Secret::new(named("TEST_RABBITMQ_MANAGEMENT_URL"));
    ManagementApi::open(&management::Config { url, ca_file: None }).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_out_is_cut_off_within_a_minute_and_the_others_stay() {
    const LONG: Duration = Duration::from_secs(300);
    const SHORT: Duration = Duration::from_secs(5);
    let folder = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).unwrap();
    let stays = admitted(&ledger, "stays", LONG).await;
    let revoked = admitted(&ledger, "revoked", LONG).await;
    let floods = admitted(&ledger, "floods", LONG).await;
    let expires = admitted(&ledger, "expires", SHORT).await;
    let config = Config { url: Secret::new(named("TEST_RABBITMQ_URL")), ..Config::default() };
    let operator = RabbitBroker::start(&config).unwrap();
    let nodes = [&stays, &revoked, &floods, &expires];
    for node in nodes {
        operator.declare(&topology::node(node, "warden")).await.unwrap();
    }

    let (_broker, mut of_expired) = consuming(&expires, SHORT).await;
    let run_out = Instant::now() + SHORT;
    let (_broker, mut of_stayer) = consuming(&stays, LONG).await;
    let (_broker, mut of_revoked) = consuming(&revoked, LONG).await;
    let mut flood = Vec::new();
    for _ in 0..12 {
        flood.push(consuming(&floods, LONG).await);
    }

    // The verifier hears of the revoked node's queue, which it takes away later.
    let inside = MemoryBroker::new();
    let queue = topology::node(&revoked, "warden");
    inside.declare(&queue).await.unwrap();
    let verifier = verifier(&ledger, &inside, LocalArchive::open(folder.path().join("archive")).unwrap());
    let (counters, shutdown) = (verifier.counters(), Shutdown::new());
    let running = tokio::spawn(verifier.run(shutdown.clone()));
    sleep(Duration::from_secs(2)).await;
    let beat =
        Heartbeat { models: Vec::new(), queue: queue.name.clone(), machine: None, speaks: Version::NEWEST };
    let address = topology::heartbeat_of(&revoked);
    assert_eq!(inside.publish(&address, beat.to_message("beat")).await, Published::Confirmed);
    ledger.revoke_node(&revoked, Timestamp::now()).await.unwrap();
    let shut_out = Instant::now();

    println!("revoked: closed after {:?}", cut_off(&mut of_revoked, shut_out).await);
    println!("token run out: closed {:?} after that", cut_off(&mut of_expired, run_out).await);
    assert!(run_out.elapsed() < OFF_WITHIN);
    assert_eq!(inside.depth(&queue.name).await.unwrap(), None, "its queue is gone as well");

    let connected = async |node: &NodeId| {
        let listed = management().list().await.unwrap();
        listed.into_iter().filter(|connection| connection.user == node.as_str()).collect::<Vec<_>>()
    };
    while connected(&floods).await.len() > 4 {
        assert!(shut_out.elapsed() < OFF_WITHIN, "the flood stays");
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(connected(&floods).await.len(), 4, "as many as a node may have are left");
    let stayer = connected(&stays).await;
    assert_eq!(stayer.len(), 1);
    assert!(stayer[0].peer.is_some_and(|peer| peer.is_loopback()), "{stayer:?}");
    assert!(
        timeout(Duration::from_millis(200), of_stayer.next()).await.is_err(),
        "the good node was cut off"
    );
    // The revoked one, eight of the flood, and the one whose token ran out, unless RabbitMQ 4.3 ended that itself.
    let closed = counters.connections_closed.get();
    assert!(closed >= 9, "{closed}");

    shutdown.cancel();
    running.await.unwrap();
    for node in nodes {
        operator.delete(&topology::node(node, "warden").name).await.unwrap();
    }
}
