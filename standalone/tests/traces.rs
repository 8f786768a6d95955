//! One trace through all roles. A client's request with a `traceparent` passes the gateway, the verifier and three
//! workers with real engines, and a small OTLP collector checks which span is the parent of which. All roles share
//! this process and the embedded broker, so a trace can pass from one role to another in messages only.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use infera::config::Config;
use infera::network::Network;
use infera_telemetry::traces;
use infera_types::shutdown::Shutdown;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";

/// What was exported so far.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<Span>>>);

impl Collected {
    fn take_in(&self, body: Bytes) {
        let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().expect("no panic").extend(scopes.flat_map(|scope| scope.spans));
    }

    fn named(&self, name: &str) -> Vec<Span> {
        let spans = self.0.lock().expect("no panic");
        spans.iter().filter(|span| span.name == name).cloned().collect()
    }
}

async fn collector(collected: Collected) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let collected = collected.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let collected = collected.clone();
                async move {
                    assert_eq!(request.uri().path(), "/v1/traces");
                    collected.take_in(request.into_body().collect().await?.to_bytes());
                    Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::new())))
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn chat(network: (SocketAddr, &str), traceparent: &str) {
    let (address, key) = network;
    let body = r#"{"model":"infera-tiny","messages":[{"role":"user","content":"what is 3 plus 4?"}],"max_tokens":8}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
         {traceparent}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
}

fn ids(spans: &[Span]) -> BTreeSet<&[u8]> {
    spans.iter().map(|span| &span.span_id[..]).collect()
}

fn only(spans: Vec<Span>) -> Span {
    assert_eq!(spans.len(), 1, "{spans:?}");
    spans.into_iter().next().expect("one")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_spans_gateway_verifier_and_workers() {
    let collected = Collected::default();
    let endpoint = format!("http://{}/v1/traces", collector(collected.clone()).await);
    let log = infera_telemetry::Config { filter: "error".to_owned(), ..infera_telemetry::Config::default() };
    // Ratio 0: only what the client traces is traced, so the second request must leave nothing.
    let traces = infera_telemetry::start_traced(&log, &traces::Config { endpoint, ratio: 0.0 }, "test");
    let traces = traces.expect("the only one of this process").expect("traces are on");

    let folder = tempfile::tempdir().expect("a scratch folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut config = Config { data: folder.path().to_owned(), ..Config::default() };
    config.listen = ([127, 0, 0, 1], 0).into();
    config.nodes.count = 3;
    config.engine.folder = root.join(&config.engine.folder);
    config.engine.library = root.join(&config.engine.library);
    let network = Network::start(config).await.expect("the network starts; run `make setup` first");
    let (address, key) = (network.address, network.key.expose().to_owned());
    let shutdown = Shutdown::new();
    let running = tokio::spawn(network.run(shutdown.clone()));
    chat((address, &key), &format!("traceparent: 00-{TRACE}-{CLIENT_SPAN}-01\r\n")).await;
    chat((address, &key), "").await;
    shutdown.cancel();
    running.await.expect("no panic").expect("every role ends well");
    traces.end().await;

    let request = only(collected.named("request"));
    assert_eq!(hex::encode(&request.parent_span_id), CLIENT_SPAN);
    let job = only(collected.named("job"));
    assert_eq!(job.parent_span_id, request.span_id, "the notice carried the request's span");
    let assignments = collected.named("assignment");
    assert_eq!(assignments.len(), 3, "three nodes were asked");
    assert!(assignments.iter().all(|span| span.parent_span_id == job.span_id), "{assignments:?}");
    let runs = collected.named("run");
    assert_eq!(runs.len(), 3, "each had a turn of its own");
    assert!(runs.iter().all(|span| ids(&assignments).contains(&span.parent_span_id[..])), "{runs:?}");
    let replicas = collected.named("replica");
    assert_eq!(replicas.len(), 3);
    for replica in &replicas {
        assert_eq!(replica.parent_span_id, job.span_id);
        assert!(ids(&assignments).contains(&replica.links[0].span_id[..]), "linked to its worker's span");
    }
    assert_eq!(only(collected.named("settle")).parent_span_id, job.span_id);
    let all = collected.0.lock().expect("no panic");
    assert!(all.iter().all(|span| hex::encode(&span.trace_id) == TRACE), "one trace and no other");
}
