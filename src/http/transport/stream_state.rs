//! What a request needs to know of its connection, over both versions of HTTP.

use std::future::pending;
use std::rc::Rc;

use actix_http::ConnectionType;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::{HttpMessage as _, HttpRequest};

use super::connection_slots::Occupant;
use super::connection_state::ConnectionState;
use super::disconnect::DisconnectSignal;

/// The connection of one HTTP/2 request. Over HTTP/1, the [`ConnectionState`] is the same for all
/// requests of a connection.
#[derive(Debug)]
pub(crate) struct StreamState {
    pub(crate) disconnect: DisconnectSignal,
    pub(super) occupant: Rc<Occupant>,
}

#[cfg(test)]
impl StreamState {
    /// The state of a request on a connection of its own.
    pub(crate) fn for_tests() -> Rc<Self> {
        Rc::new(Self { disconnect: DisconnectSignal::default(), occupant: Occupant::for_tests() })
    }
}

/// Waits until the client of a request is gone.
pub(crate) async fn client_disconnected(request: &HttpRequest) {
    if let Some(state) = request.conn_data::<Rc<ConnectionState>>() {
        let signal = state.disconnect_signal().clone();
        return signal.disconnected().await;
    }
    let stream = request.extensions().get::<Rc<StreamState>>().cloned();
    match stream {
        Some(stream) => stream.disconnect.disconnected().await,
        None => pending().await,
    }
}

/// Records that a request has a valid credential: its connection stays open when room is needed.
pub(crate) fn mark_authenticated(request: &HttpRequest) {
    if let Some(state) = request.conn_data::<Rc<ConnectionState>>() {
        state.occupant().set_known();
    } else if let Some(stream) = request.extensions().get::<Rc<StreamState>>() {
        stream.occupant.set_known();
    }
}

/// Asks the client of an HTTP/1 response to close its connection. The framework closes the connection
/// after the response.
pub(crate) fn announce_close<B>(response: &mut ServiceResponse<B>) {
    response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    if let Some(state) = response.request().conn_data::<Rc<ConnectionState>>() {
        state.requests().announce_close();
    }
}

/// Whether an earlier response asked the client to close the connection of a request.
pub(crate) fn is_close_announced(request: &ServiceRequest) -> bool {
    let state = request.conn_data::<Rc<ConnectionState>>();
    state.is_some_and(|state| state.requests().is_close_announced())
}
