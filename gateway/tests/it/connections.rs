//! Fills a gateway with connections: idle ones make room, those in the middle of a request don't, and one address
//! can't take all places. The connections come from several loopback addresses of this machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use infera_gateway::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::client::{self, Reply};
use crate::support::rig::{Rig, unlimited};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

/// The head of a sign-up and a part of its body, after which the connection is in the middle of a request.
const BEGINNING: &[u8] =
    b"POST /signup_user HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 26\r\n\r\n{\"email\": ";
const END: &[u8] = b"\"a@example.com\"}";

/// Connects from 127.0.0.`host`.
async fn connect(rig: &Rig, host: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))).expect("an address");
    socket.connect(rig.address).await.expect("a connection")
}

async fn ask(stream: &mut TcpStream) -> std::io::Result<Reply> {
    stream.write_all(HEALTH).await?;
    client::read(stream).await
}

/// Makes a connection that has carried a request, and that has been idle for a shorter time than earlier ones.
async fn idle(rig: &Rig, host: u8) -> TcpStream {
    let mut stream = connect(rig, host).await;
    assert_eq!(ask(&mut stream).await.expect("a reply").status, 200);
    tokio::time::sleep(Duration::from_millis(20)).await;
    stream
}

/// Makes a connection that is in the middle of a request.
async fn busy(rig: &Rig, host: u8) -> TcpStream {
    let mut stream = connect(rig, host).await;
    stream.write_all(BEGINNING).await.expect("sent");
    tokio::time::sleep(Duration::from_millis(200)).await;
    stream
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    let end = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut byte)).await;
    matches!(end, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn the_longest_idle_connection_is_closed_for_a_new_one() {
    let config = Config { connections_max: 4, connections_per_address_max: 0, ..unlimited() };
    let rig = Rig::start(config).await;
    // One connection sent nothing at all, one is in the middle of a request, and two have had their replies.
    let mut silent = connect(&rig, 2).await;
    let mut working = busy(&rig, 2).await;
    let mut first = idle(&rig, 2).await;
    let mut second = idle(&rig, 2).await;
    let mut newcomer = idle(&rig, 3).await;
    assert!(is_closed(&mut silent).await, "the longest idle");
    assert!(!is_closed(&mut first).await && !is_closed(&mut second).await);
    let mut another = idle(&rig, 4).await;
    assert!(is_closed(&mut first).await, "the next");
    for stream in [&mut second, &mut newcomer, &mut another] {
        assert_eq!(ask(stream).await.expect("a reply").status, 200);
    }
    working.write_all(END).await.expect("sent");
    assert_eq!(client::read(&mut working).await.expect("a reply").status, 200, "it was never idle");
}

#[tokio::test]
async fn a_thousand_that_say_nothing_keep_nobody_out() {
    let rig = Rig::start(Config { connections_max: 50, ..unlimited() }).await;
    let mut silent = Vec::new();
    for host in 1..=5 {
        for _ in 0..200 {
            silent.push(connect(&rig, 10 + host).await);
        }
    }
    let begun = std::time::Instant::now();
    assert_eq!(ask(&mut connect(&rig, 2).await).await.expect("a reply").status, 200);
    // A connection without a head would be closed after 15 s, and an idle one after 95 s.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn with_all_places_busy_a_new_one_waits_for_one_of_them() {
    let config = Config { connections_max: 2, connections_per_address_max: 0, ..unlimited() };
    let rig = Rig::start(config).await;
    let (mut one, _other) = (busy(&rig, 2).await, busy(&rig, 3).await);
    let mut newcomer = connect(&rig, 4).await;
    newcomer.write_all(HEALTH).await.expect("sent");
    assert!(tokio::time::timeout(Duration::from_millis(500), newcomer.readable()).await.is_err(), "it waits");
    one.write_all(END).await.expect("sent");
    assert_eq!(client::read(&mut one).await.expect("a reply").status, 200);
    // The first connection is idle now, and makes room.
    assert_eq!(client::read(&mut newcomer).await.expect("a reply").status, 200);
}

#[tokio::test]
async fn an_address_that_has_its_share_loses_its_own_longest_idle() {
    let config = Config { connections_max: 100, connections_per_address_max: 2, ..unlimited() };
    let rig = Rig::start(config).await;
    let mut neighbour = idle(&rig, 3).await;
    let (mut first, mut second) = (idle(&rig, 2).await, idle(&rig, 2).await);
    let mut third = idle(&rig, 2).await;
    assert!(is_closed(&mut first).await, "its own longest idle");
    for stream in [&mut neighbour, &mut second, &mut third] {
        assert_eq!(ask(stream).await.expect("a reply").status, 200);
    }
    // With all connections of its share busy, one more is refused with a reply.
    let (mut one, mut other) = (busy(&rig, 2).await, busy(&rig, 2).await);
    assert!(is_closed(&mut second).await && is_closed(&mut third).await);
    let refused = ask(&mut connect(&rig, 2).await).await.expect("a reply");
    assert_eq!((refused.status, refused.header("connection")), (429, Some("close")));
    assert!(refused.json()["detail"].as_str().is_some_and(|words| words.contains("connections")));
    assert!(refused.header("x-request-id").is_some());
    assert!(refused.wait_ms().is_some_and(|wait| (1_000..=1_500).contains(&wait)), "{:?}", refused.headers);
    assert_eq!(ask(&mut neighbour).await.expect("a reply").status, 200, "others are not concerned");
    for stream in [&mut one, &mut other] {
        stream.write_all(END).await.expect("sent");
        assert_eq!(client::read(stream).await.expect("a reply").status, 200);
    }
}
