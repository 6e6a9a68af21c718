//! `muster health`, and who else asks a running Muster how it is.

use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use super::output;
use crate::config::Server;

/// By when an answer must have come. `/readyz` waits a second for the database.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a running Muster says of itself at `/healthz`.
#[derive(Deserialize)]
pub(super) struct Health {
    service: String,
    pub(super) version: String,
}

/// What `/healthz` and `/readyz` say, well or not.
#[derive(Deserialize)]
struct Status {
    status: String,
    reason: Option<String>,
}

/// Prints how the server of this configuration is.
///
/// # Errors
/// When it is not well, or none answers.
pub(super) async fn run(server: &Server, live: bool) -> anyhow::Result<()> {
    anyhow::ensure!(
        !server.bind.ends_with(":0"),
        "server.bind is {}: with port 0 only the log of the server shows its port",
        server.bind
    );
    let url = format!("{}{}", url(server), if live { "/healthz" } else { "/readyz" });
    let nobody = || format!("no Muster answers at {url}");
    let response = client()?.get(&url).send().await.with_context(nobody)?;
    let well = response.status().is_success();
    let Status { status, reason } = response.json().await.with_context(nobody)?;
    anyhow::ensure!(well, "{status}: {}", reason.as_deref().unwrap_or("no reason given"));
    output::text(&status);
    Ok(())
}

/// The Muster that runs at `url`, if one does.
pub(super) async fn running_at(url: &str) -> Option<Health> {
    let url = format!("{url}/healthz");
    let health: Health = client().ok()?.get(url).send().await.ok()?.json().await.ok()?;
    (health.service == "muster").then_some(health)
}

/// Whether a running Muster tells its metrics at `bind`.
pub(super) async fn tells_metrics(bind: &str) -> bool {
    let ask = async || {
        let response = client()?.get(format!("http://{}/metrics", here(bind))).send().await?;
        response.text().await
    };
    ask().await.is_ok_and(|told| told.contains("muster_build_info"))
}

/// Straight to it, whatever proxy the environment names. Its certificate is for the name that others
/// know it by, not for this address; it gets no secret, and what it says opens nothing.
fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .danger_accept_invalid_certs(true)
        .timeout(PATIENCE)
        .build()
}

/// Where this machine reaches what listens there.
pub(super) fn url(server: &Server) -> String {
    format!("{}://{}", server.scheme(), here(&server.bind))
}

fn here(bind: &str) -> String {
    bind.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
}
