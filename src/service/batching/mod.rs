//! Requests that share a statement.

mod batcher;
mod commands;
mod context;
mod create_batcher;
mod queue;
mod read_batcher;
mod session_batch;
mod session_reader;
mod shards;
mod update_batcher;
mod wait_estimator;
mod waiters;

pub(super) use commands::{CreateCommand, CreateOutcome, UpdateCommand, UpdateOutcome};
pub(super) use context::Context;
pub use context::SessionOptions;
pub(super) use shards::BatchQueues;
pub(super) use wait_estimator::WaitEstimator;
