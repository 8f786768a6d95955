//! The public port over TLS, with a real client: which clients trust it, what a bad handshake costs, and that a
//! renewed certificate is used without a restart. What requests mean is tested in plain text.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_broker::memory::MemoryBroker;
use infera_gateway::config::ClientAddress;
use infera_gateway::{Config, Gateway, Listener, Seams};
use infera_gateway_program::tls::{Tls, TlsConfig, TlsError};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::shutdown::Shutdown;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Long enough for a busy machine, and short enough to notice a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// An authority with a certificate for loopback, made as `make services` makes them.
fn certificates(folder: &Path) -> TlsConfig {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/service/certificates.py");
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let made = Command::new(python).arg(script).arg(folder).arg("gateway").output();
    let made = made.expect("Python, and the openssl command");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    TlsConfig {
        certificate_file: Some(folder.join("gateway.crt")),
        key_file: Some(folder.join("gateway.key")),
        ..TlsConfig::default()
    }
}

/// A gateway that speaks TLS. It knows no keys, so a client that gets a 401 has reached it.
struct Secured {
    address: SocketAddr,
    shutdown: Shutdown,
    running: JoinHandle<()>,
    _folder: TempDir,
}

impl Secured {
    async fn start(config: Config, tls: &TlsConfig) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).expect("a ledger");
        let seams = Seams {
            intake: Arc::clone(&ledger) as _,
            reader: Arc::clone(&ledger) as _,
            batches: Arc::clone(&ledger) as _,
            lists: Arc::clone(&ledger) as _,
            accounts: Arc::clone(&ledger) as _,
            keys: Arc::clone(&ledger) as _,
            erasures: Arc::clone(&ledger) as _,
            network: Arc::clone(&ledger) as _,
            roster: Arc::clone(&ledger) as _,
            node_reader: Arc::clone(&ledger) as _,
            groups: ledger as _,
            broker: MemoryBroker::new() as _,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shutdown = Shutdown::new();
        let tls = Tls::load(tls).expect("usable files").expect("files are named");
        tokio::spawn(tls.clone().keep_fresh(shutdown.clone()));
        let listener = Listener::from(listener).with_acceptor(Some(Arc::new(tls)));
        let running = tokio::spawn(Gateway::new(config, seams).run(listener, shutdown.clone()));
        Self { address, shutdown, running, _folder: folder }
    }

    /// Returns the status of a request by a client that trusts this authority.
    async fn ask(&self, authority: &Path) -> Result<u16, String> {
        let trusted = infera_tls::client(Some(authority)).expect("an authority");
        self.ask_with(trusted).await
    }

    async fn ask_with(&self, trusted: rustls::ClientConfig) -> Result<u16, String> {
        let client = reqwest::Client::builder().tls_backend_preconfigured(trusted).no_proxy();
        let client = client.timeout(PATIENCE).build().expect("a client");
        let url = format!("https://{}/v1/models", self.address);
        // The error's own text names only the outermost cause.
        let reply = client.get(url).send().await.map_err(|error| format!("{error:?}"))?;
        assert!(reply.headers().contains_key("x-request-id"), "{reply:?}");
        Ok(reply.status().as_u16())
    }

    /// Returns what a client gets that sends these bytes, until the connection ends.
    async fn say(&self, words: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        stream.write_all(words).await.expect("said");
        let mut heard = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
        // Whether the connection was reset or closed doesn't matter.
        drop(ended.expect("the connection ends"));
        heard
    }
}

#[tokio::test]
async fn only_who_knows_its_authority_speaks_with_it() {
    let (ours, theirs) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let tls = certificates(ours.path());
    certificates(theirs.path());
    let gateway = Secured::start(Config::default(), &tls).await;
    assert_eq!(gateway.ask(&ours.path().join("ca.crt")).await, Ok(401));
    let refused = gateway.ask(&theirs.path().join("ca.crt")).await.expect_err("a stranger's authority");
    // The cause as `rustls` names it, anywhere in the chain of causes.
    assert!(refused.contains("InvalidCertificate"), "{refused}");
}

#[tokio::test]
async fn http_2_alone_is_refused_in_the_handshake() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Secured::start(Config::default(), &certificates(folder.path())).await;
    for (protocols, expected) in [(vec!["h2"], None), (vec!["h2", "http/1.1"], Some(b"http/1.1".as_slice()))]
    {
        let trusted = infera_tls::client(Some(&folder.path().join("ca.crt")));
        let mut trusted = trusted.expect("an authority");
        trusted.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(gateway.address).await.expect("a connection");
        let name = "127.0.0.1".try_into().expect("a name");
        let agreed = tokio_rustls::TlsConnector::from(Arc::new(trusted)).connect(name, stream).await;
        let agreed = agreed.ok().and_then(|stream| stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec));
        assert_eq!(agreed.as_deref(), expected, "{protocols:?}");
    }
}

#[tokio::test]
async fn what_is_no_handshake_ends_and_harms_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Secured::start(Config::default(), &certificates(folder.path())).await;
    // Plain text, noise, and the first bytes of a handshake with an impossible length.
    for words in
        [&b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 4096], &[22, 3, 1, 0xff, 0xff, 9]]
    {
        let heard = gateway.say(words).await;
        assert!(!heard.starts_with(b"HTTP"), "{heard:?}");
    }
    assert_eq!(gateway.ask(&folder.path().join("ca.crt")).await, Ok(401));
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = TlsConfig { handshake_timeout_ms: 500, ..certificates(folder.path()) };
    let gateway = Secured::start(Config::default(), &tls).await;
    let began = Instant::now();
    let mut silent = TcpStream::connect(gateway.address).await.expect("a connection");
    assert_eq!(silent.read(&mut [0]).await.expect("an end"), 0);
    // Idle connections would be closed much later.
    assert!((300..10_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

/// The gateway has one place for connections. A client that only connects has to give it up to the next one.
#[tokio::test]
async fn a_handshake_that_waits_makes_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = TlsConfig { handshake_timeout_ms: 60_000, ..certificates(folder.path()) };
    let config = Config { connections_max: 1, ..Config::default() };
    let gateway = Secured::start(config, &tls).await;
    let mut silent = TcpStream::connect(gateway.address).await.expect("a connection");
    assert_eq!(gateway.ask(&folder.path().join("ca.crt")).await, Ok(401));
    assert_eq!(silent.read(&mut [0]).await.expect("an end"), 0);
}

/// Returns what comes back over TLS until the gateway closes.
async fn exchange(gateway: &Secured, authority: &Path, before: &[u8], half_close: bool) -> String {
    let trusted = infera_tls::client(Some(authority)).expect("an authority");
    let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
    stream.write_all(before).await.expect("sent");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(trusted));
    let name = "127.0.0.1".try_into().expect("a name");
    let Ok(mut stream) = connector.connect(name, stream).await else { return String::new() };
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.expect("sent");
    if half_close {
        // This ends the sending side of both TLS and TCP.
        stream.shutdown().await.expect("half closed");
    } else {
        stream.write_all(b"GET /healthz HTTP/1.1\nHost: 127.0.0.1\r\n\r\n").await.expect("sent");
    }
    let mut back = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut back)).await;
    let back = String::from_utf8_lossy(&back).into_owned();
    ended.expect("closed").unwrap_or_else(|error| panic!("{error}: {back}"));
    back
}

#[tokio::test]
async fn a_client_that_sends_no_more_is_answered_and_bad_heads_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Secured::start(Config::default(), &certificates(folder.path())).await;
    let authority = folder.path().join("ca.crt");
    let back = exchange(&gateway, &authority, b"", true).await;
    assert!(back.starts_with("HTTP/1.1 200 ") && back.ends_with('}'), "{back}");
    let back = exchange(&gateway, &authority, b"", false).await;
    assert!(back.contains("HTTP/1.1 400 ") && back.contains("bare LF"), "{back}");
}

#[tokio::test]
async fn the_proxy_protocol_comes_before_the_handshake() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config {
        trusted_proxies: serde_json::from_str("[\"127.0.0.0/8\"]").expect("a network"),
        client_address_from: ClientAddress::ProxyProtocol,
        ..Config::default()
    };
    let gateway = Secured::start(config, &certificates(folder.path())).await;
    let authority = folder.path().join("ca.crt");
    let back = exchange(&gateway, &authority, b"PROXY TCP4 203.0.113.1 10.0.0.1 1 2\r\n", true).await;
    assert!(back.starts_with("HTTP/1.1 200 "), "{back}");
    assert_eq!(
        exchange(&gateway, &authority, b"", true).await,
        "",
        "a proxy that doesn't say for whom it is"
    );
}

#[tokio::test]
async fn a_drain_does_not_wait_for_handshakes() {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = TlsConfig { handshake_timeout_ms: 60_000, ..certificates(folder.path()) };
    let gateway = Secured::start(Config::default(), &tls).await;
    assert_eq!(gateway.ask(&folder.path().join("ca.crt")).await, Ok(401));
    let _silent = TcpStream::connect(gateway.address).await.expect("a connection");
    let began = Instant::now();
    gateway.shutdown.cancel();
    gateway.running.await.expect("an end");
    // The drain's own time is 20 s.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_renewed_certificate_is_used_and_half_of_one_is_not() {
    let (old, new) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let tls = TlsConfig { reload_ms: 20, ..certificates(old.path()) };
    certificates(new.path());
    let gateway = Secured::start(Config::default(), &tls).await;
    let (old_authority, new_authority) = (old.path().join("ca.crt"), new.path().join("ca.crt"));
    let renew = |name: &str| std::fs::copy(new.path().join(name), old.path().join(name)).expect("copied");

    // Only the certificate is renewed yet. It doesn't fit the key, so the old pair stays in use.
    renew("gateway.crt");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(gateway.ask(&old_authority).await, Ok(401));

    renew("gateway.key");
    let began = Instant::now();
    while gateway.ask(&new_authority).await != Ok(401) {
        assert!(began.elapsed() < PATIENCE, "the new certificate is not used");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(gateway.ask(&old_authority).await.is_err(), "the old certificate is still used");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (good, strange) = (certificates(one.path()), certificates(other.path()));
    assert!(Tls::load(&TlsConfig::default()).expect("no TLS").is_none());
    assert!(Tls::load(&good).expect("TLS").is_some());

    let half = TlsConfig { key_file: None, ..good.clone() };
    assert!(matches!(Tls::load(&half), Err(TlsError::Half)));
    let absent = Some(PathBuf::from("/nowhere/gateway.pem"));
    let refusal = |config: &TlsConfig| Tls::load(config).err().map(|error| error.to_string());
    for (config, words) in [
        (TlsConfig { certificate_file: absent.clone(), ..good.clone() }, "tls.certificate_file /nowhere"),
        (TlsConfig { key_file: absent, ..good.clone() }, "tls.key_file /nowhere"),
        // A key is no certificate, a certificate is no key, and a certificate and a key of different pairs don't fit.
        (TlsConfig { certificate_file: good.key_file.clone(), ..good.clone() }, "no certificate in it"),
        (TlsConfig { key_file: good.certificate_file.clone(), ..good.clone() }, "tls.key_file"),
        (TlsConfig { key_file: strange.key_file, ..good.clone() }, "tls.certificate_file and tls.key_file"),
    ] {
        let refusal = refusal(&config).expect("refused");
        assert!(refusal.contains(words), "{refusal}");
    }
}
