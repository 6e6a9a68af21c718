//! `[tracing]`: the share of traced requests, and the collector.

use super::read::Reader;

/// `[tracing]`: traces for OpenTelemetry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingConfig {
    /// The collector of the spans; `None` = no spans.
    pub otlp_endpoint: Option<OtlpEndpoint>,
    /// One in this many requests without a trace starts a trace; at least 1.
    pub sample_one_in: u32,
}

/// The URL of a collector that speaks OTLP over HTTP. It has no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint(String);

impl TracingConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            otlp_endpoint: reader.optional_url(
                "tracing.otlp_endpoint",
                "expected http://HOST:PORT or https://HOST:PORT of an OTLP collector, without user \
                 or query, or nothing",
                OtlpEndpoint::parse,
            ),
            sample_one_in: reader.number("tracing.sample_one_in", 1..=1_000_000),
        }
    }
}

impl OtlpEndpoint {
    /// Parses the base URL of a collector, without query and user.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = reqwest::Url::parse(text).ok()?;
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        (is_plain && matches!(url.scheme(), "http" | "https"))
            .then(|| Self(text.trim_end_matches('/').to_owned()))
    }

    /// The URL for traces.
    #[must_use]
    pub fn traces(&self) -> String {
        format!("{}/v1/traces", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_path_is_appended_to_the_base_url() {
        for (base, traces) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://otlp.example/tenant/", "https://otlp.example/tenant/v1/traces"),
        ] {
            assert_eq!(OtlpEndpoint::parse(base).unwrap().traces(), traces);
        }
        for text in ["", "127.0.0.1:4318", "grpc://h:4317", "http://u:p@h", "http://h/?key=k"] {
            assert_eq!(OtlpEndpoint::parse(text), None, "{text}");
        }
    }
}
