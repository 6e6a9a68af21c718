//! Connections: the listener, TLS, HTTP/1 and HTTP/2, the timeouts of a connection, shutdown.
//!
//! This module knows no path, no API and no caller. The framework's own server has a timeout for
//! the first header section of a connection only. So its parts are put together here, around a
//! stream that ends a connection whose client is too slow.

mod address_limiter;
mod connection_slots;
mod connection_state;
mod connection_timeouts;
mod connections;
mod disconnect;
mod expect_continue;
mod graceful_shutdown;
mod h1_line_start;
mod h1_message_tracker;
mod h2_body;
mod h2_frame_tracker;
mod handshake;
mod http2;
mod http2_response;
mod listener;
mod open_requests;
mod pending_headers;
mod read_allowance;
mod response_batching;
mod stream_memory;
mod stream_state;
mod timeout_stream;
mod tls;
mod undecoded_bytes;

pub(super) use connection_state::{ActiveRequest, ConnectionState};
pub(super) use expect_continue::is_body_awaited;
pub(super) use graceful_shutdown::{GracefulShutdown, ServerDrain, server_draining};
pub use listener::{Listener, Server, ShutdownHandle};
pub(super) use response_batching::SendAtOnce;
#[cfg(test)]
pub(super) use stream_state::StreamState;
pub(super) use stream_state::{
    RequestClient, announce_close, client_disconnected, end_by_close, is_close_announced,
    mark_authenticated,
};
pub use tls::{Tls, TlsError};
