//! Spans: pieces of work with a start and an end.
//!
//! The values in a span are constant texts, numbers, and ids of apps or deliveries. Keys, tokens,
//! titles, accounts, paths and queries are forbidden. A span ends when it is dropped.

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};

use super::Trace;

/// Running work.
pub struct Span {
    span: SdkSpan,
    trace: Trace,
}

impl Span {
    pub(super) fn start(
        tracer: &SdkTracer,
        builder: SpanBuilder,
        parent: Option<&SpanContext>,
    ) -> Self {
        let root = Context::new();
        let parent = parent.map(|parent| root.with_remote_span_context(parent.clone()));
        let span = builder.start_with_context(tracer, parent.as_ref().unwrap_or(&root));
        let trace = Trace::from_span(span.span_context().clone(), tracer.clone());
        Self { span, trace }
    }

    /// The trace with this span as the parent of further spans.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Whether the span is recorded. Otherwise attributes have no effect.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.span.is_recording()
    }

    /// Changes the name of the span.
    pub fn rename(&mut self, name: String) {
        self.span.update_name(name);
    }

    /// Sets an attribute, named by the semantic conventions or `muster.…`.
    pub fn set_attribute(&mut self, name: &'static str, value: impl Into<Value>) {
        self.span.set_attribute(KeyValue::new(name, value));
    }

    /// Marks the work as failed. The log has the reason.
    pub fn mark_failed(&mut self) {
        self.span.set_status(Status::error(""));
    }
}

/// Runs `work` in a span. The work is a statement about `items` that `requests` share.
///
/// The parent is the first recorded request; the span has links to the others.
///
/// # Errors
/// The error of `work`.
pub async fn trace_statement<T, E>(
    name: &'static str,
    items: usize,
    requests: &[Trace],
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let span = start(name, items, requests);
    let result = work.await;
    if let (Some(mut span), Err(_)) = (span, &result) {
        span.mark_failed();
    }
    result
}

/// Runs `work`, a statement of the current request, in a span.
///
/// # Errors
/// The error of `work`.
pub async fn trace_single_statement<T, E>(
    name: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match Trace::current() {
        Some(trace) => trace_statement(name, 1, &[trace], work).await,
        None => work.await,
    }
}

fn start(name: &'static str, items: usize, requests: &[Trace]) -> Option<Span> {
    let mut requests = requests.iter().filter_map(|trace| Some((trace, trace.tracer()?)));
    let (parent, tracer) = requests.next()?;
    let mut links: Vec<Link> = Vec::new();
    for (other, _) in requests {
        let is_same_span = |context: &SpanContext| context.span_id() == other.context().span_id();
        if !is_same_span(parent.context())
            && !links.iter().any(|link| is_same_span(&link.span_context))
        {
            links.push(Link::with_context(other.context().clone()));
        }
    }
    let items = i64::try_from(items).unwrap_or(i64::MAX);
    let builder = SpanBuilder::from_name(name)
        .with_kind(SpanKind::Client)
        .with_links(links)
        .with_attributes([
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.operation.batch.size", items),
        ]);
    Some(Span::start(tracer, builder, Some(parent.context())))
}
