//! Sends one callback: one request, no redirects, a response of limited size.

use std::error::Error as _;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Request, Response, StatusCode, Url};
use tokio::time::Instant;

use super::kept_connection::{ObserveConnects, observe, was_closed};
use super::{NetworkPolicy, parse_retry_after};
use crate::service::AppContext;
use crate::telemetry::Trace;
use crate::telemetry::cause_chain;
use crate::wire::{Message, callback_body, is_acknowledgement, sign};

/// The bytes of a response that are read. A longer response acknowledges nothing.
const MAX_RESPONSE_BYTES: usize = 4_096;
/// The characters of a response that are kept for operators.
const EXCERPT_CHARS: usize = 256;

/// The timeouts of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct CallbackTimeouts {
    /// The time until the connection is open, TLS included.
    pub connect: Duration,
    /// The time until the response is read.
    pub attempt: Duration,
}

/// Sends callbacks. Clones share their connections.
#[derive(Clone)]
pub struct CallbackSender {
    client: Client,
    /// Opens a new connection for each request.
    unpooled_client: Client,
    attempt_timeout: Duration,
    network_policy: Arc<NetworkPolicy>,
}

/// The outcome of one attempt.
#[derive(Clone, Debug)]
pub struct AttemptOutcome {
    /// The duration of the attempt.
    pub duration: Duration,
    /// The HTTP status, if there was a response.
    pub status: Option<u16>,
    /// The reason why the attempt failed; `None` if the receiver acknowledged the callback.
    pub error: Option<String>,
    /// The first characters of the response, without control characters.
    pub response_excerpt: Option<String>,
    /// The wait that the receiver requested.
    pub retry_after: Option<Duration>,
}

/// A callback to send.
#[derive(Clone, Copy)]
pub struct CallbackRequest<'a> {
    /// The app that receives it.
    pub context: &'a AppContext,
    /// Its content.
    pub message: &'a Message<'a>,
    /// The number of the attempt, sent as a header.
    pub attempt: i32,
    /// The trace of the attempt, sent as a header.
    pub trace: Option<&'a Trace>,
    /// The time of the attempt.
    pub now: DateTime<Utc>,
}

impl CallbackSender {
    /// A sender that reaches the addresses that `network_policy` permits. If the machine has no CA
    /// certificates, the sender reaches no `https` receiver and logs a warning.
    ///
    /// # Errors
    /// If the HTTP client cannot be created.
    pub fn new(
        network_policy: NetworkPolicy,
        timeouts: CallbackTimeouts,
    ) -> Result<Self, reqwest::Error> {
        let network_policy = Arc::new(network_policy);
        let build = |max_idle_connections, has_certificates| {
            let builder = Client::builder()
                .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
                // One receiver looks for exactly `Content-Length`.
                .http1_title_case_headers()
                .redirect(Policy::none())
                // A proxy could connect to addresses that the policy denies.
                .no_proxy()
                .connect_timeout(timeouts.connect)
                .timeout(timeouts.attempt)
                .dns_resolver(FilteringResolver(network_policy.clone()))
                .pool_max_idle_per_host(max_idle_connections)
                .connector_layer(ObserveConnects);
            if has_certificates { builder.build() } else { builder.tls_certs_only([]).build() }
        };
        let (client, has_certificates) = match build(usize::MAX, true) {
            Ok(client) => (client, true),
            Err(error) => {
                tracing::warn!(
                    error = %cause_chain(&error),
                    "callbacks to https URLs will fail: install this system's CA certificates"
                );
                (build(usize::MAX, false)?, false)
            }
        };
        let unpooled_client = build(0, has_certificates)?;
        let attempt_timeout = timeouts.attempt;
        Ok(Self { client, unpooled_client, attempt_timeout, network_policy })
    }

    /// Seals the message of a callback for its app, signs it and sends it.
    pub async fn send(&self, callback: &CallbackRequest<'_>) -> AttemptOutcome {
        let started_at = Instant::now();
        let result = self.request(callback).await;
        let mut outcome = match result {
            Ok(response) => {
                read_response(response, callback.message.package_id, callback.now).await
            }
            Err(error) => AttemptOutcome::from_error(error),
        };
        outcome.duration = started_at.elapsed();
        outcome
    }

    /// Sends the request, and a second one on a new connection if the receiver was closing the kept
    /// connection. Both together take no longer than one attempt may.
    async fn request(&self, callback: &CallbackRequest<'_>) -> Result<Response, String> {
        let started_at = Instant::now();
        let request = self.prepare(callback)?;
        let (result, was_kept) = observe(self.client.execute(request)).await;
        if !was_kept || !was_closed(&result) {
            return result.map_err(describe);
        }
        tracing::debug!(
            delivery = callback.message.package_id,
            "the receiver was closing the connection; sending again on a new one"
        );
        // Signed anew: a receiver may refuse a nonce that it has seen.
        let mut request = self.prepare(callback)?;
        let remaining = self.attempt_timeout.saturating_sub(started_at.elapsed());
        *request.timeout_mut() = Some(remaining);
        self.unpooled_client.execute(request).await.map_err(describe)
    }

    fn prepare(&self, callback: &CallbackRequest<'_>) -> Result<Request, String> {
        let CallbackRequest { context, message, attempt, trace, now } = *callback;
        let receiver = context.app.callback.as_ref().ok_or("the app has no callback URL")?;
        let mut url =
            Url::parse(&receiver.url).map_err(|error| format!("callback URL: {error}"))?;
        // An address in the URL itself does not pass the resolver.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        if let Ok(address) = host.parse::<IpAddr>() {
            self.network_policy.check(address).map_err(|denied| denied.to_string())?;
        }
        let envelope = context.callback_envelope(attempt, now);
        let encrypt = envelope.seal_outgoing(message.to_json().as_bytes());
        let timestamp = now.timestamp().to_string();
        let nonce = format!("{:016x}", rand::random::<u64>());
        let signature = sign(&receiver.token, &timestamp, &nonce, &encrypt);
        url.query_pairs_mut()
            .append_pair("msg_signature", &signature)
            .append_pair("timestamp", &timestamp)
            .append_pair("nonce", &nonce);
        let body = callback_body(context.app.buin.get(), context.app.app_id.as_str(), &encrypt);
        let mut request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("X-Muster-Delivery", message.package_id)
            .header("X-Muster-Attempt", attempt)
            .header("X-Muster-Version", message.version)
            .body(body);
        if let Some(trace) = trace {
            request = request.header("traceparent", trace.traceparent());
        }
        request.build().map_err(describe)
    }
}

async fn read_response(
    mut response: Response,
    package_id: &str,
    now: DateTime<Utc>,
) -> AttemptOutcome {
    let status = response.status();
    let retry_after = retry_after(response.headers(), now);
    let mut body = Vec::new();
    let mut read_error = None;
    while body.len() <= MAX_RESPONSE_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => {
                read_error = Some(describe(error));
                break;
            }
        }
    }
    let error = match (status, read_error) {
        (_, Some(error)) => Some(error),
        (StatusCode::OK, None) if body.len() > MAX_RESPONSE_BYTES => {
            Some(format!("the response is longer than {MAX_RESPONSE_BYTES} bytes"))
        }
        (StatusCode::OK, None) if is_acknowledgement(&body, package_id) => None,
        (StatusCode::OK, None) => Some(
            "the response is neither `ok`, nor the packageId, nor JSON with errcode 0".to_owned(),
        ),
        (status, None) if status.is_redirection() => {
            Some(format!("HTTP status {} (redirects are not followed)", status.as_u16()))
        }
        (status, None) => Some(format!("HTTP status {}", status.as_u16())),
    };
    body.truncate(MAX_RESPONSE_BYTES);
    let text = String::from_utf8_lossy(&body);
    let excerpt = text.chars().filter(|c| !c.is_control()).take(EXCERPT_CHARS).collect();
    AttemptOutcome {
        duration: Duration::ZERO,
        status: Some(status.as_u16()),
        error,
        response_excerpt: Some(excerpt),
        retry_after,
    }
}

impl AttemptOutcome {
    fn from_error(error: String) -> Self {
        Self {
            duration: Duration::ZERO,
            status: None,
            error: Some(error),
            response_excerpt: None,
            retry_after: None,
        }
    }
}

/// An error with its causes on one line, without the URL, which holds a signature.
fn describe(error: reqwest::Error) -> String {
    let kind = if error.is_timeout() {
        "timed out"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "failed"
    };
    let error = error.without_url();
    let mut text = kind.to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing into a string does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// The wait that the receiver requests, if its header is valid.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    parse_retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// Resolves names to their permitted addresses.
struct FilteringResolver(Arc<NetworkPolicy>);

impl Resolve for FilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let network_policy = self.0.clone();
        Box::pin(async move {
            let resolved: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let permitted: Vec<SocketAddr> = resolved
                .iter()
                .copied()
                .filter(|address| network_policy.check(address.ip()).is_ok())
                .collect();
            if permitted.is_empty()
                && let Some(address) = resolved.first()
            {
                network_policy.check(address.ip())?;
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}
