//! The addresses and the certificate of a server. They are opened before anything else starts, so
//! that a wrong configuration fails the start at once.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::certificate::Certificate;
use super::misconfigured::Misconfigured;
use super::passed_sockets::{PassedSockets, warn_of_other_port};
use crate::config::Settings;
use crate::http::{Listener, MetricsListener};

/// The bound addresses, and the certificate of the API.
pub struct Listeners {
    pub(super) api: Listener,
    pub(super) metrics: Option<MetricsListener>,
    pub(super) certificate: Option<Certificate>,
}

impl Listeners {
    /// Reads the certificate, if one is configured, and binds the addresses, except those of sockets that
    /// the service manager passes.
    ///
    /// # Errors
    /// The certificate cannot be used, or an address cannot be bound. The error names the remedy.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        let certificate = settings.server.tls.as_ref().map(Certificate::open).transpose()?;
        let bind = &settings.server.bind;
        let passed = PassedSockets::from_env()?;
        let is_passed = passed.api.is_some();
        let api = match passed.api {
            Some(socket) => Listener::from_shared(socket),
            None => Listener::bind(bind),
        };
        let api = api.map_err(|error| cannot_listen(error, "server.bind", bind))?;
        // A name such as `localhost` can stand for any address.
        let address = api.address()?;
        let is_plain = settings.server.require_tls && settings.server.tls.is_none();
        anyhow::ensure!(
            !is_plain || address.ip().to_canonical().is_loopback(),
            "cannot listen on {bind}: server.require_tls is true, and {address} is not on loopback; set \
             server.tls_cert and server.tls_key"
        );
        if is_passed {
            warn_of_other_port(address, "server.bind", bind);
        }
        let metrics = settings.metrics.bind.as_deref();
        let metrics = metrics.map(|bind| open_metrics(bind, passed.metrics)).transpose()?;
        Ok(Self { api, metrics, certificate })
    }

    /// The bound addresses.
    pub(super) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let metrics = self.metrics.as_ref().map(MetricsListener::address);
        [Some(self.api.address()), metrics].into_iter().flatten().collect()
    }
}

fn open_metrics(bind: &str, passed: Option<TcpListener>) -> anyhow::Result<MetricsListener> {
    let is_passed = passed.is_some();
    let listener = match passed {
        Some(socket) => MetricsListener::from_shared(socket),
        None => MetricsListener::bind(bind),
    };
    let listener = listener.map_err(|error| cannot_listen(error, "metrics.bind", bind))?;
    if is_passed {
        warn_of_other_port(listener.address()?, "metrics.bind", bind);
    }
    Ok(listener)
}

/// Adds the remedy to a failed bind. `key` is the configuration key whose value is `bind`. Unless
/// another program uses the address, the value is wrong for this machine.
fn cannot_listen(error: io::Error, key: &str, bind: &str) -> anyhow::Error {
    let is_in_use = error.kind() == io::ErrorKind::AddrInUse;
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program listens there, perhaps a Muster that already runs (check with `muster \
             doctor`); stop it, or set {key} to another port"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need root; set {key} to another port")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address; set {key}")
        }
        _ => format!("set {key} to an address and port of this machine"),
    };
    let message = format!("cannot listen on {bind}: {remedy}");
    let error = anyhow::Error::from(error);
    if is_in_use { error.context(message) } else { error.context(Misconfigured(message)) }
}
