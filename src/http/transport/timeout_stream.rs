//! A stream that ends its connection when the client is too slow, or when the headers that it sends do
//! not fit into the memory for them.
//!
//! The framework then sees a closed connection or an error. The timer costs nothing while requests
//! come quickly: it is reset only to an earlier time, or after it fired.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection_state::{ConnectionState, TimeoutKind};
use crate::metrics::CloseReason;

/// Bytes that are read in one turn of the task of a connection. The framework reads until no bytes are
/// left, up to 128 KiB, before it looks at them. Bytes that nobody wants must not take so much memory
/// in every connection.
const READ_BURST: usize = 16 * 1024;

/// A stream and its [`ConnectionState`].
pub(super) struct TimeoutStream<S> {
    stream: S,
    state: Rc<ConnectionState>,
    timer: Pin<Box<Sleep>>,
    /// Bytes that were read in this turn.
    read_in_turn: usize,
}

impl<S> TimeoutStream<S> {
    pub(super) fn new(stream: S, state: Rc<ConnectionState>) -> Self {
        let at = state.deadline().map_or_else(Instant::now, |(at, _)| at);
        Self { stream, state, timer: Box::pin(sleep_until(at)), read_in_turn: 0 }
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

    /// The result of a write, or an error if the write is blocked for too long.
    fn check_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.state.on_write_progress();
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

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.check_write(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.check_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        let flushed = this.check_write(cx, flushed);
        // A response may be complete, so the client's time starts. The framework may not read again
        // before that time is over, so the timer is registered here.
        if flushed.is_ready() && this.poll_timeout(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let closed = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.check_write(cx, closed)
    }
}
