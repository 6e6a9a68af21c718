//! The facts that a request needs about its connection, over both versions of HTTP.

use std::future::pending;
use std::rc::Rc;

use actix_http::ConnectionType;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Version;
use actix_web::{HttpMessage as _, HttpRequest};

use super::connection_slots::Occupant;
use super::connection_state::ConnectionState;
use super::disconnect::DisconnectSignal;
use super::stream_memory::StreamMemory;
use crate::domain::Buin;

/// The connection of one HTTP/2 request. Over HTTP/1, the [`ConnectionState`] is the same for all
/// requests of a connection.
#[derive(Debug)]
pub(crate) struct StreamState {
    pub(crate) disconnect: DisconnectSignal,
    pub(super) occupant: Rc<Occupant>,
    pub(super) memory: StreamMemory,
}

#[cfg(test)]
impl StreamState {
    /// The state of a request on a connection of its own.
    pub(crate) fn for_tests() -> Rc<Self> {
        let (occupant, memory) = (Occupant::for_tests(), StreamMemory::for_tests());
        Rc::new(Self { disconnect: DisconnectSignal::default(), occupant, memory })
    }
}

/// The client of a request, without the request: a long response keeps less memory so.
pub(crate) enum RequestClient {
    H1(Rc<DisconnectSignal>),
    H2(Rc<StreamState>),
    Unknown,
}

impl RequestClient {
    /// The client of a request.
    pub(crate) fn new(request: &HttpRequest) -> Self {
        if let Some(state) = request.conn_data::<Rc<ConnectionState>>() {
            return Self::H1(state.disconnect_signal().clone());
        }
        let stream = request.extensions().get::<Rc<StreamState>>().cloned();
        stream.map_or(Self::Unknown, Self::H2)
    }

    /// Waits until the client is gone.
    pub(crate) async fn disconnected(&self) {
        match self {
            Self::H1(signal) => signal.disconnected().await,
            Self::H2(stream) => stream.disconnect.disconnected().await,
            Self::Unknown => pending().await,
        }
    }
}

/// Waits until the client of a request is gone.
pub(crate) async fn client_disconnected(request: &HttpRequest) {
    RequestClient::new(request).disconnected().await;
}

/// Records that a request has a valid credential of an enterprise: its connection and its memory belong to
/// the share of the enterprise. Returns whether the share has room for the request.
pub(crate) fn mark_authenticated(request: &HttpRequest, buin: Buin) -> bool {
    if let Some(state) = request.conn_data::<Rc<ConnectionState>>() {
        state.occupant().set_known(buin);
        return true;
    }
    let extensions = request.extensions();
    let Some(stream) = extensions.get::<Rc<StreamState>>() else { return true };
    stream.occupant.set_known(buin);
    stream.memory.move_to(buin)
}

/// Asks the client of an HTTP/1 response to close its connection. The framework closes the connection
/// after the response.
pub(crate) fn announce_close<B>(response: &mut ServiceResponse<B>) {
    response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    if let Some(state) = response.request().conn_data::<Rc<ConnectionState>>() {
        state.requests().announce_close();
    }
}

/// Ends the body of a response of unknown length with the connection, if the request has HTTP/1.0: that
/// version has no chunks (RFC 9112, 6.1).
pub(crate) fn end_by_close(response: &mut ServiceResponse<impl MessageBody>) {
    let is_stream = matches!(response.response().body().size(), BodySize::Stream);
    if is_stream && response.request().version() < Version::HTTP_11 {
        response.response_mut().head_mut().no_chunking(true);
        announce_close(response);
    }
}

/// Whether an earlier response asked the client to close the connection of a request.
pub(crate) fn is_close_announced(request: &ServiceRequest) -> bool {
    let state = request.conn_data::<Rc<ConnectionState>>();
    state.is_some_and(|state| state.requests().is_close_announced())
}
