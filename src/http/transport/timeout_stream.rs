//! A connection's bytes, watched: ends it when its client lets the server wait too long.
//!
//! Whatever serves the connection sees a client that has closed, or an error. The timer costs
//! nothing while requests come quickly: it is moved only to be earlier, or when it has fired.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection_state::{Overdue, Progress};

/// A stream and its [`Progress`].
pub(super) struct Watched<S> {
    stream: S,
    progress: Rc<Progress>,
    timer: Pin<Box<Sleep>>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, progress: Rc<Progress>) -> Self {
        let at = progress.deadline().map_or_else(Instant::now, |(at, _)| at);
        Self { stream, progress, timer: Box::pin(sleep_until(at)) }
    }

    pub(super) fn progress(&self) -> &Rc<Progress> {
        &self.progress
    }

    /// Ready when the client is too slow; else it will wake.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Overdue> {
        loop {
            let Some((at, what)) = self.progress.deadline() else { return Poll::Pending };
            if at < self.timer.deadline() {
                self.timer.as_mut().reset(at);
            }
            ready!(self.timer.as_mut().poll(cx));
            if at <= Instant::now() {
                return Poll::Ready(what);
            }
            self.timer.as_mut().reset(at);
        }
    }

    /// What writing came to, or an error when that waits too long.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.progress.taken();
            return written;
        }
        self.progress.blocked();
        self.poll_overdue(cx).map(|what| {
            self.progress.is_overdue(what);
            Err(io::ErrorKind::TimedOut.into())
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
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
            this.progress.received(came);
        }
        if read.is_ready() {
            if came.is_empty() {
                this.progress.gone();
            }
            return read;
        }
        this.poll_overdue(cx).map(|what| {
            this.progress.is_overdue(what);
            match what {
                Overdue::Head | Overdue::Idle => Ok(()),
                Overdue::Reading => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        let flushed = this.written(cx, flushed);
        // An answer may be out: then it is the client's turn, and whoever serves the connection
        // need not read again before that is over.
        if flushed.is_ready() && this.poll_overdue(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let closed = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.written(cx, closed)
    }
}
