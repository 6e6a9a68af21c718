//! HTTP, through actix: `/cgi` for the clients that exist, health for those who operate.
//!
//! A handler parses, calls one use case, and renders. The APIs know nothing of each other.

mod body;
mod drain;
mod held;
mod ops;
mod request_log;
mod server;
mod youdu;

pub use server::{Bound, Ending, Options, Server, Services};
