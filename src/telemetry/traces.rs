//! Traces of one application: off, or sent to a collector.
//!
//! Traces belong to an application, not to the process, so several applications in one process stay
//! separate. Tracing that is off costs nothing, because no span is created. Spans wait in memory,
//! up to a limit, until they are sent. Spans beyond the limit, or that the collector does not
//! accept, are lost.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanBuilder, SpanKind, TracerProvider as _};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};

use super::collector::Collector;
use super::{Span, Trace};
use crate::config::TracingConfig;

/// The maximum number of waiting spans.
const MAX_QUEUE_SIZE: usize = 8_192;
/// The maximum number of requests that share a statement.
const MAX_LINKS: u32 = 256;

/// Creates spans, or does nothing if tracing is off. Clones share one exporter.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<ActiveTracer>);

#[derive(Clone, Debug)]
struct ActiveTracer {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// The reason why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The HTTP client cannot be created.
    #[error("cannot create the HTTP client")]
    Client(#[from] reqwest::Error),
    /// The settings or the `OTEL_…` variables of the environment are invalid for the exporter.
    #[error("spans cannot be sent")]
    Exporter(#[from] ExporterBuildError),
}

impl Traces {
    /// Opens tracing with these settings. Requires a runtime on which tasks can be spawned.
    ///
    /// # Errors
    /// The exporter cannot be created. The collector need not answer yet.
    pub fn open(settings: &TracingConfig) -> Result<Self, TracesError> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(Self::default()) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new()?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint.traces())
            .build()?;
        let batches = BatchConfigBuilder::default().with_max_queue_size(MAX_QUEUE_SIZE).build();
        let exporter = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let ratio = Sampler::TraceIdRatioBased(1.0 / f64::from(settings.sample_one_in));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(exporter)
            // A request with a trace carries the decision of its caller.
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_max_links_per_span(MAX_LINKS)
            .with_resource(resource())
            .build();
        let tracer = provider.tracer("muster");
        Ok(Self(Some(ActiveTracer { provider, tracer })))
    }

    /// The span of a request, in the trace that the request carries, if any.
    #[must_use]
    pub fn request(&self, parent: Option<&Trace>) -> Option<Span> {
        self.start("HTTP", SpanKind::Server, parent)
    }

    /// The span of an attempt to deliver a callback, in the trace of the request that made the
    /// change.
    #[must_use]
    pub fn callback(&self, parent: Option<&Trace>) -> Option<Span> {
        self.start("callback", SpanKind::Client, parent)
    }

    fn start(&self, name: &'static str, kind: SpanKind, parent: Option<&Trace>) -> Option<Span> {
        let ActiveTracer { tracer, .. } = self.0.as_ref()?;
        let builder = SpanBuilder::from_name(name).with_kind(kind);
        Some(Span::start(tracer, builder, parent.map(Trace::context)))
    }

    /// Sends the waiting spans, for at most `timeout`. Afterwards no spans are created.
    pub async fn shut_down(self, timeout: Duration) {
        let Some(ActiveTracer { provider, .. }) = self.0 else { return };
        // The shutdown blocks its thread. The SDK logs its errors.
        let shut_down = move || provider.shutdown_with_timeout(timeout);
        let _ = tokio::task::spawn_blocking(shut_down).await;
    }
}

/// The attributes of this service.
fn resource() -> Resource {
    let instance = format!("{:032x}", rand::random::<u128>());
    Resource::builder()
        .with_service_name("muster")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", instance))
        .build()
}
