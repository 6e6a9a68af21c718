//! Who may come in, for how long, and in which cloak: connections, whatever is asked on them.

mod reading;
mod slow;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::harness::{TestApp, spawn_app_with};

/// How long the servers of these tests wait.
const BRIEF: Duration = Duration::from_millis(500);
/// By when a connection must be closed on which nobody waits longer than [`BRIEF`]: with room for
/// the second that it stays open behind an early answer, and for a busy machine.
const SOON: Duration = Duration::from_secs(6);
/// Between two bytes of a slow sender.
const DRIP: Duration = Duration::from_millis(50);

/// A server that waits for no part of a request for long.
async fn impatient() -> TestApp {
    spawn_app_with(|settings| {
        settings.server.head_timeout = BRIEF;
        settings.server.body_timeout = BRIEF;
    })
    .await
}

/// Reads until the server closes, and gives what came until then.
async fn closed_soon(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    // However it closes: with bytes unread it resets.
    let reading = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
    assert!(reading.is_ok(), "still open, after {}", String::from_utf8_lossy(&rest));
    rest
}

/// Sends `bytes` one at a time, and the last one for ever, until the other side closes.
async fn drip(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    let mut interval = tokio::time::interval(DRIP);
    let last = bytes.last().copied().unwrap_or(b'x');
    for byte in bytes.iter().copied().chain(std::iter::repeat(last)) {
        interval.tick().await;
        if stream.write_all(&[byte]).await.is_err() {
            return;
        }
    }
}

/// How long `what` takes.
async fn timed<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let done = what.await;
    (done, began.elapsed())
}
