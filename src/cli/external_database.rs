//! An external database: the servers of its URL, and the wait for a primary among them.

use std::str::FromStr as _;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::postgres::PgConnectOptions;
use tokio::time::Instant;

use super::misconfigured::Misconfigured;
use super::service_manager;
use crate::config::{DatabaseConfig, DatabaseUrl, PoolerMode};
use crate::repository::Pool;
use crate::repository::connections::pool::{self, DatabaseServers, PoolLimits};

/// The interval between two attempts to find a primary.
const WAIT_INTERVAL: Duration = Duration::from_millis(500);
/// The interval between two log lines of a server that waits for a primary.
const WAIT_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// A database of which no server takes writes, with the reason of each server.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {remedy}", remedy = Self::REMEDY)]
pub(super) struct NoPrimary(pub(super) String);

impl NoPrimary {
    pub(super) const REMEDY: &str = "promote a standby, or name the primary in database.url";

    /// The error for the innermost cause of `error`.
    pub(super) fn new(error: &(dyn std::error::Error + 'static)) -> Self {
        let reason = std::iter::successors(Some(error), |error| error.source()).last();
        Self(reason.unwrap_or(error).to_string())
    }
}

/// Repeats `open` while the database has no primary. The log and the service manager say so. An
/// attempt takes at most `limit`.
pub(super) async fn wait_for_primary<T>(
    limit: Duration,
    mut open: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut reported_at: Option<Instant> = None;
    loop {
        let error = match open().await {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        let Some(NoPrimary(reason)) = error.downcast_ref() else { return Err(error) };
        service_manager::waiting(reason, 2 * (WAIT_INTERVAL + limit));
        if reported_at.is_none_or(|at| at.elapsed() >= WAIT_REPORT_INTERVAL) {
            tracing::warn!(reason, "waiting for a database server that takes writes");
            reported_at = Some(Instant::now());
        }
        tokio::time::sleep(WAIT_INTERVAL).await;
    }
}

/// The host of a database, if the link to it may cross a network without TLS.
pub(super) fn plaintext_host(url: &DatabaseUrl) -> Option<String> {
    let options = parse(url).ok()?;
    options.iter().find_map(pool::plaintext_host).map(str::to_owned)
}

/// The same, if the certificate of the server is not checked.
pub(super) fn unverified_host(url: &DatabaseUrl) -> Option<String> {
    let options = parse(url).ok()?;
    options.iter().find_map(pool::unverified_host).map(str::to_owned)
}

/// A pool of the configured database. It connects on first use.
pub(super) fn configured_pool(
    database: &DatabaseConfig,
    url: &DatabaseUrl,
    limits: PoolLimits,
) -> anyhow::Result<Pool> {
    if database.pooler == PoolerMode::None {
        let servers = configured_servers("database.url", url, parse(url))?;
        return Ok(pool::connect(servers, limits));
    }
    let direct = database.direct_url.as_ref();
    let direct = direct.map(|url| configured_servers("database.direct_url", url, parse(url)));
    let pooled = url.expose_for_pooler().map_err(|error| {
        Misconfigured(format!("database.url: {error}, because of database.pooler"))
    })?;
    let options = pooled.urls.iter().map(|url| Ok(PgConnectOptions::from_str(url)?)).collect();
    let servers = configured_servers("database.url", url, options)?.behind_pooler(pooled.settings);
    Ok(pool::connect_pooled(&servers, direct.transpose()?, limits))
}

fn configured_servers(
    key: &str,
    url: &DatabaseUrl,
    options: anyhow::Result<Vec<PgConnectOptions>>,
) -> anyhow::Result<DatabaseServers> {
    let wrong = || Misconfigured(format!("{key}: {url} cannot be used"));
    let options = options.with_context(wrong)?;
    for options in &options {
        pool::check_tls_files(options).map_err(|error| {
            let text = Misconfigured(format!("{key}: {error}"));
            anyhow::Error::from(error.source).context(text)
        })?;
    }
    to_servers(url, options).with_context(wrong)
}

/// The servers of any database.
pub(super) fn servers(url: &DatabaseUrl) -> anyhow::Result<DatabaseServers> {
    parse(url)
        .and_then(|options| to_servers(url, options))
        .with_context(|| format!("{url} cannot be used"))
}

/// The options of each server.
fn parse(url: &DatabaseUrl) -> anyhow::Result<Vec<PgConnectOptions>> {
    url.expose().iter().map(|url| Ok(PgConnectOptions::from_str(url)?)).collect()
}

fn to_servers(
    url: &DatabaseUrl,
    options: Vec<PgConnectOptions>,
) -> anyhow::Result<DatabaseServers> {
    let mut options = options.into_iter();
    let first = options.next().context("the URL has no host")?;
    Ok(DatabaseServers::new(first, options.collect(), url.target(), url.connect_timeout()))
}
