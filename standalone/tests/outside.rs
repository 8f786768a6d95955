//! The life of a node from outside, from its registration to its end. The worker's program is let in at a gateway,
//! its heartbeats come over RabbitMQ under its own name, it stays for longer than a token is valid, gets its queue
//! back when that was deleted, and drains when it is told to. Gateway and worker are the real programs' parts; the
//! ledger is embedded.
//!
//! `make services` starts RabbitMQ. `data/services.env` has its address and the key that signs tokens.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Binding, Broker, Consumer, Delivery, Exchange, Queue, topology};
use infera_broker_rabbitmq::RabbitBroker;
use infera_engine_onnx::config::EngineKind;
use infera_gateway::access::ApiKey;
use infera_gateway::access::admission;
use infera_gateway::{Gateway, Seams};
use infera_gateway_program::es256;
use infera_ledger::{AccountBook as _, NetworkBook as _};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{GatewayId, NodeId};
use infera_types::messages::{Heartbeat, Wire as _};
use infera_types::secret::Secret;
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use infera_worker_program::registration::{NodeConfig, Registrar, RegistrationError};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

/// The shortest that a gateway takes, so that the test sees several.
const TOKEN_TTL_S: u64 = 30;

/// What the services say of themselves under this name.
fn named(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} isn't set; `make services` starts the servers and tells their addresses")
    })
}

/// A gateway that lets nodes in, and where it is.
async fn gateway(ledger: &Arc<SqliteLedger>, broker: &Arc<RabbitBroker>, shutdown: &Shutdown) -> String {
    let url = named("TEST_RABBITMQ_URL");
    let (_, address) = url.split_once('@').expect("a user");
    let settings = es256::Config {
        token_key_file: Some(named("TEST_TOKEN_KEY").into()),
        token_ttl_s: TOKEN_TTL_S,
        broker_url: format!("amqp://{address}"),
        ..es256::Config::default()
    };
    let admission = es256::open(&settings, Arc::clone(ledger) as _).expect("good settings").expect("a key");
    let seams = Seams {
        intake: Arc::clone(ledger) as _,
        reader: Arc::clone(ledger) as _,
        batches: Arc::clone(ledger) as _,
        lists: Arc::clone(ledger) as _,
        accounts: Arc::clone(ledger) as _,
        keys: Arc::clone(ledger) as _,
        erasures: Arc::clone(ledger) as _,
        network: Arc::clone(ledger) as _,
        roster: Arc::clone(ledger) as _,
        node_reader: Arc::clone(ledger) as _,
        groups: Arc::clone(ledger) as _,
        broker: Arc::clone(broker) as _,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let gateway = Gateway::admitting(infera_gateway::Config::default(), seams, admission);
    tokio::spawn(gateway.run(listener, shutdown.clone()));
    url
}

fn node_config(api_key: &str) -> NodeConfig {
    NodeConfig {
        name: "a stranger's machine".to_owned(),
        secret: Secret::new("0123456789abcdef"),
        api_key: Secret::new(api_key),
        ca_file: None,
    }
}

/// The next heartbeat of `node`.
async fn heartbeat(hears: &mut Box<dyn Consumer>, node: &NodeId) -> Heartbeat {
    loop {
        let delivery: Delivery = timeout(PATIENCE, hears.next()).await.expect("in time").expect("a delivery");
        let (sender, message) = (NodeId::new(delivery.sender()), delivery.message.clone());
        assert!(delivery.ack().await);
        if sender == *node {
            return Heartbeat::from_message(&message).expect("a heartbeat");
        }
    }
}

fn refused(outcome: Result<infera_worker_program::registration::Admitted, RegistrationError>) -> String {
    match outcome {
        Err(RegistrationError::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_comes_in_stays_in_and_drains() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).expect("a ledger");
    let settings = infera_broker_rabbitmq::Config {
        url: Secret::new(named("TEST_RABBITMQ_URL")),
        ..infera_broker_rabbitmq::Config::default()
    };
    let broker = RabbitBroker::start(&settings).expect("a broker");
    let shutdown = Shutdown::new();
    let url = gateway(&ledger, &broker, &shutdown).await;

    let now = Timestamp::now();
    let account = ledger.sign_up("fleet@example.org", None, now).await.expect("a ledger").account;
    let key = ApiKey::generate().expect("randomness");
    ledger.issue_key(&key.row(account), now).await.expect("a ledger");
    let check_in = async |gateways: &[String], node: NodeConfig| {
        Registrar::new(gateways, node).expect("good settings").check_in().await
    };
    let here = [url.clone()];
    assert_eq!(refused(check_in(&here, node_config("")).await), "node_unknown");
    assert_eq!(refused(check_in(&here, node_config("inf_nobody")).await), "invalid_api_key");
    assert_eq!(refused(check_in(&here, node_config(key.expose())).await), "fleet_scope_required");
    admission::allow_fleet(&*ledger, "fleet@example.org").await.expect("a ledger");
    let somewhere_else = ["http://127.0.0.1:1".to_owned(), url.clone()];
    let admitted = check_in(&somewhere_else, node_config(key.expose())).await.expect("let in at the second");
    let other = NodeConfig { secret: Secret::new("another secret of somebody"), ..node_config(key.expose()) };
    assert_eq!(refused(check_in(&here, other).await), "node_name_taken");

    let heard = Queue {
        bindings: vec![Binding {
            exchange: Exchange::Nodes,
            pattern: format!("{}.heartbeat", admitted.node),
        }],
        ..topology::completions(&GatewayId::fresh())
    };
    broker.declare(&heard).await.expect("a broker");
    let mut hears = broker.consume(&heard.name, 100).await.expect("a broker");

    let mut config = infera_worker_program::Config {
        gateway: here.to_vec(),
        node: node_config(""),
        worker: infera_worker::Config { heartbeat_ms: 1_000, ..infera_worker::Config::default() },
        ..infera_worker_program::Config::default()
    };
    config.engine.kind = EngineKind::Stub;
    config.engine.folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/infera-tiny");
    let stop = Shutdown::new();
    let running = tokio::spawn(infera_worker_program::run(config, None, stop.clone()));
    let began = Instant::now();
    assert_eq!(heartbeat(&mut hears, &admitted.node).await.queue, admitted.queue);

    // Its queue is taken away: a gateway declares it again, and it is consumed again.
    broker.delete(&admitted.queue).await.expect("a broker");
    let until = Instant::now() + PATIENCE;
    while broker.depth(&admitted.queue).await.expect("a broker").is_none() {
        assert!(Instant::now() < until, "the queue stays away");
        sleep(Duration::from_millis(100)).await;
    }

    while began.elapsed() < Duration::from_secs(TOKEN_TTL_S + 10) {
        heartbeat(&mut hears, &admitted.node).await;
    }
    assert!(!running.is_finished(), "it stays in longer than a token lives");

    stop.cancel();
    let ended = timeout(PATIENCE, running).await.expect("drained").expect("no panic");
    assert!(ended.is_ok(), "{ended:?}");
    assert!(admission::revoke(&*ledger, &admitted.node).await.expect("a ledger").is_some());
    assert_eq!(refused(check_in(&here, node_config("")).await), "node_revoked");
    assert_eq!(ledger.nodes().await.expect("a ledger"), []);

    shutdown.cancel();
    broker.delete(&admitted.queue).await.expect("a broker");
}
