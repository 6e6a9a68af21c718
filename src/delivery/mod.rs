//! The callback worker: claim, seal, send, record.
//!
//! The promise: each callback is delivered at least once. The callbacks of one session to one app
//! arrive in the order of versions. No session or app waits for the receiver of another one.
//!
//! A delivery is a row that the statement of the change wrote, so a worker cannot lose it: a
//! delivery that was claimed and not finished is claimed again when its lease ends. No transaction
//! is open while a callback is sent. No SQL is here: see [`crate::repository::deliveries`].

mod ack_rate;
mod attempt;
mod circuit_breaker;
mod claim;
mod failure_log;
mod in_flight;
mod kept_connection;
mod network_policy;
mod options;
mod prefetch_buffer;
mod prune;
mod result_buffer;
mod retry;
mod sender;
mod settings;
mod single_flight;
mod special_addresses;
mod test_callback;
mod worker;

pub use network_policy::{AddressDenied, DenialReason, NetworkPolicy};
pub use options::Options;
pub use prune::prune;
pub use retry::{RetryDecision, RetrySchedule, decide, parse_retry_after};
pub use sender::{AttemptOutcome, CallbackRequest, CallbackSender, CallbackTimeouts};
pub use test_callback::{NoCallbackUrl, TestCallback, send_test_callback};
pub use worker::Worker;
