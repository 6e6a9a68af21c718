//! `muster health`, and the probes of a running server that other commands use.

use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use super::output;
use crate::config::{ServerConfig, Settings};
use crate::http::FINGERPRINT_HEADER;

/// The time limit of a probe. `/readyz` itself waits one second for the database.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The response of `/healthz`.
#[derive(Deserialize)]
pub(super) struct Health {
    service: String,
    pub(super) version: String,
    /// The fingerprint of the server, from a header.
    #[serde(skip)]
    pub(super) fingerprint: Option<String>,
}

/// The common part of the responses of `/healthz` and `/readyz`.
#[derive(Deserialize)]
struct Status {
    status: String,
    reason: Option<String>,
}

/// Prints the status of the server of this configuration.
///
/// # Errors
/// The server is not ready, or does not answer.
pub(super) async fn run(settings: &Settings, live: bool) -> anyhow::Result<()> {
    let Settings { server, metrics, .. } = settings;
    anyhow::ensure!(
        !server.bind.ends_with(":0"),
        "server.bind is {}: with port 0 only the log of the server shows its port",
        server.bind
    );
    let path = if live { "/healthz" } else { "/readyz" };
    let url = format!("{}{path}", url(server));
    let no_answer = || format!("no Muster answers at {url}");
    let mut response = client()?.get(&url).send().await;
    // All connections of the API may be in use. The metrics have connections of their own.
    if let Some(bind) = metrics.bind.as_ref().filter(|bind| !bind.ends_with(":0"))
        && response.as_ref().is_err_and(reqwest::Error::is_timeout)
    {
        response = client()?.get(format!("{}{path}", metrics_url(bind))).send().await;
    }
    let response = response.with_context(no_answer)?;
    let is_success = response.status().is_success();
    let Status { status, reason } = response.json().await.with_context(no_answer)?;
    anyhow::ensure!(is_success, "{status}: {}", reason.as_deref().unwrap_or("no reason given"));
    output::text(&status)?;
    Ok(())
}

/// The Muster at `url`, if one answers.
pub(super) async fn find_running(url: &str) -> Option<Health> {
    let response = client().ok()?.get(format!("{url}/healthz")).send().await.ok()?;
    let fingerprint = response.headers().get(FINGERPRINT_HEADER);
    let fingerprint = fingerprint.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let health: Health = response.json().await.ok()?;
    (health.service == "muster").then_some(Health { fingerprint, ..health })
}

/// Whether a running Muster serves its metrics at `bind`.
pub(super) async fn serves_metrics(bind: &str) -> bool {
    let fetch = async || {
        let response = client()?.get(format!("{}/metrics", metrics_url(bind))).send().await?;
        response.text().await
    };
    fetch().await.is_ok_and(|text| text.contains("muster_build_info"))
}

/// A client that ignores proxies and does not verify the certificate, because the certificate names
/// the public host, not this address. This is safe: the request has no secret, and the response
/// permits nothing.
fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().danger_accept_invalid_certs(true).timeout(TIMEOUT).build()
}

/// The URL of the server on this machine.
pub(super) fn url(server: &ServerConfig) -> String {
    format!("{}://{}", server.scheme(), loopback_address(&server.bind))
}

/// The URL of the metrics on this machine.
pub(super) fn metrics_url(bind: &str) -> String {
    format!("http://{}", loopback_address(bind))
}

fn loopback_address(bind: &str) -> String {
    bind.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
}
