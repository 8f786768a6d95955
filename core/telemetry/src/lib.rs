//! What operators see. This module holds the logs: one subscriber per process, on standard error; code reports an
//! event where it happens, with `tracing`. Its submodules are `metrics` (every metric's name), `readiness` (what
//! makes a role ready), `trace` (one trace over several processes) and `traces` (where traces go). `operations`
//! serves them.

pub mod counts;
mod error;
pub mod metrics;
pub mod readiness;
pub mod trace;
#[cfg(feature = "otlp")]
pub mod traces;

use std::io::{self, IsTerminal as _};

use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Registry};

pub use error::TelemetryError;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Text for people. The default, because the first thing that users run is one machine with a terminal.
    #[default]
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// What is logged, and in which format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The format of lines.
    pub format: Format,
    /// The filter of lines: `info`, or per module, such as `info,infera_verifier=debug`.
    pub filter: String,
}

impl Default for Config {
    /// Returns text at `info`: starts, stops and what an operator must know; nothing per job.
    fn default() -> Self {
        // ONNX Runtime logs each step of loading a session at `info`: two hundred lines a node, which would hide
        // ours. The AMQP client warns of each returned message and prints its body, which is a user's prompt. Its
        // errors reach us as values, and the code that asked for something missing (a gateway that looks for its own
        // queue at start) reports them.
        Self { format: Format::Text, filter: "info,ort=warn,lapin=off".to_owned() }
    }
}

/// Starts logging for the whole process.
///
/// # Errors
/// A filter that cannot be parsed, or a second call in the process.
pub fn start(config: &Config) -> Result<(), TelemetryError> {
    let subscriber = subscriber(config, io::stderr, io::stderr().is_terminal())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Started)
}

/// Starts logging, and traces if they are sent anywhere, for the whole process, which traces call `service`. Call it
/// within the runtime, and end the returned value last.
///
/// # Errors
/// Any [`TelemetryError`].
#[cfg(feature = "otlp")]
pub fn start_traced(
    config: &Config,
    traces: &traces::Config,
    service: &'static str,
) -> Result<Option<traces::Traces>, TelemetryError> {
    let opened = traces::Traces::open(traces, service)?;
    match &opened {
        None => start(config)?,
        Some(traces) => {
            let subscriber = traced(config, io::stderr, io::stderr().is_terminal(), traces)?;
            tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Started)?;
        }
    }
    Ok(opened)
}

type AnySubscriber = Box<dyn Subscriber + Send + Sync>;

/// Makes the subscriber for logs alone. Spans of traces are disabled where they are made: not even their fields are
/// evaluated.
fn subscriber(
    config: &Config,
    writer: impl for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
    colours: bool,
) -> Result<AnySubscriber, TelemetryError> {
    let filter = filter(config, "off")?;
    Ok(Box::new(Registry::default().with(filter).with(lines(config.format, writer, colours))))
}

/// Makes the subscriber for logs and traces. A trace's spans pass any log filter, so that lines within them carry its
/// id.
#[cfg(feature = "otlp")]
fn traced(
    config: &Config,
    writer: impl for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
    colours: bool,
    traces: &traces::Traces,
) -> Result<AnySubscriber, TelemetryError> {
    let spans = tracing_subscriber::filter::Targets::new().with_target(trace::TARGET, tracing::Level::INFO);
    let exported = tracing_opentelemetry::layer()
        .with_tracer(traces.tracer())
        .with_location(false)
        .with_threads(false)
        .with_filter(spans);
    let lines = lines(config.format, writer, colours).with_filter(filter(config, "info")?);
    Ok(Box::new(Registry::default().with(exported).with(lines)))
}

/// Returns the operator's filter, extended by what it lets through of traces' spans.
fn filter(config: &Config, spans: &str) -> Result<EnvFilter, TelemetryError> {
    let fault = |problem: String| TelemetryError::Filter { filter: config.filter.clone(), problem };
    let filter = EnvFilter::builder().parse(&config.filter).map_err(|error| fault(error.to_string()))?;
    let directive =
        format!("{}={spans}", trace::TARGET).parse().map_err(|error| fault(format!("{error}")))?;
    Ok(filter.add_directive(directive))
}

fn lines<S>(
    format: Format,
    writer: impl for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
    colours: bool,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = fmt::layer().with_writer(writer);
    match format {
        Format::Text => layer.with_ansi(colours).boxed(),
        // The innermost span names the trace; the list of all surrounding spans would repeat it.
        Format::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str) -> String {
        let written = Written::default();
        let writer = written.clone();
        let config = Config { format, filter: filter.to_owned() };
        let subscriber = subscriber(&config, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(job = "job_1", "settled");
            tracing::debug!("taken");
        });
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_filter_decides_what_is_written() {
        for (filter, lines) in
            [("off", 0), ("warn", 0), ("info", 1), ("debug", 2), ("warn,infera_telemetry=debug", 2)]
        {
            assert_eq!(logged(Format::Text, filter).lines().count(), lines, "{filter}");
        }
    }

    #[test]
    fn json_lines_are_objects_with_their_fields() {
        let line: serde_json::Value = serde_json::from_str(&logged(Format::Json, "info")).unwrap();
        assert_eq!(line["message"], "settled");
        assert_eq!(line["job"], "job_1");
        assert_eq!(line["level"], "INFO");
    }

    #[cfg(feature = "otlp")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn lines_within_a_trace_carry_its_id() {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        // No collector listens there: that loses the traces, but not the lines.
        let config = traces::Config { endpoint: "http://127.0.0.1:9/v1/traces".to_owned(), ratio: 0.0 };
        let traces = traces::Traces::open(&config, "test").unwrap().unwrap();
        let written = Written::default();
        let writer = written.clone();
        let log = Config { format: Format::Json, filter: "warn".to_owned() };
        let subscriber = traced(&log, move || writer.clone(), false, &traces).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let field = tracing::field::Empty;
            let span = tracing::info_span!(target: trace::TARGET, "job", trace_id = field);
            trace::continue_from(&span, Some(PARENT));
            let sent = span.in_scope(|| {
                tracing::warn!("within");
                trace::current().unwrap()
            });
            assert_eq!((&sent[..35], &sent[52..]), (&PARENT[..35], "-01"));
            assert_ne!(sent, PARENT, "a span of its own");
            tracing::warn!("without");
        });
        traces.end().await;
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["span"]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736", "{text}");
        assert_eq!(lines[1].get("span"), None, "{text}");
    }

    #[test]
    fn without_traces_their_spans_are_not_even_made() {
        let config = Config { filter: "trace".to_owned(), ..Config::default() };
        let subscriber = subscriber(&config, io::sink, false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            assert!(tracing::info_span!(target: trace::TARGET, "job").is_none());
            assert!(!tracing::info_span!("other").is_none());
            assert_eq!(trace::current(), None);
        });
    }

    #[test]
    fn a_filter_that_does_not_parse_is_named() {
        let config = Config { filter: "info,[[".to_owned(), ..Config::default() };
        let error = subscriber(&config, io::stderr, false).map(|_| ()).unwrap_err();
        assert!(matches!(&error, TelemetryError::Filter { filter, .. } if filter == "info,[["), "{error}");
    }

    #[test]
    fn starting_twice_is_refused() {
        let off = Config { filter: "off".to_owned(), ..Config::default() };
        assert!(start(&off).is_ok());
        assert!(matches!(start(&off), Err(TelemetryError::Started)));
    }
}
