//! Clients of streams of changes: one that reads each event, and one that keeps many streams open.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mio::{Events, Interest, Poll, Token};

use crate::http;

/// The comment at the beginning of each stream.
const BEGINNING: &[u8] = b": changes follow\n\n";
/// The number of streams that are opened at the same time.
const OPENED_AT_ONCE: usize = 32;
/// The interval at which a reader checks whether it must stop.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// An open stream of an enterprise, at its present head.
pub struct EventStream {
    stream: TcpStream,
    chunks: Chunks,
    text: Vec<u8>,
}

impl EventStream {
    /// Sends the request. `filter` is the query with its question mark, or empty.
    /// [`Self::await_beginning`] reads the response.
    fn request(port: u16, authorization: &str, filter: &str) -> anyhow::Result<Self> {
        let mut stream = http::connect(port)?;
        let request = format!(
            "GET /v1/events{filter} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}\r\n\
             Accept: text/event-stream\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        Ok(Self { stream, chunks: Chunks::default(), text: Vec::new() })
    }

    /// Opens a stream. `filter` is the query with its question mark, or empty.
    ///
    /// # Errors
    /// If the server refuses it.
    pub fn open(port: u16, authorization: &str, filter: &str) -> anyhow::Result<Self> {
        let mut opened = Self::request(port, authorization, filter)?;
        opened.await_beginning()?;
        Ok(opened)
    }

    fn await_beginning(&mut self) -> anyhow::Result<()> {
        let (mut header, mut chunk) = (Vec::new(), [0; 4_096]);
        loop {
            let read = self.stream.read(&mut chunk).context("no response")?;
            ensure!(read > 0, "closed without a response");
            header.extend_from_slice(&chunk[..read]);
            if let Some(end) = find(&header, b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&header);
                ensure!(header.starts_with(b"HTTP/1.1 200 "), "a stream is refused: {text}");
                self.chunks.decode(&header[end + 4..], &mut self.text)?;
                break;
            }
        }
        while !self.text.starts_with(BEGINNING) {
            ensure!(self.receive()?, "no beginning of a stream");
        }
        self.text.drain(..BEGINNING.len());
        Ok(())
    }

    /// Receives some bytes. Returns whether the stream is still open.
    fn receive(&mut self) -> anyhow::Result<bool> {
        let mut bytes = [0; 65_536];
        let read = self.stream.read(&mut bytes)?;
        self.chunks.decode(&bytes[..read], &mut self.text)?;
        Ok(read > 0)
    }

    /// Passes each event on as soon as its last byte is there, until `is_over` or the end of the stream.
    ///
    /// # Errors
    /// If the stream breaks.
    pub fn read(
        &mut self,
        is_over: &AtomicBool,
        mut each: impl FnMut(&[u8]),
    ) -> anyhow::Result<()> {
        self.stream.set_read_timeout(Some(CHECK_INTERVAL))?;
        loop {
            let mut start = 0;
            while let Some(len) = find(&self.text[start..], b"\n\n") {
                each(&self.text[start..start + len]);
                start += len + 2;
            }
            self.text.drain(..start);
            match self.receive() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if is_timeout(&error) && is_over.load(Ordering::Relaxed) => {
                    return Ok(());
                }
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_timeout(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted))
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// The decoder of `Transfer-Encoding: chunked`.
#[derive(Default)]
struct Chunks {
    /// Bytes of the chunk, with the line end after them, that have not arrived.
    left: usize,
    /// The size of the next chunk, as far as it has arrived.
    size: Vec<u8>,
}

impl Chunks {
    fn decode(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> anyhow::Result<()> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let taken = bytes.len().min(self.left);
                // The line end is no part of the text.
                let text = taken.min(self.left.saturating_sub(2));
                out.extend_from_slice(&bytes[..text]);
                self.left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            bytes = rest;
            if *first != b'\n' {
                self.size.push(*first);
                continue;
            }
            let size = std::str::from_utf8(&self.size)?.trim();
            self.left = usize::from_str_radix(size, 16).context("no size of a chunk")? + 2;
            self.size.clear();
        }
        Ok(())
    }
}

/// Many open streams, whose bytes one thread reads and drops.
pub struct OpenStreams {
    state: Arc<State>,
    thread: JoinHandle<anyhow::Result<()>>,
}

#[derive(Default)]
struct State {
    is_over: AtomicBool,
    changes: AtomicU64,
    ended: AtomicU64,
}

impl OpenStreams {
    /// Opens a stream for each filter.
    ///
    /// # Errors
    /// If the server refuses one.
    pub fn open(port: u16, authorization: &str, filters: &[String]) -> anyhow::Result<Self> {
        let mut streams = Vec::with_capacity(filters.len());
        for part in filters.chunks(OPENED_AT_ONCE) {
            let opened =
                part.iter().map(|filter| EventStream::request(port, authorization, filter));
            let mut opened = opened.collect::<Result<Vec<_>, _>>()?;
            opened.iter_mut().try_for_each(EventStream::await_beginning)?;
            streams.extend(opened.into_iter().map(|opened| opened.stream));
        }
        let poll = Poll::new()?;
        let mut registered = Vec::with_capacity(streams.len());
        for (number, stream) in streams.into_iter().enumerate() {
            stream.set_nonblocking(true)?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            registered.push(stream);
        }
        let state = Arc::<State>::default();
        let shared = state.clone();
        let thread = std::thread::spawn(move || drop_bytes(poll, &mut registered, &shared));
        Ok(Self { state, thread })
    }

    /// Closes the streams. Returns the number of changes that they have got.
    ///
    /// # Errors
    /// If a stream has ended before.
    pub fn close(self) -> anyhow::Result<u64> {
        self.state.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the reader of streams has panicked"))??;
        let ended = self.state.ended.load(Ordering::Relaxed);
        ensure!(ended == 0, "{ended} streams have ended");
        Ok(self.state.changes.load(Ordering::Relaxed))
    }
}

fn drop_bytes(
    mut poll: Poll,
    streams: &mut [mio::net::TcpStream],
    state: &State,
) -> anyhow::Result<()> {
    let (mut events, mut bytes) = (Events::with_capacity(1_024), vec![0; 65_536]);
    while !state.is_over.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(CHECK_INTERVAL))?;
        for event in &events {
            let stream = &mut streams[event.token().0];
            loop {
                match stream.read(&mut bytes) {
                    Ok(0) => {
                        state.ended.fetch_add(1, Ordering::Relaxed);
                        poll.registry().deregister(stream)?;
                        break;
                    }
                    Ok(read) => {
                        // A name that two reads divide does not count.
                        let windows = bytes[..read].windows(14);
                        let changes = windows.filter(|window| window == b"\nevent: change").count();
                        state.changes.fetch_add(changes as u64, Ordering::Relaxed);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {
                        state.ended.fetch_add(1, Ordering::Relaxed);
                        poll.registry().deregister(stream)?;
                        break;
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_decoded_wherever_reads_divide_them() {
        let bytes = b"5\r\nab\n\nc\r\n10\r\n0123456789abcdef\r\n";
        for cut in 0..=bytes.len() {
            let (mut chunks, mut out) = (Chunks::default(), Vec::new());
            chunks.decode(&bytes[..cut], &mut out).unwrap();
            chunks.decode(&bytes[cut..], &mut out).unwrap();
            assert_eq!(out, b"ab\n\nc0123456789abcdef", "{cut}");
        }
    }
}
