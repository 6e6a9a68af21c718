//! Group commit: requests that arrive together share a statement.
//!
//! A statement costs a round trip and, if it writes, a flush to disk, nearly regardless of how many
//! sessions it covers. So each request becomes a *command* in a queue. A task, the *batcher*, takes
//! all queued commands at once and executes them in one statement. Commands that arrive while the
//! statement runs form the next batch. There is no timer: the command that finds an idle batcher is
//! executed at once, and batches grow only as fast as the load.
//!
//! ```text
//! request ── submit ──▶ queue ──▶ recv_batch ──▶ group ──▶ execute ──▶ reply ──▶ request
//!    │                                                      ▲     │
//!    │ the estimated wait                                   │     │
//!    │ is too long                                          ├─────┤ deadlock or conflict: retry
//!    ▼                                                      │     │
//! 503 at once                                               └─────┘ error of one command: bisect
//! ```
//!
//! - Each server thread has three queues ([`shards`]), for creates, reads and updates. Each queue
//!   has a batcher with its own connection ([`batcher`]).
//! - The three batchers run the same loop. They differ in their [`batcher::Executor`]:
//!   [`create_batcher`], [`read_batcher`], [`update_batcher`].
//! - Each command has a deadline. A command that would wait past its deadline is refused when it
//!   is submitted ([`wait_estimator`]). A command whose deadline passes in the queue is answered
//!   without being executed ([`waiters`]).
//! - A statement that fails, fails for all its commands. If one command may be the cause, the batch
//!   is cut in halves until that command is alone ([`waiters::Bisection`]).
//! - Updates of one session are decided one after the other by one batcher, even if several
//!   threads receive them ([`commands::SessionAffinity`], [`session_batch`]).
//!
//! The surprise: a batch is bounded by rows as well as by commands, so that small requests do not
//! wait for a session with thousands of members.

mod batcher;
mod commands;
mod context;
mod create_batcher;
mod queue;
mod queue_state;
mod read_batcher;
mod session_batch;
mod session_reader;
mod shards;
mod turns;
mod update_batcher;
mod wait_estimator;
mod waiters;

pub(super) use commands::{CreateCommand, CreateOutcome, UpdateCommand, UpdateOutcome};
pub(super) use context::Context;
pub use context::SessionOptions;
pub(super) use shards::BatchQueues;
pub(super) use wait_estimator::WaitEstimator;
