//! A key's limits hold at two gateways together, but for what is spent before one hears of the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_gateway::{Config, Gateway, Seams};
use infera_types::shutdown::Shutdown;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::client;
use crate::support::rig::{Rig, unlimited};

const LIMIT: u32 = 300;

/// Starts a second gateway on the seams of a rig.
async fn second(rig: &Rig, config: Config, shutdown: Shutdown) -> SocketAddr {
    let seams = Seams {
        intake: Arc::clone(&rig.ledger) as _,
        reader: Arc::clone(&rig.ledger) as _,
        batches: Arc::clone(&rig.ledger) as _,
        lists: Arc::clone(&rig.ledger) as _,
        roster: Arc::clone(&rig.ledger) as _,
        node_reader: Arc::clone(&rig.ledger) as _,
        accounts: Arc::clone(&rig.ledger) as _,
        keys: Arc::clone(&rig.ledger) as _,
        network: Arc::clone(&rig.ledger) as _,
        broker: Arc::clone(&rig.broker) as _,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(Gateway::new(config, seams).run(listener, shutdown));
    for _ in 0..500 {
        let ready = client::send(address, "GET", "/readyz", &[], b"").await;
        if ready.is_ok_and(|reply| reply.status == 200) {
            return address;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the second gateway was never ready")
}

/// Sends a request that costs no job: its body is refused once it is counted. Returns whether it was let through.
async fn ask(address: SocketAddr, key: &str) -> bool {
    let headers = [("api_key", key), ("Content-Type", "application/json")];
    let body = json!({}).to_string();
    let reply = client::send(address, "POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
    match reply.expect("a reply").status {
        400 => true,
        429 => false,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_keys_limit_holds_at_two_gateways_together() {
    let config = Config { requests_per_minute: LIMIT, ..unlimited() };
    let rig = Rig::start(config.clone()).await;
    let shutdown = Shutdown::new();
    let other = second(&rig, config, shutdown.clone()).await;
    let (begun, mut through) = (Instant::now(), [0_u32; 2]);
    // 200 a second, by turns: four hundred in all, of which the limit and what comes back meanwhile may pass.
    for number in 0..400_u32 {
        let (index, address) = if number % 2 == 0 { (0, rig.address) } else { (1, other) };
        if ask(address, &rig.key).await {
            through[index] += 1;
        }
        tokio::time::sleep_until((begun + Duration::from_millis(5) * (number + 1)).into()).await;
    }
    let came_back = u32::try_from(begun.elapsed().as_millis()).expect("a while") * LIMIT / 60_000;
    let (sum, fair) = (through.iter().sum::<u32>(), LIMIT + came_back);
    println!(
        "{through:?} of 400 at 200/s passed two gateways under a limit of {LIMIT}: {sum} where {fair} may, an overshoot of \
         {} %",
        i64::from(sum.saturating_sub(fair)) * 100 / i64::from(LIMIT)
    );
    // A quarter of a second of requests, and a busy machine's delay.
    assert!(sum <= fair + LIMIT / 4, "{through:?}");
    assert!(sum >= LIMIT, "{through:?}: what one spends is counted once");
    // What was spent at one is known at the other.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!ask(rig.address, &rig.key).await && !ask(other, &rig.key).await);
    shutdown.cancel();
}
