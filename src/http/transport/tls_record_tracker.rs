//! Where in its TLS records a connection is (RFC 8446, 5.1), and since when. TLS itself says nothing
//! of a record before it is whole, so this watches what goes into it; nothing is decrypted here.
//!
//! The records of the handshake are followed too, because one begins where another ends.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::length_prefixed::{Awaited, Units};

/// Bytes of a record before its content.
const HEAD: usize = 5;

/// What TLS reads from and writes to.
pub(super) struct Recorded<S> {
    stream: S,
    units: Units<HEAD>,
    records: Rc<Records>,
}

/// When the records of a connection began; nothing, where no TLS is spoken.
#[derive(Debug, Default)]
pub(super) struct Records {
    awaited: Cell<Option<Instant>>,
    whole: Cell<Option<Instant>>,
}

impl Records {
    /// Since when the rest of a record is awaited.
    pub(super) fn awaited(&self) -> Option<Instant> {
        self.awaited.get()
    }

    /// Since when what comes now has been on its way: its record may have taken its time.
    pub(super) fn came_since(&self) -> Instant {
        self.whole.get().unwrap_or_else(Instant::now)
    }

    /// What was awaited could not be read until now.
    pub(super) fn begin_anew(&self) {
        if self.awaited.get().is_some() {
            self.awaited.set(Some(Instant::now()));
        }
    }

    /// More came, which ends with this.
    pub(super) fn came(&self, end: Awaited) {
        match end {
            Awaited::Nothing => self.whole.set(self.awaited.take()),
            Awaited::Rest => {}
            Awaited::RestOfAnother => self.whole.set(self.awaited.replace(Some(Instant::now()))),
        }
    }
}

impl<S> Recorded<S> {
    /// A stream of which nothing has been read.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, units: Units::new(length), records: Rc::default() }
    }

    pub(super) fn records(&self) -> &Rc<Records> {
        &self.records
    }

    fn add(&mut self, mut bytes: &[u8]) {
        let mut begins = false;
        while !bytes.is_empty() {
            begins |= !self.units.has_begun();
            (_, bytes) = self.units.add(bytes);
        }
        self.records.came(Awaited::rest(self.units.has_begun(), begins));
    }
}

fn length(&[_, _, _, high, low]: &[u8; HEAD]) -> usize {
    u16::from_be_bytes([high, low]).into()
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        let came = &buf.filled()[before..];
        if !came.is_empty() {
            this.add(came);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// A record of three bytes.
    const RECORD: &[u8] = &[23, 3, 3, 0, 3, 1, 2, 3];

    /// How many seconds ago.
    fn ago(at: Option<Instant>) -> Option<u64> {
        at.map(|at| at.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_is_awaited_from_its_first_byte_to_its_last() {
        let mut stream = Recorded::new(());
        stream.add(RECORD);
        assert_eq!(stream.records.awaited(), None);
        for byte in RECORD {
            stream.add(&[*byte]);
            tokio::time::advance(SECOND).await;
        }
        assert_eq!(stream.records.awaited(), None);
        stream.add(&RECORD[..4]);
        for second in 1..6 {
            tokio::time::advance(SECOND).await;
            assert_eq!(ago(stream.records.awaited()), Some(second), "each byte gives no more time");
            stream.add(&[9]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_in_a_slow_record_has_been_on_its_way_as_long() {
        let mut stream = Recorded::new(());
        stream.add(RECORD);
        assert_eq!(ago(Some(stream.records.came_since())), Some(0));
        stream.add(&RECORD[..1]);
        tokio::time::advance(3 * SECOND).await;
        // One ends, another begins.
        stream.add(&[&RECORD[1..], &RECORD[..1]].concat());
        assert_eq!(ago(Some(stream.records.came_since())), Some(3));
        assert_eq!(ago(stream.records.awaited()), Some(0));
        tokio::time::advance(2 * SECOND).await;
        stream.add(&RECORD[1..]);
        assert_eq!(ago(Some(stream.records.came_since())), Some(2));
        stream.add(RECORD);
        assert_eq!(ago(Some(stream.records.came_since())), Some(0));
    }
}
