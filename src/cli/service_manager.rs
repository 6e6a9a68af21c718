//! What systemd, or whatever else started this and set `NOTIFY_SOCKET`, is told, and its SIGHUP. Without
//! that variable nobody is told.

use std::io::{self, IsTerminal as _};

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

/// SIGHUP asks to look at the certificate. Where there is none it must not end the process, as it does to
/// one that never listened; but where a terminal was closed, it should.
pub(super) fn survive_hangups() -> io::Result<()> {
    if !io::stdin().is_terminal() {
        // Whoever has listened once is not ended by it any more.
        drop(signal(SignalKind::hangup())?);
    }
    Ok(())
}

/// Requests are taken: what was ordered after this service may start.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It ends of its own accord or on a signal.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, "the supervisor cannot be notified (NOTIFY_SOCKET)");
    }
}
