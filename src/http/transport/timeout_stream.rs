//! A stream that ends its connection when the client is too slow, when the headers that it sends do not
//! fit into the memory for them, or when the server closes connections.
//!
//! The framework then sees a closed connection or an error. The timer costs nothing while requests
//! come quickly: it is reset only to an earlier time, or after it fired.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection_state::ConnectionState;
use super::connection_timeouts::TimeoutKind;
use crate::metrics::CloseReason;

/// Bytes that are read in one turn of the task of a connection. The framework reads until no bytes are
/// left, up to 128 KiB, before it looks at them. Unwanted bytes must not take so much memory in
/// every connection.
const READ_BURST: usize = 16 * 1024;

/// How long a closed connection of a stopping server is read. Bytes that arrive then are dropped. If
/// they met a closed socket, the system would reset the connection, and the client could lose a
/// response that it has not read yet.
const LINGER_TIMEOUT: Duration = Duration::from_millis(500);

/// The bytes that one read of a closed connection drops.
const DROPPED_BYTES: usize = 4 * 1024;

/// A stream and its [`ConnectionState`].
pub(super) struct TimeoutStream<S> {
    stream: S,
    state: Rc<ConnectionState>,
    timer: Pin<Box<Sleep>>,
    /// Bytes that were read in this turn.
    read_in_turn: usize,
    closing: Closing,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// The connection is open, or its end is being written.
    Open,
    /// The end has been written. Bytes that arrive until this time are dropped.
    Lingering(Instant),
    Closed,
}

impl<S> TimeoutStream<S> {
    pub(super) fn new(stream: S, state: Rc<ConnectionState>) -> Self {
        let at = state.deadline().map_or_else(Instant::now, |(at, _)| at);
        Self {
            stream,
            state,
            timer: Box::pin(sleep_until(at)),
            read_in_turn: 0,
            closing: Closing::Open,
        }
    }

    pub(super) fn state(&self) -> &Rc<ConnectionState> {
        &self.state
    }

    /// Ready when the client is too slow; otherwise the timer wakes the task.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<TimeoutKind> {
        loop {
            let Some((at, kind)) = self.state.deadline() else { return Poll::Pending };
            if at < self.timer.deadline() {
                self.timer.as_mut().reset(at);
            }
            ready!(self.timer.as_mut().poll(cx));
            if at <= Instant::now() {
                return Poll::Ready(kind);
            }
            self.timer.as_mut().reset(at);
        }
    }

    /// Drops the bytes that still arrive on a connection whose end has been written. Ready when the
    /// client has closed its side too, or after [`LINGER_TIMEOUT`].
    fn poll_linger(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()>
    where
        S: AsyncRead + Unpin,
    {
        let mut bytes = [0; DROPPED_BYTES];
        let mut dropped = 0;
        loop {
            let mut bytes = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut bytes) {
                Poll::Ready(Ok(())) if !bytes.filled().is_empty() => {
                    dropped += bytes.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
            if dropped >= READ_BURST {
                cx.waker().wake_by_ref();
                break;
            }
        }
        self.timer.as_mut().reset(until);
        self.timer.as_mut().poll(cx)
    }

    /// The result of a write of a number of bytes, or an error if the write is blocked for too long.
    fn check_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(result) = &result {
            self.state.on_write_progress(result.as_ref().map_or(0, bytes));
        }
        // The runtime lets a task wait that has used up its turn, although the socket may have room.
        if result.is_ready() || !coop::has_budget_remaining() {
            return result;
        }
        self.state.on_write_blocked();
        self.poll_timeout(cx).map(|kind| {
            self.state.on_timeout(kind);
            Err(io::ErrorKind::TimedOut.into())
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read_in_turn >= READ_BURST {
            this.read_in_turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        let received = &mut buf.filled_mut()[before..];
        if !received.is_empty() {
            this.read_in_turn += received.len();
            if !this.state.on_read(received) {
                this.state.set_close_reason(CloseReason::Memory);
                return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
            }
        }
        if read.is_ready() {
            if received.is_empty() {
                this.state.on_eof();
            }
            return read;
        }
        this.read_in_turn = 0;
        this.poll_timeout(cx).map(|kind| {
            this.state.on_timeout(kind);
            match kind {
                TimeoutKind::Header | TimeoutKind::Idle => Ok(()),
                TimeoutKind::Write => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.check_write(cx, result, |bytes| *bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.check_write(cx, result, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing != Closing::Open {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        let flushed = this.check_write(cx, flushed, |()| 0);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            this.state.on_flushed();
        }
        // A response may be complete, so the client's time starts. The framework may not read again
        // before that time is over, so the timer is registered here.
        if flushed.is_ready() && this.poll_timeout(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing == Closing::Open {
            let closed = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.check_write(cx, closed, |()| 0))?;
            this.closing = match this.state.requests().is_server_draining() {
                true => Closing::Lingering(Instant::now() + LINGER_TIMEOUT),
                false => Closing::Closed,
            };
        }
        if let Closing::Lingering(until) = this.closing {
            ready!(this.poll_linger(cx, until));
            this.closing = Closing::Closed;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;

    use super::super::connection_slots::Occupant;
    use super::super::connection_state::ProtocolState;
    use super::super::connection_timeouts::ConnectionTimeouts;
    use super::super::graceful_shutdown::GracefulShutdown;
    use super::super::h1_message_tracker::MessageTracker;
    use super::super::pending_headers::PendingHeaders;
    use super::*;

    /// The state of a connection whose timeouts are one second.
    fn state() -> Rc<ConnectionState> {
        let second = Duration::from_secs(1);
        let timeouts = ConnectionTimeouts { header: second, write: second, idle: second };
        let protocol = ProtocolState::H1(MessageTracker::default());
        let headers = PendingHeaders::for_tests();
        let counter = Rc::new(Arc::<GracefulShutdown>::default().counter());
        ConnectionState::new(
            timeouts,
            Instant::now(),
            protocol,
            Rc::default(),
            headers,
            Occupant::for_tests(),
            counter,
        )
    }

    #[tokio::test]
    async fn task_that_has_used_up_its_turn_is_not_blocked() {
        let state = state();
        let (_client, server) = tokio::io::duplex(1);
        let mut stream = TimeoutStream::new(server, state.clone());
        let write = |stream: &mut TimeoutStream<_>, cx: &mut Context<'_>| {
            Pin::new(stream).poll_write(cx, b"x").map(|written| written.unwrap())
        };
        poll_fn(|cx| {
            while coop::poll_proceed(cx).map(|permit| permit.made_progress()).is_ready() {}
            assert!(write(&mut stream, cx).is_pending() && !state.is_write_blocked());
            Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
        poll_fn(|cx| {
            assert_eq!(write(&mut stream, cx), Poll::Ready(1));
            assert!(write(&mut stream, cx).is_pending() && state.is_write_blocked(), "it is full");
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn bytes_that_are_read_in_one_turn_are_bounded() {
        let (mut client, server) = tokio::io::duplex(4 * READ_BURST);
        client.write_all(&[b'x'; 3 * READ_BURST]).await.unwrap();
        let mut stream = TimeoutStream::new(server, state());
        for _ in 0..3 {
            // The framework reads until it must wait.
            let mut read = 0;
            poll_fn(|cx| {
                let mut buffer = [0; 4_096];
                let mut buffer = ReadBuf::new(&mut buffer);
                while let Poll::Ready(done) = Pin::new(&mut stream).poll_read(cx, &mut buffer) {
                    done.unwrap();
                    read += buffer.filled().len();
                    buffer.clear();
                }
                Poll::Ready(())
            })
            .await;
            assert_eq!(read, READ_BURST);
        }
    }
}
