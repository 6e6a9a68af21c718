//! The opening of a connection: its TLS handshake, and which HTTP it speaks.
//!
//! Over TLS the client says which. Else a connection that begins like one of HTTP/2 is one: for
//! proxies that know that they may ("prior knowledge"). Nobody is upgraded.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::io::InspectReader;

use super::connection_state::UndecodedBytes;
use super::tls;

/// Plain, or with TLS.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<BelowTls>>>;

/// The socket of a TLS connection. The function notices every read.
type BelowTls = InspectReader<TcpStream, Box<dyn FnMut(&[u8])>>;

/// A connection that is open.
pub(super) struct Accepted {
    pub(super) stream: Stream,
    pub(super) http_version: HttpVersion,
    pub(super) undecoded: Rc<UndecodedBytes>,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpVersion {
    H1,
    H2,
}

/// The first letters of an HTTP/2 connection: no request of HTTP/1 begins with them.
const PREFACE: &[u8] = b"PRI";
/// Until it is looked again whether more than one or two letters are there, which is rare.
const PEEK_INTERVAL: Duration = Duration::from_millis(20);

/// Opens a connection, if its client does its part `within` that time.
///
/// # Errors
/// When it does not, or goes away, or speaks no TLS where that is spoken.
pub(super) async fn handshake(
    stream: TcpStream,
    tls: Option<&TlsAcceptor>,
    handshake_timeout: Duration,
) -> io::Result<Accepted> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        let http_version = timeout(handshake_timeout, sniff_preface(&stream)).await??;
        return Ok(Accepted {
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
    // The handshake is decoded, and a request that came with it has no earlier beginning.
    undecoded.decoded();
    Ok(Accepted { stream: Either::Right(Box::new(stream)), http_version, undecoded })
}

/// TLS gives no sign of a record before its last byte, so the bytes are noticed below it.
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
