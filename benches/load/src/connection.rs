//! A kept connection with at most one request in flight.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::http;

/// The free space of the buffer before each receive.
const CHUNK: usize = 16_384;

/// A connection, and its request in flight.
pub struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    written: usize,
    /// Never shrunk: the received bytes end at `end`.
    received: Vec<u8>,
    end: usize,
    sent_at: Instant,
    /// A number with which the script recognizes the request.
    pub tag: u64,
    /// Whether a request is in flight.
    pub busy: bool,
}

/// A response.
pub struct Response<'a> {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
    /// The time since the request was written.
    pub elapsed: Duration,
    /// The bytes of request and response, header sections included.
    pub bytes: usize,
}

impl Connection {
    /// Connects, and registers the socket under `token`.
    ///
    /// # Errors
    /// The error of the connect.
    pub fn open(address: SocketAddr, registry: &Registry, token: usize) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            request: Vec::new(),
            written: 0,
            received: Vec::new(),
            end: 0,
            sent_at: Instant::now(),
            tag: 0,
            busy: false,
        })
    }

    /// Sends the bytes that `write` puts into the buffer.
    ///
    /// # Errors
    /// The error of the write.
    pub fn send(&mut self, write: impl FnOnce(&mut Vec<u8>) -> u64) -> io::Result<()> {
        self.request.clear();
        self.end = 0;
        self.tag = write(&mut self.request);
        self.written = 0;
        self.busy = true;
        self.sent_at = Instant::now();
        self.flush()
    }

    /// Continues the request in flight as far as possible without waiting. Returns the response
    /// when it is complete. A closed connection is an error.
    ///
    /// # Errors
    /// The error of the read or write, or the fault of the response.
    pub fn advance(&mut self) -> io::Result<Option<Response<'_>>> {
        self.flush()?;
        loop {
            if self.received.len() < self.end + CHUNK {
                self.received.resize(self.end + CHUNK, 0);
            }
            match self.stream.read(&mut self.received[self.end..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if let Some(response) =
                http::parse(&self.received[..self.end]).map_err(io::Error::other)?
            {
                self.busy = false;
                return Ok(Some(Response {
                    status: response.status,
                    body: &self.received[response.body..response.end],
                    elapsed: self.sent_at.elapsed(),
                    bytes: self.request.len() + response.end,
                }));
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.request.len() {
            match self.stream.write(&self.request[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
