//! Recognizes a request that met a kept connection while the receiver was closing it.
//!
//! A receiver may close a kept connection at any time. A request that is on its way then fails,
//! although the receiver is healthy. Such a request may be sent again at once: RFC 9110, 9.2.2,
//! permits it because a callback is idempotent by its id. Three conditions keep this apart from a
//! receiver that fails:
//!
//! - The connection was used before. A receiver that closes a new connection has a fault.
//! - The connection was closed without a response, or with the status 408, by which a receiver says
//!   that it waited for a request in vain. After a timeout, the receiver still has the request.
//! - The request was not sent again already.

use std::cell::Cell;
use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use reqwest::{Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    /// Whether the connection of the running request was opened for it.
    static IS_NEW: Cell<bool>;
}

/// The result of a request, and whether its connection was used before. The client must have the
/// layer [`ObserveConnects`].
pub(super) async fn observe<T>(request: impl Future<Output = T>) -> (T, bool) {
    let observed = async {
        let result = request.await;
        (result, !IS_NEW.with(Cell::get))
    };
    IS_NEW.scope(Cell::new(false), observed).await
}

/// Whether the receiver closed the connection without a response to the request.
pub(super) fn was_closed(result: &Result<Response, reqwest::Error>) -> bool {
    let error = match result {
        Ok(response) => return response.status() == StatusCode::REQUEST_TIMEOUT,
        Err(error) if error.is_timeout() || error.is_connect() => return false,
        Err(error) => error,
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let is_incomplete =
            error.downcast_ref().is_some_and(|error: &hyper::Error| error.is_incomplete_message());
        if is_incomplete || error.downcast_ref().is_some_and(is_disconnect) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof
    )
}

/// Reports each opened connection to the request that uses it. A connection that is opened in vain,
/// because a kept one was free earlier, completes in another task and is not reported.
#[derive(Clone, Copy)]
pub(super) struct ObserveConnects;

impl<S> Layer<S> for ObserveConnects {
    type Service = ObservedConnector<S>;

    fn layer(&self, connector: S) -> Self::Service {
        ObservedConnector(connector)
    }
}

/// A connector under [`ObserveConnects`].
#[derive(Clone)]
pub(super) struct ObservedConnector<S>(S);

impl<S, Target> Service<Target> for ObservedConnector<S>
where
    S: Service<Target> + 'static,
    S::Response: 'static,
    S::Error: 'static,
    S::Future: Send + 'static,
    Target: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let connecting = self.0.call(target);
        Box::pin(async move {
            let connected = connecting.await;
            if connected.is_ok() {
                // Fails in a task without a request.
                let _ = IS_NEW.try_with(|is_new| is_new.set(true));
            }
            connected
        })
    }
}
