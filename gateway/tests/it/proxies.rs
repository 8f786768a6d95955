//! Connects through a proxy: a trusted one is believed and a stranger isn't, and limits by address count the client's
//! address. The proxy is 127.0.0.3, and a stranger comes from 127.0.0.2.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use infera_gateway::Config;
use infera_gateway::config::ClientAddress;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::client;
use crate::support::rig::{Rig, unlimited};

fn behind(from: ClientAddress) -> Config {
    let trusted_proxies = serde_json::from_value(json!(["127.0.0.3"])).expect("a proxy");
    Config { trusted_proxies, client_address_from: from, signups_per_minute: 1, ..unlimited() }
}

async fn connect(rig: &Rig, host: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))).expect("an address");
    socket.connect(rig.address).await.expect("a connection")
}

/// Signs up from 127.0.0.`host`, with the bytes `before` first and with more headers. Returns the status, or none
/// without a reply.
async fn sign_up(rig: &Rig, host: u8, before: &[u8], header: &str) -> Option<u16> {
    let body = b"{\"email\": \"a@example.com\"}";
    let head = format!(
        "POST /signup_user HTTP/1.1\r\nHost: a\r\n{header}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = connect(rig, host).await;
    // A header that isn't expected ends the connection while this is being written.
    let _ = stream.write_all(&[before, head.as_bytes(), body].concat()).await;
    client::read(&mut stream).await.ok().map(|reply| reply.status)
}

#[tokio::test]
async fn a_trusted_proxys_header_says_who_signs_up() {
    for (from, header) in
        [(ClientAddress::XForwardedFor, "X-Forwarded-For: "), (ClientAddress::Forwarded, "Forwarded: for=")]
    {
        let rig = Rig::start(behind(from)).await;
        let by =
            async |host, address: &str| sign_up(&rig, host, b"", &format!("{header}{address}\r\n")).await;
        assert_eq!(by(3, "203.0.113.1").await, Some(200));
        assert_eq!(by(3, "203.0.113.1").await, Some(429), "the same client");
        assert_eq!(by(3, "203.0.113.2").await, Some(200), "another one");
        assert_eq!(by(3, "203.0.113.3").await, Some(200));
        // What a client makes up stands to the left of what the proxy adds.
        let invented = format!("{header}198.51.100.9\r\n{header}203.0.113.3\r\n");
        assert_eq!(sign_up(&rig, 3, b"", &invented).await, Some(429), "an invented address");
        assert_eq!(by(2, "203.0.113.4").await, Some(200), "a stranger counts as itself");
        assert_eq!(by(2, "203.0.113.5").await, Some(429), "whatever it says");
        assert_eq!(sign_up(&rig, 3, b"", "").await, Some(200), "without a header it is the proxy");
        assert_eq!(sign_up(&rig, 3, b"", "").await, Some(429));
        // The other header is the client's own, which the proxy passes on unchanged.
        let other = if from == ClientAddress::Forwarded { "X-Forwarded-For: " } else { "Forwarded: for=" };
        assert_eq!(sign_up(&rig, 3, b"", &format!("{other}203.0.113.6\r\n")).await, Some(429));
    }
}

/// Returns a header of version 2 for a client at this address, with `added` bytes after the addresses.
fn binary(source: [u8; 4], added: u16) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend_from_slice(&(12 + added).to_be_bytes());
    header.extend_from_slice(&source);
    header.extend_from_slice(&[10, 0, 0, 1, 0x12, 0x34, 0, 80]);
    header.extend(std::iter::repeat_n(0, usize::from(added)));
    header
}

#[tokio::test]
async fn the_proxy_protocol_says_whose_connection_it_is() {
    let rig = Rig::start(behind(ClientAddress::ProxyProtocol)).await;
    let line = |address: &str| format!("PROXY TCP4 {address} 10.0.0.1 4711 80\r\n").into_bytes();
    assert_eq!(sign_up(&rig, 3, &line("203.0.113.1"), "").await, Some(200));
    assert_eq!(sign_up(&rig, 3, &line("203.0.113.1"), "").await, Some(429), "the same client");
    assert_eq!(sign_up(&rig, 3, &line("203.0.113.2"), "").await, Some(200));
    assert_eq!(sign_up(&rig, 3, &binary([203, 0, 113, 2], 0), "").await, Some(429), "by the other version");
    assert_eq!(sign_up(&rig, 3, &binary([203, 0, 113, 3], 0), "").await, Some(200));
    assert_eq!(sign_up(&rig, 3, &binary([203, 0, 113, 4], 500), "").await, Some(200), "with something added");
    let six = b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 80\r\n";
    assert_eq!(sign_up(&rig, 3, six, "").await, Some(200));
    assert_eq!(sign_up(&rig, 3, &line("203.0.113.1"), "X-Forwarded-For: 203.0.113.9\r\n").await, Some(429));
    // A proxy that connects for itself counts as itself.
    assert_eq!(sign_up(&rig, 3, b"PROXY UNKNOWN\r\n", "").await, Some(200));
    assert_eq!(sign_up(&rig, 3, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "").await, Some(429));
    // Headers that aren't expected.
    for strange in [&b""[..], b"PROXY TCP4 nonsense\r\n", &[b'P'; 200], &binary([1, 2, 3, 4], 5_000)] {
        assert_eq!(sign_up(&rig, 3, strange, "").await, None, "{strange:?}");
    }
    assert_eq!(sign_up(&rig, 2, b"", "").await, Some(200), "a stranger needs none");
    assert_eq!(sign_up(&rig, 2, &line("203.0.113.8"), "").await, Some(400), "and may send none");
}

#[tokio::test]
async fn a_header_in_pieces_is_read() {
    let rig = Rig::start(behind(ClientAddress::ProxyProtocol)).await;
    let line = b"PROXY TCP4 203.0.113.1 10.0.0.1 4711 80\r\n";
    for header in [line.to_vec(), binary([203, 0, 113, 1], 7)] {
        let mut stream = connect(&rig, 3).await;
        stream.set_nodelay(true).expect("a socket");
        for piece in header.chunks(5) {
            stream.write_all(piece).await.expect("sent");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
        assert_eq!(client::read(&mut stream).await.expect("a reply").status, 200);
    }
}

#[tokio::test]
async fn clients_behind_a_proxy_have_a_share_each_and_the_proxy_has_none() {
    let share = |from| Config { connections_per_address_max: 1, ..behind(from) };
    let rig = Rig::start(share(ClientAddress::ProxyProtocol)).await;
    let idle = async |client: &str| {
        let mut stream = connect(&rig, 3).await;
        let bytes =
            format!("PROXY TCP4 {client} 10.0.0.1 4711 80\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(bytes.as_bytes()).await.expect("sent");
        assert_eq!(client::read(&mut stream).await.expect("a reply").status, 200);
        stream
    };
    let (mut first, mut other) = (idle("203.0.113.1").await, idle("203.0.113.2").await);
    let _second = idle("203.0.113.1").await;
    assert_eq!(first.read(&mut [0]).await.expect("an end"), 0, "its own");
    assert!(
        tokio::time::timeout(Duration::from_millis(300), other.read(&mut [0])).await.is_err(),
        "not another's"
    );

    let rig = Rig::start(share(ClientAddress::XForwardedFor)).await;
    let mut all = Vec::new();
    for _ in 0..5 {
        let mut stream = connect(&rig, 3).await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
        assert_eq!(client::read(&mut stream).await.expect("a reply").status, 200);
        all.push(stream);
    }
    for stream in &mut all {
        assert!(
            tokio::time::timeout(Duration::from_millis(50), stream.read(&mut [0])).await.is_err(),
            "kept"
        );
    }
}
