//! Sends traces to an OTLP collector over HTTP: the exporter, its settings, and the translation between `tracing`'s
//! spans and W3C's trace context. The code that makes a span decides what is worth one.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::error::TelemetryError;

/// How long an export may take. A collector that takes longer counts as away; the next batch is tried regardless.
const EXPORT_MAX: Duration = Duration::from_secs(5);

/// The header's name in HTTP, which messages use too.
const TRACEPARENT: &str = "traceparent";

/// Where traces go, and how many are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The collector's URL for traces, such as `http://127.0.0.1:4318/v1/traces`. Empty: no traces.
    pub endpoint: String,
    /// The share, from 0 to 1, of the requests without a trace of their own that is traced. A request that its client
    /// traces is always traced here as well.
    pub ratio: f64,
}

impl Default for Config {
    /// Returns traces that are off, at a ratio of one in a hundred for when they are on. At hundreds of jobs a second
    /// that still shows every kind of delay within a minute, and takes a hundredth of the collector's disk.
    fn default() -> Self {
        Self { endpoint: String::new(), ratio: 0.01 }
    }
}

/// The exporter of this process. If it is dropped without [`Traces::end`], the unsent spans are lost.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Opens an exporter for the program called `service`; none if traces are off. It must be called within the
    /// runtime that exports are to run on.
    ///
    /// # Errors
    /// [`TelemetryError::Traces`]: a setting is out of range or cannot be parsed.
    pub(super) fn open(config: &Config, service: &'static str) -> Result<Option<Self>, TelemetryError> {
        if config.endpoint.is_empty() {
            return Ok(None);
        }
        let problem = |problem: String| TelemetryError::Traces(problem);
        if !(0.0..=1.0).contains(&config.ratio) {
            return Err(problem(format!("traces.ratio is {}, which is not from 0 to 1", config.ratio)));
        }
        let runtime = Handle::try_current().map_err(|error| problem(error.to_string()))?;
        // An error means that this provider is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(EXPORT_MAX)
            .build()
            .map_err(|error| problem(error.to_string()))?;
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(&config.endpoint)
            .with_timeout(EXPORT_MAX)
            .build()
            .map_err(|error| problem(format!("traces.endpoint: {error}")))?;
        let resource = Resource::builder_empty()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(InRuntime { exporter: Arc::new(exporter), runtime })
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.ratio))))
            .with_resource(resource)
            .build();
        Ok(Some(Self(provider)))
    }

    pub(super) fn tracer(&self) -> opentelemetry_sdk::trace::SdkTracer {
        self.0.tracer("infera")
    }

    /// Sends the remaining spans and stops.
    pub async fn end(self) {
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(EXPORT_MAX)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last traces may not have been sent");
        }
    }
}

/// Runs the library's futures in our runtime: a thread of the library exports batches outside any runtime, and the
/// HTTP client needs one.
#[derive(Debug)]
struct InRuntime<E> {
    exporter: Arc<E>,
    runtime: Handle,
}

impl<E: SpanExporter + 'static> SpanExporter for InRuntime<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exporter = Arc::clone(&self.exporter);
        let mut exporting = Box::pin(async move { exporter.export(batch).await });
        poll_fn(|context| {
            let _entered = self.runtime.enter();
            exporting.as_mut().poll(context)
        })
        .await
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}

/// The one header that is read and written.
#[derive(Default)]
struct Carrier(Option<String>);

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = Some(value);
        }
    }
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.as_deref().filter(|_| key == TRACEPARENT)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

pub(super) fn traceparent(span: &Span) -> Option<String> {
    let mut carrier = Carrier::default();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.0
}

fn context(traceparent: Option<&str>) -> Option<Context> {
    let carrier = Carrier(Some(traceparent?.to_owned()));
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    context.span().span_context().is_valid().then_some(context)
}

pub(super) fn continue_from(span: &Span, traceparent: Option<&str>) {
    if let Some(parent) = context(traceparent) {
        // It fails while tracing is off, when there is no span to place.
        let _ = span.set_parent(parent);
    }
    let own = span.context();
    let own = own.span().span_context().clone();
    if own.is_valid() {
        span.record("trace_id", tracing::field::display(own.trace_id()));
    }
}

pub(super) fn link(span: &Span, traceparent: Option<&str>) {
    let Some(other) = context(traceparent) else { return };
    let (own, other) = (span.context(), other.span().span_context().clone());
    if own.span().span_context().trace_id() == other.trace_id() {
        span.add_link(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proper_traceparent_is_a_context() {
        let proper = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let found = context(Some(proper)).map(|context| {
            let span = context.span().span_context().clone();
            (span.trace_id().to_string(), span.span_id().to_string(), span.is_sampled())
        });
        let expected = ("4bf92f3577b34da6a3ce929d0e0e4736".to_owned(), "00f067aa0ba902b7".to_owned(), true);
        assert_eq!(found, Some(expected));
        for improper in
            ["", "00", "00-0-0-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "x"]
        {
            assert!(context(Some(improper)).is_none(), "{improper}");
        }
        assert!(context(None).is_none());
    }

    #[tokio::test]
    async fn settings_that_cannot_be_are_named() {
        let off = Traces::open(&Config::default(), "test").unwrap();
        assert!(off.is_none());
        for (endpoint, ratio, named) in
            [("http://127.0.0.1:1/v1/traces", 1.5, "ratio"), ("no address", 1.0, "endpoint")]
        {
            let config = Config { endpoint: endpoint.to_owned(), ratio };
            let problem = Traces::open(&config, "test").unwrap_err().to_string();
            assert!(problem.contains(named), "{problem}");
        }
    }
}
