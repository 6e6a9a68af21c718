//! The reference for callbacks: reqwest in a loop. It sends the bytes of earlier callbacks of
//! Muster, as many concurrently. It uses no database, seals nothing and records nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use reqwest::Client;

use crate::generator::float;
use crate::receiver::Callback;

/// Headers that reqwest writes itself.
const CLIENT_HEADERS: [&str; 2] = ["host", "content-length"];

/// Sends `callbacks` repeatedly for `time`, `concurrency` at the same time. Returns the
/// acknowledged callbacks per second.
///
/// # Errors
/// If a callback is not acknowledged.
pub fn post(
    port: u16,
    callbacks: &[Callback],
    concurrency: usize,
    time: Duration,
) -> anyhow::Result<f64> {
    ensure!(!callbacks.is_empty(), "no earlier callback to send again");
    // It fails if a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Sequential requests gain nothing from other threads, which would have to be woken.
    let mut runtime = match concurrency {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build()?;
    let client = Client::builder().no_proxy().tls_certs_only([]).build()?;
    let sent = AtomicU64::new(0);
    let next = AtomicU64::new(0);
    let send_until_end = async || {
        let started_at = Instant::now();
        while started_at.elapsed() < time {
            let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed))?;
            let callback = &callbacks[index % callbacks.len()];
            let mut request = client.post(format!("http://127.0.0.1:{port}{}", callback.uri));
            for (name, value) in &callback.headers {
                if !CLIENT_HEADERS.contains(&name.as_str()) {
                    request = request.header(name, value);
                }
            }
            let response = request.body(callback.body.clone()).send().await?;
            ensure!(response.status().is_success(), "not acknowledged: {}", response.status());
            let body = response.bytes().await.context("no answer")?;
            ensure!(body.eq_ignore_ascii_case(b"ok"), "not acknowledged");
            sent.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    };
    runtime.block_on(try_join_all((0..concurrency).map(|_| send_until_end())))?;
    Ok(float(sent.load(Ordering::Relaxed)) / time.as_secs_f64())
}
