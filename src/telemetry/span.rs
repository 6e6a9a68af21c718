//! Spans: pieces of work, with start and end.
//!
//! The values in a span are texts of the source, numbers, and ids of apps or deliveries: never a
//! key, a token, a title, an account, a path or a query. A span ends when it is dropped.

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};

use super::Trace;

/// Work that runs.
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

    /// The trace, with this as the span that others stand under.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Whether the span is recorded. If not, attributes need not be set.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.span.is_recording()
    }

    /// Gives it another name.
    pub fn rename(&mut self, name: String) {
        self.span.update_name(name);
    }

    /// Notes something about the work, under a name of the semantic conventions or `muster.…`.
    pub fn set_attribute(&mut self, name: &'static str, value: impl Into<Value>) {
        self.span.set_attribute(KeyValue::new(name, value));
    }

    /// Notes that the work failed. Why is for the log.
    pub fn mark_failed(&mut self) {
        self.span.set_status(Status::error(""));
    }
}

/// Does `work`, a statement about `items` that these requests share, in a span.
///
/// The parent is the first request that is recorded; the span has links to the others.
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

/// Does `work`, a statement of the request that is worked on here, in a span.
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
