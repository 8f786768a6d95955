//! A key's limits hold at two gateways together, but for what is spent before one hears of the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_gateway::{Config, Gateway, Seams};
use infera_types::shutdown::Shutdown;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::client;
use crate::support::rig::{Play, Rig, chat, unlimited};

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
        groups: Arc::clone(&rig.ledger) as _,
        accounts: Arc::clone(&rig.ledger) as _,
        keys: Arc::clone(&rig.ledger) as _,
        erasures: Arc::clone(&rig.ledger) as _,
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

/// The requests of this test stay in flight for longer than it takes, so that those let through are in flight together.
#[tokio::test]
async fn what_a_key_has_in_flight_counts_at_two_gateways_together() {
    const IN_FLIGHT_MAX: u32 = 20;
    const EACH: Duration = Duration::from_millis(40);
    let config = Config { in_flight_max: IN_FLIGHT_MAX, turn_wait_ms: 0, ..unlimited() };
    let rig = Rig::start(config.clone()).await;
    rig.play(Play::Leave);
    let shutdown = Shutdown::new();
    let other = second(&rig, config, shutdown.clone()).await;
    // The second gateway has to hear of the nodes first.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let ask = |address: SocketAddr, wait_s: u64| {
        let (key, mut body) = (rig.key.clone(), chat());
        body["request_timeout_time"] = json!(wait_s);
        tokio::spawn(async move {
            let headers = [("api_key", key.as_str()), ("Content-Type", "application/json")];
            let path = "/v1/chat/completions";
            let reply = client::send(address, "POST", path, &headers, body.to_string().as_bytes()).await;
            let reply = reply.expect("a reply");
            assert!([429, 504].contains(&reply.status), "{} {}", reply.status, reply.json());
            reply.status
        })
    };
    let begun = Instant::now();
    let mut asked = Vec::new();
    for number in 0..2 * IN_FLIGHT_MAX {
        asked.push(ask(if number % 2 == 0 { rig.address } else { other }, 8));
        tokio::time::sleep_until((begun + EACH * (number + 1)).into()).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(6), "the first request ended before the last one came");
    tokio::time::sleep(Duration::from_millis(600)).await;
    for address in [rig.address, other] {
        assert_eq!(
            ask(address, 1).await.expect("a reply"),
            429,
            "what is in flight at one is known at the other"
        );
    }
    let mut through = 0;
    for reply in asked {
        through += u32::from(reply.await.expect("a reply") == 504);
    }
    println!(
        "{through} of {} requests, one each {EACH:?}, were in flight at two gateways under a bound of {IN_FLIGHT_MAX}",
        2 * IN_FLIGHT_MAX
    );
    // What comes in a quarter of a second is 6; a busy machine's delay may double it.
    assert!((IN_FLIGHT_MAX..=IN_FLIGHT_MAX + 12).contains(&through), "{through}");
    // Nothing is in flight any more, and both gateways know.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let again: Vec<_> = (0..IN_FLIGHT_MAX).map(|_| ask(other, 1)).collect();
    for reply in again {
        assert_eq!(reply.await.expect("a reply"), 504);
    }
    // Clients that hang up at one free turns at the other.
    let at_other: Vec<_> = (0..IN_FLIGHT_MAX).map(|_| ask(other, 30)).collect();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(ask(rig.address, 1).await.expect("a reply"), 429);
    at_other.iter().for_each(tokio::task::JoinHandle::abort);
    for _ in 0..200 {
        if ask(rig.address, 1).await.expect("a reply") == 504 {
            shutdown.cancel();
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the turns of clients that are gone never came free");
}
