//! A program's own small HTTP server for its operators: `/metrics` (Prometheus' text format), `/readyz` (whether work
//! can be taken, and what is wrong) and `/livez` (the process answers). It asks for no key, so it must listen where
//! only operators can reach it; it shows no secret and changes nothing. [`Watched`] provides what it shows.

pub mod instruments;
mod panel;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use panel::Panel;

use infera_program::listen::ListenAddress;
use infera_telemetry::metrics::{BUILD_INFO, READY, describe};
use infera_telemetry::readiness::{Readiness, Watched};
use infera_types::shutdown::Shutdown;

/// The buckets of durations, in seconds: from half a millisecond (a commit on a fast disk) doubling to two minutes
/// (the longest wait of a synchronous chat). That makes eighteen series per label, and no estimate is off by more
/// than a factor of two.
const SECONDS: [f64; 18] = [
    0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0,
    60.0, 120.0,
];

/// The buckets of batch sizes: doubling up to more than any engine holds.
const SEQUENCES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The pause between two rounds of the recorder's housekeeping, which is the recorder's default. Without it samples
/// pile up until the next scrape.
const UPKEEP: Duration = Duration::from_secs(5);

/// The most connections at once. Prometheus, a probe and one or two people need fewer; more is a mistake or an
/// attack.
const CONNECTIONS_MAX: usize = 32;

/// How long a connection may send or take nothing before it is closed.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// How long a role may take to report its readiness; after that the readiness counts as unknown.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// The pause after a failed accept: closing connections frees descriptors, so waiting helps where spinning does not.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Where the server listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address and port. The default is none, which means no server: the server asks for no key, so the operator
    /// must choose where it can be reached.
    pub listen: Option<ListenAddress>,
}

/// Why there are no metrics or no server.
#[derive(Debug, thiserror::Error)]
pub enum OperationsError {
    /// The recorder was installed twice in a process, which is our fault.
    #[error("metrics: {0}")]
    Recorder(#[from] BuildError),
    /// The address is taken or belongs to another machine; the operator has to change it.
    #[error("operations.listen: {address}: {source}; stop what listens there, or choose another address")]
    Listen {
        /// The address.
        address: ListenAddress,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// The collected metrics. The size of a rendering is bounded by the number of labels.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Collects this process's metrics from now on. Call it before any part is made: parts keep handles, and a handle
    /// taken earlier counts nowhere.
    ///
    /// # Errors
    /// [`OperationsError::Recorder`].
    pub fn install() -> Result<Self, OperationsError> {
        let handle = builder()?.install_recorder()?;
        describe();
        metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self(handle))
    }

    /// Returns all metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_sequences".to_owned()), &SEQUENCES)
}

/// A server that holds its address and does not serve yet.
pub struct Operations {
    listener: TcpListener,
    metrics: Metrics,
}

impl Operations {
    /// Listens on the configured address; returns none if the configuration names none.
    ///
    /// # Errors
    /// [`OperationsError::Listen`].
    pub async fn bind(config: &Config, metrics: &Metrics) -> Result<Option<Self>, OperationsError> {
        let Some(address) = &config.listen else { return Ok(None) };
        let listener = address.bind().await;
        let listener =
            listener.map_err(|source| OperationsError::Listen { address: address.clone(), source })?;
        Ok(Some(Self { listener, metrics: metrics.clone() }))
    }

    /// Returns the address on which it listens.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `end` is cancelled. Cancel it after the drain, because operators want to watch that too.
    pub async fn serve(self, watched: Arc<dyn Watched>, end: Shutdown) {
        let Self { listener, metrics } = self;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut upkeep = tokio::time::interval(UPKEEP);
        upkeep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = upkeep.tick() => metrics.0.run_upkeep(),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        // Beyond the limit a connection is closed at once; a queue would not help here.
                        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                        let (metrics, watched, end) = (metrics.clone(), Arc::clone(&watched), end.clone());
                        tokio::spawn(async move {
                            tokio::select! {
                                () = connection(stream, metrics, watched) => {}
                                () = end.cancelled() => {}
                            }
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the operations server could not be accepted; trying again");
                        tokio::time::sleep(BACK_OFF).await;
                    }
                },
            }
        }
    }
}

async fn connection(stream: TcpStream, metrics: Metrics, watched: Arc<dyn Watched>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (metrics, watched) = (metrics.clone(), Arc::clone(&watched));
        async move {
            Ok::<_, Infallible>(answer(request.method(), request.uri().path(), &metrics, &*watched).await)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the operations server ended early");
    }
}

async fn answer(
    method: &Method,
    path: &str,
    metrics: &Metrics,
    watched: &dyn Watched,
) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if method != Method::GET && method != Method::HEAD {
        return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n".to_owned());
    }
    match path {
        "/livez" => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/metrics" => {
            watched.observe();
            let ready = ask(watched).await.is_some_and(|readiness| readiness.is_ready());
            metrics::gauge!(READY).set(f64::from(u8::from(ready)));
            response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.render())
        }
        "/readyz" => match ask(watched).await {
            Some(readiness) => {
                let status =
                    if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                response(status, "application/json", format!("{}\n", readiness.to_json()))
            }
            None => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "no answer in time\n".to_owned()),
        },
        _ => response(StatusCode::NOT_FOUND, TEXT, "/metrics, /readyz, /livez\n".to_owned()),
    }
}

async fn ask(watched: &dyn Watched) -> Option<Readiness> {
    tokio::time::timeout(ANSWERS_WITHIN, watched.readiness()).await.ok()
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use async_trait::async_trait;

    use super::*;
    use infera_telemetry::metrics::{ALL, GATEWAY_OUTBOX, GATEWAY_REQUEST, Kind};
    use infera_telemetry::readiness::Condition;

    struct Role(AtomicBool);

    #[async_trait]
    impl Watched for Role {
        fn observe(&self) {
            metrics::gauge!(GATEWAY_OUTBOX).set(3.0);
        }

        async fn readiness(&self) -> Readiness {
            Readiness::new([("ledger", Condition::of(self.0.load(Ordering::Relaxed), Condition::Failing))])
        }
    }

    async fn get(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    }

    #[tokio::test]
    async fn a_program_shows_its_metrics_and_whether_it_is_ready() {
        let config = Config { listen: Some(([127, 0, 0, 1], 0).into()) };
        let panel = Panel::open(&config).await.unwrap();
        let address = panel.address.unwrap();
        let metrics = Metrics(builder().unwrap().build_recorder().handle());
        let taken = Operations::bind(&Config { listen: Some(address.into()) }, &metrics).await;
        assert!(matches!(taken.err(), Some(OperationsError::Listen { .. })));
        let starting = get(address, "GET /readyz").await;
        assert!(starting.starts_with("HTTP/1.1 503") && starting.contains("started"), "{starting}");
        let role = Arc::new(Role(AtomicBool::new(true)));
        panel.show(Arc::clone(&role) as Arc<dyn Watched>);

        metrics::histogram!(GATEWAY_REQUEST, "route" => "/x").record(0.003);
        let text = get(address, "GET /metrics").await;
        for line in [
            "# TYPE infera_gateway_outbox_notices gauge",
            "infera_gateway_outbox_notices 3",
            "infera_ready 1",
            "infera_gateway_request_seconds_bucket{route=\"/x\",le=\"0.004\"} 1",
            "infera_gateway_request_seconds_bucket{route=\"/x\",le=\"0.002\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
        assert!(text.contains("# HELP infera_gateway_outbox_notices Accepted jobs"), "{text}");

        assert!(get(address, "GET /readyz").await.starts_with("HTTP/1.1 200"));
        role.0.store(false, Ordering::Relaxed);
        let unready = get(address, "GET /readyz").await;
        assert!(
            unready.starts_with("HTTP/1.1 503") && unready.contains("\"ledger\":\"failing\""),
            "{unready}"
        );
        assert!(get(address, "GET /metrics").await.contains("infera_ready 0"));
        assert!(get(address, "GET /livez").await.starts_with("HTTP/1.1 200"), "alive though not ready");
        assert!(get(address, "GET /").await.starts_with("HTTP/1.1 404"));
        assert!(get(address, "POST /metrics").await.starts_with("HTTP/1.1 405"));
        panel.end().await;
        assert!(TcpStream::connect(address).await.is_err(), "closed with its program");
    }

    #[test]
    fn every_histogram_has_bounds_of_its_unit() {
        let recorder = builder().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            for metric in ALL.iter().filter(|metric| metric.kind == Kind::Histogram) {
                metrics::histogram!(metric.name).record(1.0);
            }
        });
        let text = recorder.handle().render();
        for metric in ALL.iter().filter(|metric| metric.kind == Kind::Histogram) {
            assert!(
                text.contains(&format!("{}_bucket{{le=\"1\"}} 1", metric.name)),
                "{} in {text}",
                metric.name
            );
        }
    }
}
