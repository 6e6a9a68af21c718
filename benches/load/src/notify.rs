//! The reference for the latency of streams: `NOTIFY` in a transaction of its own, and one listener.
//!
//! The time begins in the statement, by the clock of the database, as for changes. The commit follows.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use muster::clock::Clock;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::environment::Environment;
use crate::generator::float;
use crate::latency::Latencies;
use crate::rows::CLIENTS;
use crate::usage::{Usage, UsageMeter};

/// The largest payload that PostgreSQL takes is a little longer.
const MAX_PAYLOAD: usize = 7_900;
/// The time without a notification after which there are no more.
const SILENCE: Duration = Duration::from_millis(500);

/// Sends as many notifications of the length of `payload` as `rate` demands, or as are possible. Returns
/// their rate and the latencies.
///
/// # Errors
/// If the database fails.
pub fn measure(
    env: &Environment,
    payload: &[u8],
    rate: f64,
) -> anyhow::Result<(f64, Latencies, Usage)> {
    let socket = env.work.join("data/postgres");
    let filler = "x".repeat(payload.len().min(MAX_PAYLOAD));
    let meter = UsageMeter::start(None, env.database.process);
    let is_over = AtomicBool::new(false);
    let (sent, latencies) = std::thread::scope(|scope| {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let listening = scope.spawn(|| runtime()?.block_on(listen(&socket, &is_over, ready)));
        let sent = is_ready
            .recv()
            .context("no listener")
            .and_then(|()| runtime()?.block_on(send(&socket, &filler, rate, env.time)));
        is_over.store(true, Ordering::Relaxed);
        let latencies = listening.join().map_err(|_| anyhow::anyhow!("the listener panicked"))?;
        let latencies = latencies?;
        anyhow::Ok((sent?, latencies))
    })?;
    let sent_rate = float(sent) / env.time.as_secs_f64();
    anyhow::ensure!(latencies.len() as u64 == sent, "{} of {sent} notifications", latencies.len());
    Ok((sent_rate, latencies, meter.stop()))
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn options(socket: &Path) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass().socket(socket);
    options.username("postgres").database("muster")
}

/// Sends notifications on as many connections as pgbench has. Returns their number.
async fn send(socket: &Path, filler: &str, rate: f64, time: Duration) -> anyhow::Result<u64> {
    let interval = Duration::from_secs_f64(float(CLIENTS) / rate);
    let options = options(socket);
    let connecting = (0..CLIENTS).map(|_| PgConnection::connect_with(&options));
    let connections = try_join_all(connecting).await?;
    let end = Instant::now() + time;
    let clients = connections.into_iter().map(|mut connection| async move {
        let (mut next_at, mut sent) = (Instant::now(), 0_u64);
        while Instant::now() < end {
            tokio::time::sleep_until(next_at.into()).await;
            next_at += interval;
            // The time replaces the beginning of the payload.
            let notify = sqlx::query(
                "select pg_notify('bench', overlay($1::text placing \
                 lpad((extract(epoch from clock_timestamp()) * 1e6)::bigint::text, 20, '0') from 1))",
            );
            notify.bind(filler).execute(&mut connection).await?;
            sent += 1;
        }
        anyhow::Ok(sent)
    });
    Ok(try_join_all(clients).await?.into_iter().sum())
}

async fn listen(
    socket: &Path,
    is_over: &AtomicBool,
    ready: std::sync::mpsc::Sender<()>,
) -> anyhow::Result<Latencies> {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options(socket)).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen("bench").await?;
    ready.send(())?;
    let mut latencies = Latencies::default();
    loop {
        match timeout(SILENCE, listener.recv()).await {
            Ok(notification) => {
                let now = Clock::system().now();
                let notification = notification?;
                let sent_at = notification.payload().get(..20).and_then(|time| time.parse().ok());
                let sent_at = sent_at.and_then(DateTime::<Utc>::from_timestamp_micros);
                let sent_at = sent_at.context("no time in a notification")?;
                latencies.push((now - sent_at).to_std().unwrap_or_default());
            }
            Err(_) if is_over.load(Ordering::Relaxed) => return Ok(latencies),
            Err(_) => {}
        }
    }
}
