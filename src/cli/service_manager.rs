//! Notifications to the service manager, such as systemd, and its SIGHUP. Without the variable
//! `NOTIFY_SOCKET` no notification is sent.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use crate::telemetry::cause_chain;
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

/// Reports that the start waits for `reason`, and takes up to `extension` longer.
pub(super) fn waiting(reason: &str, extension: Duration) {
    let extension = u32::try_from(extension.as_micros()).unwrap_or(u32::MAX);
    let status = format!("waiting: {reason}");
    notify(&[NotifyState::Status(&status), NotifyState::ExtendTimeoutUsec(extension)]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        let error = cause_chain(&error);
        tracing::warn!(%error, "the supervisor cannot be notified (NOTIFY_SOCKET)");
    }
}
