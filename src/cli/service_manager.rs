//! Notifications to the service manager, such as systemd, and its SIGHUP. Without the variable
//! `NOTIFY_SOCKET` no notification is sent.

use std::io::{self, IsTerminal as _};

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

/// Keeps SIGHUP from ending the process, because a service manager sends it to reload the
/// certificate. In a terminal SIGHUP keeps its meaning: the terminal was closed, so the process
/// ends.
pub(super) fn survive_hangups() -> io::Result<()> {
    if !io::stdin().is_terminal() {
        // The handler stays installed after the listener is dropped.
        drop(signal(SignalKind::hangup())?);
    }
    Ok(())
}

/// Reports that requests are accepted, so that dependent services may start.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Reports that the service stops.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, "the supervisor cannot be notified (NOTIFY_SOCKET)");
    }
}
