//! Connections, before any request: TLS, HTTP versions, limits and timeouts.

mod connection_limits;
mod connection_metrics;
mod http2;
mod slow_readers;
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
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::process::PATIENCE;
use crate::harness::{TestApp, spawn_app_with};

/// The timeouts of the servers in these tests.
const BRIEF: Duration = Duration::from_millis(500);
/// The limit for the server to close a connection with timeouts of [`BRIEF`]. Includes the second
/// that a connection stays open after an early response, and slack for a busy machine.
const SOON: Duration = PATIENCE;
/// The interval between two bytes of a slow sender.
const DRIP: Duration = Duration::from_millis(50);

/// A server with short timeouts for all parts of a request.
async fn impatient() -> TestApp {
    spawn_app_with(|settings| {
        settings.server.header_timeout = BRIEF;
        settings.server.body_timeout = BRIEF;
        // Only the timeouts above close a connection.
        settings.server.keep_alive_timeout = 10 * SOON;
    })
    .await
}

/// Reads until the server closes, and returns the bytes.
async fn closed_soon(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    // A close with unread bytes is a reset, which is accepted too.
    let reading = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
    assert!(reading.is_ok(), "still open, after {}", String::from_utf8_lossy(&rest));
    rest
}

/// The same while `sending` runs.
async fn closed_while(
    stream: &mut (impl AsyncRead + Unpin),
    sending: impl Future<Output = ()>,
) -> Vec<u8> {
    let never = async {
        sending.await;
        std::future::pending().await
    };
    tokio::select! {
        closed = closed_soon(stream) => closed,
        never = never => never,
    }
}

/// Sends `bytes` one at a time and repeats the last one until the other side closes.
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

/// The result and the duration of a future.
async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let done = future.await;
    (done, began.elapsed())
}

/// Files with a certificate for this machine and its key.
struct Pair {
    directory: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let pair = Self { directory: tempfile::tempdir().unwrap() };
        pair.renew();
        pair
    }

    fn files(&self) -> TlsFiles {
        let path = |name| self.directory.path().join(name);
        TlsFiles { cert: path("cert.pem"), key: path("key.pem") }
    }

    /// Replaces the certificate. The key is written first, so for a moment the two do not match.
    fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let TlsFiles { cert, key } = self.files();
        fs::write(key, made.signing_key.serialize_pem()).unwrap();
        fs::write(cert, made.cert.pem()).unwrap();
    }

    /// Replaces the certificate by one that expires at `ends`.
    fn renew_until(&self, ends: DateTime<Utc>) {
        let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.not_after = SystemTime::from(ends).into();
        let made = rcgen::KeyPair::generate().unwrap();
        let TlsFiles { cert, key } = self.files();
        fs::write(key, made.serialize_pem()).unwrap();
        fs::write(cert, params.self_signed(&made).unwrap().pem()).unwrap();
    }

    fn cert(&self) -> Vec<u8> {
        fs::read(self.files().cert).unwrap()
    }

    /// A client that trusts only this certificate.
    fn client(&self) -> reqwest::ClientBuilder {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cert = reqwest::Certificate::from_pem(&self.cert()).unwrap();
        reqwest::Client::builder().no_proxy().timeout(PATIENCE).tls_certs_only([cert])
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

/// A server that speaks TLS.
async fn spawn_tls_app(pair: &Pair, change: impl FnOnce(&mut Settings)) -> TestApp {
    spawn_app_with(|settings| {
        settings.server.tls = Some(pair.files());
        settings.server.tls_reload_interval = BRIEF / 5;
        change(settings);
    })
    .await
}
