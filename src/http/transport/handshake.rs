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

use super::tls;
use super::tls_record_tracker::{Recorded, Records};

/// Plain, or with TLS.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<Recorded<TcpStream>>>>;

/// A connection that is open.
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) http: Http,
    pub(super) records: Rc<Records>,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Http {
    One,
    Two,
}

/// The first letters of an HTTP/2 connection: no request of HTTP/1 begins with them.
const PREFACE: &[u8] = b"PRI";
/// Until it is looked again whether more than one or two letters are there, which is rare.
const ANOTHER_LOOK: Duration = Duration::from_millis(20);

/// Opens a connection, if its client does its part `within` that time.
///
/// # Errors
/// When it does not, or goes away, or speaks no TLS where that is spoken.
pub(super) async fn open(
    stream: TcpStream,
    tls: Option<&TlsAcceptor>,
    within: Duration,
) -> io::Result<Opened> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        let http = timeout(within, spoken(&stream)).await??;
        return Ok(Opened { stream: Either::Left(stream), http, records: Rc::default() });
    };
    let stream = timeout(within, tls.accept(Recorded::new(stream))).await??;
    let (below, session) = stream.get_ref();
    let records = below.records().clone();
    let http = if session.alpn_protocol() == Some(tls::H2) { Http::Two } else { Http::One };
    Ok(Opened { stream: Either::Right(Box::new(stream)), http, records })
}

async fn spoken(stream: &TcpStream) -> io::Result<Http> {
    let mut start = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut start).await?;
        let start = &start[..length];
        if start == PREFACE {
            return Ok(Http::Two);
        }
        if start.is_empty() || !PREFACE.starts_with(start) {
            return Ok(Http::One);
        }
        sleep(ANOTHER_LOOK).await;
    }
}
