//! The two text formats that Prometheus reads.
//!
//! The official client writes OpenMetrics. The older format names the family of a counter
//! differently and has no end mark. Clients that do not ask for OpenMetrics get the older format.

use std::borrow::Cow;
use std::fmt::{self, Debug};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Histogram;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's own, 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format for a client that accepts `accept`.
    #[must_use]
    pub fn from_accept(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The media type of the format.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The labels of one series.
pub(super) type Labels<'a> = [(&'static str, Cow<'a, str>)];

/// A page of metrics that is written one family after the other.
pub(super) struct MetricsWriter<'a>(DescriptorEncoder<'a>);

/// A source of the families of a page.
pub(super) trait WriteMetrics: Send + Sync + 'static {
    fn write(&self, page: &mut MetricsWriter<'_>) -> fmt::Result;
}

/// The text of a page.
pub(super) fn text(source: impl WriteMetrics, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(CollectorAdapter(source)));
    let mut text = String::with_capacity(32_768);
    encode(&mut text, &registry)?;
    Ok(match format {
        Format::OpenMetrics => text,
        Format::Prometheus => to_prometheus_text(&text),
    })
}

struct CollectorAdapter<W>(W);

impl<W> Debug for CollectorAdapter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CollectorAdapter")
    }
}

impl<W: WriteMetrics> Collector for CollectorAdapter<W> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.write(&mut MetricsWriter(encoder))
    }
}

impl MetricsWriter<'_> {
    /// A counter. The name goes without `_total`.
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeCounterValue + Copy,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        count(&mut family, &value)
    }

    /// Counters that differ in their labels. The name goes without `_total`.
    pub(super) fn counters<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'static str, Cow<'a, str>); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            let labels: &Labels<'_> = &labels;
            count(&mut family.encode_family(&labels)?, &value)?;
        }
        Ok(())
    }

    /// A number that rises and falls.
    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        family.encode_gauge(&value)
    }

    /// A number that rises and falls, if it is known.
    pub(super) fn gauge_if_known(
        &mut self,
        name: &str,
        help: &str,
        value: Option<impl EncodeGaugeValue + Copy>,
    ) -> fmt::Result {
        value.map_or(Ok(()), |value| self.gauge(name, help, value))
    }

    /// Numbers that rise and fall, and differ in their labels.
    pub(super) fn gauges<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'static str, Cow<'a, str>); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            let labels: &Labels<'_> = &labels;
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A distribution.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        histogram: &Histogram,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        distribution(&mut family, histogram)
    }

    /// Distributions that differ in their labels.
    pub(super) fn histograms<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'static str, Cow<'a, str>); N], &'a Histogram)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in series {
            let labels: &Labels<'_> = &labels;
            distribution(&mut family.encode_family(&labels)?, histogram)?;
        }
        Ok(())
    }
}

fn count(family: &mut MetricEncoder<'_>, value: &impl EncodeCounterValue) -> fmt::Result {
    family.encode_counter::<NoLabelSet, _, f64>(value, None)
}

fn distribution(family: &mut MetricEncoder<'_>, histogram: &Histogram) -> fmt::Result {
    let snapshot = histogram.snapshot();
    family.encode_histogram::<NoLabelSet>(snapshot.sum, snapshot.count, &snapshot.buckets, None)
}

/// The older format: the family of a counter has the name of its series.
fn to_prometheus_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" {
            continue;
        }
        let type_line = lines.peek().unwrap_or(&line);
        let counter_name = [line, type_line].iter().find_map(|line| {
            line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter"))
        });
        match counter_name {
            Some(name) if line.starts_with("# ") => {
                out.push_str(&line.replacen(name, &format!("{name}_total"), 1));
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sample;

    impl WriteMetrics for Sample {
        fn write(&self, page: &mut MetricsWriter<'_>) -> fmt::Result {
            page.counter("a_requests", "Requests.", 3_u64)?;
            let label = |text: &'static str| [("code", Cow::Borrowed(text))];
            page.counters("b_errors", "Errors.", [(label("x\"y"), 1), (label("z"), 2)])?;
            page.gauge("c_bytes", "Bytes.", 1.5)?;
            page.gauge_if_known("d_bytes", "Bytes.", None::<u64>)?;
            page.gauges("e_bytes", "Bytes.", [(label("z"), 2)])
        }
    }

    #[test]
    fn both_formats_are_valid() {
        let rendered = text(Sample, Format::OpenMetrics).unwrap();
        assert_eq!(
            rendered,
            "# HELP a_requests Requests.\n# TYPE a_requests counter\na_requests_total 3\n\
             # HELP b_errors Errors.\n# TYPE b_errors counter\n\
             b_errors_total{code=\"x\\\"y\"} 1\nb_errors_total{code=\"z\"} 2\n\
             # HELP c_bytes Bytes.\n# TYPE c_bytes gauge\nc_bytes 1.5\n\
             # HELP e_bytes Bytes.\n# TYPE e_bytes gauge\ne_bytes{code=\"z\"} 2\n# EOF\n"
        );
        let rendered = text(Sample, Format::Prometheus).unwrap();
        assert_eq!(
            rendered,
            "# HELP a_requests_total Requests.\n# TYPE a_requests_total counter\n\
             a_requests_total 3\n\
             # HELP b_errors_total Errors.\n# TYPE b_errors_total counter\n\
             b_errors_total{code=\"x\\\"y\"} 1\nb_errors_total{code=\"z\"} 2\n\
             # HELP c_bytes Bytes.\n# TYPE c_bytes gauge\nc_bytes 1.5\n\
             # HELP e_bytes Bytes.\n# TYPE e_bytes gauge\ne_bytes{code=\"z\"} 2\n"
        );
    }

    #[test]
    fn accept_header_selects_openmetrics() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1";
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain;version=0.0.4", Format::Prometheus),
            (prometheus, Format::OpenMetrics),
        ] {
            assert_eq!(Format::from_accept(accept), format, "{accept}");
        }
    }
}
