//! The handshake of a connection: TLS, and the detection of the HTTP version.
//!
//! Over TLS, the client selects the version (ALPN). Without TLS, a connection that begins with the
//! HTTP/2 preface uses HTTP/2, for proxies with "prior knowledge". Upgrades from HTTP/1 are not
//! supported.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::io::InspectReader;

use super::tls;
use super::undecoded_bytes::UndecodedBytes;

/// The first bytes of an HTTP/2 connection. No HTTP/1 request begins with them.
const PREFACE: &[u8] = b"PRI";
/// The wait until the next check of a connection with only one or two bytes, which is rare.
const PEEK_INTERVAL: Duration = Duration::from_millis(20);

/// A connection, plain or with TLS.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<BelowTls>>>;

/// The socket of a TLS connection. The function receives the bytes of every read.
type BelowTls = InspectReader<TcpStream, Box<dyn FnMut(&[u8])>>;

/// A connection after its handshake.
pub(super) struct AcceptedConnection {
    pub(super) stream: Stream,
    pub(super) http_version: HttpVersion,
    pub(super) undecoded: Rc<UndecodedBytes>,
}

/// The HTTP version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpVersion {
    H1,
    H2,
}

/// Performs the handshake of a connection, within `handshake_timeout`.
///
/// # Errors
/// If the client is too slow, closes the connection, or does not speak the configured TLS.
pub(super) async fn handshake(
    stream: TcpStream,
    tls: Option<&TlsAcceptor>,
    handshake_timeout: Duration,
) -> io::Result<AcceptedConnection> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        let http_version = timeout(handshake_timeout, sniff_preface(&stream)).await??;
        return Ok(AcceptedConnection {
            stream: Either::Left(stream),
            http_version,
            undecoded: Rc::default(),
        });
    };
    let undecoded = Rc::<UndecodedBytes>::default();
    let stream =
        timeout(handshake_timeout, tls.accept(below_tls(stream, undecoded.clone()))).await??;
    let (_, session) = stream.get_ref();
    let http_version = if session.alpn_protocol() == Some(tls::ALPN_H2) {
        HttpVersion::H2
    } else {
        HttpVersion::H1
    };
    // The bytes of the handshake are decoded. A request that came with them begins now.
    undecoded.decoded();
    Ok(AcceptedConnection { stream: Either::Right(Box::new(stream)), http_version, undecoded })
}

/// Watches the bytes below TLS, because TLS reports a record only after its last byte.
fn below_tls(stream: TcpStream, undecoded: Rc<UndecodedBytes>) -> BelowTls {
    let notice = move |bytes: &[u8]| {
        if !bytes.is_empty() {
            undecoded.on_bytes();
        }
    };
    InspectReader::new(stream, Box::new(notice))
}

async fn sniff_preface(stream: &TcpStream) -> io::Result<HttpVersion> {
    let mut start = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut start).await?;
        let start = &start[..length];
        if start == PREFACE {
            return Ok(HttpVersion::H2);
        }
        if start.is_empty() || !PREFACE.starts_with(start) {
            return Ok(HttpVersion::H1);
        }
        sleep(PEEK_INTERVAL).await;
    }
}
