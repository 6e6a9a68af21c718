//! The listening sockets that a service manager passes (`LISTEN_FDS`), as systemd does for a socket
//! unit. The manager keeps them open, so a restart of the service refuses no connection.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use listenfd::ListenFd;

use super::misconfigured::Misconfigured;

/// The sockets in the order of the socket unit: the API, then the metrics.
pub(super) struct PassedSockets {
    pub(super) api: Option<TcpListener>,
    pub(super) metrics: Option<TcpListener>,
}

impl PassedSockets {
    /// Takes the sockets of this process. Without `LISTEN_FDS`, or if `LISTEN_PID` is another process,
    /// no socket was passed.
    ///
    /// # Errors
    /// A passed file is not a TCP socket, or there are more than two.
    pub(super) fn from_env() -> anyhow::Result<Self> {
        let mut passed = ListenFd::from_env();
        if passed.len() > 2 {
            let message = format!(
                "LISTEN_FDS: at most 2 sockets, for the API and the metrics, got {}: remove \
                 ListenStream= lines of the socket unit",
                passed.len()
            );
            return Err(Misconfigured(message).into());
        }
        Ok(Self { api: socket(&mut passed, 0)?, metrics: socket(&mut passed, 1)? })
    }
}

fn socket(passed: &mut ListenFd, index: usize) -> anyhow::Result<Option<TcpListener>> {
    passed.take_tcp_listener(index).with_context(|| {
        Misconfigured(format!(
            "LISTEN_FDS: socket {} of the service manager is not a TCP socket: use ListenStream= with \
             an address and a port",
            index + 1
        ))
    })
}

/// Warns if a passed socket has another port than `bind`, the value of `key`.
pub(super) fn warn_of_other_port(address: SocketAddr, key: &str, bind: &str) {
    if !bind.ends_with(&format!(":{}", address.port())) {
        tracing::warn!(
            "{key} is {bind}, but the service manager passed a socket on {address}, which is used; set \
             {key} to this address, because `muster health` and `muster doctor` ask there"
        );
    }
}
