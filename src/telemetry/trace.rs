//! The trace of a piece of work, and its text form `traceparent` of W3C Trace Context.
//!
//! A request carries its trace while it runs ([`Trace::scope`]), and inner code reads
//! [`Trace::current`]. The surprise: a caller's trace is stored and passed on even if no spans are
//! recorded. `tracestate` is ignored.

use std::fmt;
use std::sync::Arc;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::SdkTracer;

tokio::task_local! {
    static CURRENT: Trace;
}

/// A trace, and the span in it that is the parent of further spans. A clone is the same trace.
#[derive(Clone)]
pub struct Trace(Arc<TraceInner>);

struct TraceInner {
    context: SpanContext,
    /// Makes the child spans; `None` if the trace comes from a caller.
    tracer: Option<SdkTracer>,
}

impl Trace {
    /// The length of [`bytes`](Self::bytes).
    pub const LENGTH: usize = 25;

    /// The trace of a span of this process.
    pub(super) fn from_span(context: SpanContext, tracer: SdkTracer) -> Self {
        Self(Arc::new(TraceInner { context, tracer: Some(tracer) }))
    }

    fn from_remote(trace: TraceId, span: SpanId, flags: u8) -> Option<Self> {
        // Other flags have no meaning here.
        let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
        let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
        context.is_valid().then(|| Self(Arc::new(TraceInner { context, tracer: None })))
    }

    /// Parses a `traceparent`; `None` for any other text. Of a future version, only the part that
    /// all versions share is read.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        let plain = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        let prefix = bytes.get(..55)?;
        if !prefix.iter().all(plain) || [2, 35, 52].iter().any(|dash| prefix[*dash] != b'-') {
            return None;
        }
        match (&prefix[..2], bytes.get(55)) {
            (b"ff", _) => return None,
            (_, None) => {}
            (b"00", Some(_)) => return None,
            (_, Some(next)) if *next != b'-' => return None,
            (_, Some(_)) => {}
        }
        let [trace, span] = [&traceparent[3..35], &traceparent[36..52]];
        // A hyphen within a number is not a digit, so it is refused here.
        u8::from_str_radix(&traceparent[..2], 16).ok()?;
        let trace = TraceId::from(u128::from_str_radix(trace, 16).ok()?);
        let span = SpanId::from(u64::from_str_radix(span, 16).ok()?);
        let flags = u8::from_str_radix(&traceparent[53..55], 16).ok()?;
        Self::from_remote(trace, span, flags)
    }

    /// The trace as `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let context = &self.0.context;
        let flags = context.trace_flags().to_u8();
        format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
    }

    /// The stored form: the trace id (16 bytes), the span id (8) and the flags (1).
    #[must_use]
    pub fn bytes(&self) -> [u8; Self::LENGTH] {
        let context = &self.0.context;
        let mut bytes = [0; Self::LENGTH];
        bytes[..16].copy_from_slice(&context.trace_id().to_bytes());
        bytes[16..24].copy_from_slice(&context.span_id().to_bytes());
        bytes[24] = context.trace_flags().to_u8();
        bytes
    }

    /// A stored trace; `None` if the bytes are not a trace.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LENGTH] = bytes.try_into().ok()?;
        let trace = TraceId::from_bytes(*bytes.first_chunk()?);
        let span = SpanId::from_bytes(*bytes[16..].first_chunk()?);
        Self::from_remote(trace, span, bytes[24])
    }

    /// The trace id in 32 hexadecimal digits, for logs.
    #[must_use]
    pub fn id(&self) -> impl fmt::Display + use<> {
        self.0.context.trace_id()
    }

    /// The trace of the current request, if any.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Runs `work` in `trace`, if given.
    pub async fn scope<T>(trace: Option<Self>, work: impl Future<Output = T>) -> T {
        match trace {
            Some(trace) => CURRENT.scope(trace, work).await,
            None => work.await,
        }
    }

    pub(super) fn context(&self) -> &SpanContext {
        &self.0.context
    }

    /// The tracer of child spans, if the trace is sampled.
    pub(super) fn tracer(&self) -> Option<&SdkTracer> {
        self.0.tracer.as_ref().filter(|_| self.0.context.is_sampled())
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trace").field(&self.traceparent()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn traceparent_round_trips() {
        let trace = Trace::parse(GOOD).unwrap();
        assert_eq!(trace.traceparent(), GOOD);
        assert_eq!(trace.id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(Trace::from_bytes(&trace.bytes()).unwrap().traceparent(), GOOD);
        assert!(trace.tracer().is_none());
    }

    #[test]
    fn unknown_flags_and_later_fields_are_dropped() {
        let read = |text: &str| Trace::parse(text).map(|trace| trace.traceparent());
        let later = GOOD.replacen("00", "cc", 1);
        assert_eq!(read(&later).unwrap(), GOOD);
        assert_eq!(read(&format!("{later}-what-they.will")).unwrap(), GOOD);
        assert_eq!(read(&GOOD.replace("-01", "-ff")).unwrap(), GOOD);
        assert_eq!(read(&GOOD.replace("-01", "-02")).unwrap(), GOOD.replace("-01", "-00"));
    }

    #[test]
    fn malformed_traceparent_is_refused() {
        let zeros = |digits: usize| "0".repeat(digits);
        for text in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}0"),
            &format!("{GOOD}-"),
            &format!(" {GOOD}"),
            &format!("{GOOD} "),
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "0-", 1),
            &GOOD.replacen("00", "-0", 1),
            &GOOD.replacen("00-", "cc-", 1).replace("-01", "-01x"),
            &GOOD.replace("0af7", "0ag7"),
            &GOOD.replace("0af7", "+af7"),
            &GOOD.replace("0af7", "-af7"),
            &GOOD.replace("-01", "-0-"),
            &GOOD.replace("-01", "_01"),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &zeros(32)),
            &GOOD.replace("b7ad6b7169203331", &zeros(16)),
            &"é".repeat(28),
        ] {
            assert!(Trace::parse(text).is_none(), "{text:?}");
        }
        assert!(Trace::from_bytes(&[0; Trace::LENGTH]).is_none());
        assert!(Trace::from_bytes(&[1; Trace::LENGTH - 1]).is_none());
    }

    #[tokio::test]
    async fn task_sees_its_own_trace_only() {
        let current = async || Trace::current().map(|trace| trace.traceparent());
        assert_eq!(current().await, None);
        assert_eq!(Trace::scope(Trace::parse(GOOD), current()).await.unwrap(), GOOD);
        assert_eq!(Trace::scope(None, current()).await, None);
    }
}
