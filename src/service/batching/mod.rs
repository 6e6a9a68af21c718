//! Requests that share a statement.

mod commands;
mod context;
mod create_batcher;
mod queue;
mod read_batcher;
mod session_batch;
mod shards;
mod update_batcher;
mod wait_estimator;
mod waiters;

pub(super) use commands::{Changing, Created, Creating, Settled};
pub use context::SessionOptions;
pub(super) use context::Shared;
pub(super) use shards::Lane;
pub(super) use wait_estimator::Pace;
