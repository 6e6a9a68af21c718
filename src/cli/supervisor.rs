//! What systemd, or whatever else started this and set `NOTIFY_SOCKET`, is told. Without that variable
//! nobody is.

use sd_notify::NotifyState;

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
        tracing::warn!(error, "the supervisor cannot be told (NOTIFY_SOCKET)");
    }
}
