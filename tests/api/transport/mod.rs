//! Connections, before any request: TLS, HTTP versions, limits and timeouts.

mod connection_limits;
mod connection_metrics;
mod draining;
mod expect_continue;
mod framing;
mod http2;
mod line_endings;
pub mod slow_readers;
mod slow_senders;
mod tls;

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use muster::config::{Settings, TlsFiles};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::process::WAIT_TIMEOUT;
use crate::harness::{TestApp, spawn_app_with};

/// The timeouts of the servers in these tests.
const SHORT_TIMEOUT: Duration = Duration::from_millis(500);
/// The interval between two bytes of a slow sender.
const SLOW_SEND_INTERVAL: Duration = Duration::from_millis(50);

/// A server with short timeouts for all parts of a request.
async fn spawn_with_short_timeouts() -> TestApp {
    spawn_app_with(|settings| {
        settings.server.header_timeout = SHORT_TIMEOUT;
        settings.server.body_timeout = SHORT_TIMEOUT;
        // Only the timeouts above close a connection.
        settings.server.keep_alive_timeout = 10 * WAIT_TIMEOUT;
    })
    .await
}

/// Reads until the server closes, and returns the bytes.
async fn read_until_closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    // A close with unread bytes is a reset, which is accepted too.
    let reading = tokio::time::timeout(WAIT_TIMEOUT, stream.read_to_end(&mut rest)).await;
    assert!(reading.is_ok(), "still open, after {}", String::from_utf8_lossy(&rest));
    rest
}

/// The same while `sending` runs.
async fn read_until_closed_while(
    stream: &mut (impl AsyncRead + Unpin),
    sending: impl Future<Output = ()>,
) -> Vec<u8> {
    let never = async {
        sending.await;
        std::future::pending().await
    };
    tokio::select! {
        closed = read_until_closed(stream) => closed,
        never = never => never,
    }
}

/// Sends `bytes` one at a time and repeats the last one until the other side closes.
async fn send_slowly(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    let mut interval = tokio::time::interval(SLOW_SEND_INTERVAL);
    let last = bytes.last().copied().unwrap_or(b'x');
    for byte in bytes.iter().copied().chain(std::iter::repeat(last)) {
        interval.tick().await;
        if stream.write_all(&[byte]).await.is_err() {
            return;
        }
    }
}

/// Files with a certificate for this machine and its key.
pub struct CertificateFiles {
    directory: tempfile::TempDir,
}

impl CertificateFiles {
    pub fn new() -> Self {
        let certificate = Self { directory: tempfile::tempdir().unwrap() };
        certificate.renew();
        certificate
    }

    pub fn files(&self) -> TlsFiles {
        let path = |name| self.directory.path().join(name);
        TlsFiles { cert: path("cert.pem"), key: path("key.pem") }
    }

    /// Replaces the certificate. The key is written first, so for a moment the two do not match.
    fn renew(&self) {
        let generated = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let TlsFiles { cert, key } = self.files();
        fs::write(key, generated.signing_key.serialize_pem()).unwrap();
        fs::write(cert, generated.cert.pem()).unwrap();
    }

    /// Replaces the certificate by one that expires at `expires_at`.
    fn renew_until(&self, expires_at: DateTime<Utc>) {
        let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.not_after = SystemTime::from(expires_at).into();
        let generated = rcgen::KeyPair::generate().unwrap();
        let TlsFiles { cert, key } = self.files();
        fs::write(key, generated.serialize_pem()).unwrap();
        fs::write(cert, params.self_signed(&generated).unwrap().pem()).unwrap();
    }

    fn cert(&self) -> Vec<u8> {
        fs::read(self.files().cert).unwrap()
    }

    /// A client that trusts only this certificate.
    pub fn client(&self) -> reqwest::ClientBuilder {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cert = reqwest::Certificate::from_pem(&self.cert()).unwrap();
        reqwest::Client::builder().no_proxy().timeout(WAIT_TIMEOUT).tls_certs_only([cert])
    }

    /// A new TLS connection that offers only `protocol`.
    async fn connect(&self, address: SocketAddr, protocol: &str) -> TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&self.cert()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        let stream = TcpStream::connect(address).await.unwrap();
        let name = address.ip().into();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }
}

/// A server with TLS.
pub async fn spawn_tls_app(
    certificate: &CertificateFiles,
    change: impl FnOnce(&mut Settings),
) -> TestApp {
    spawn_app_with(|settings| {
        settings.server.tls = Some(certificate.files());
        settings.server.tls_reload_interval = SHORT_TIMEOUT / 5;
        change(settings);
    })
    .await
}
