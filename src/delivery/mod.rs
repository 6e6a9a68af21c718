//! The callback worker: claim, seal, send, record.
//!
//! The promise: at least once; for one app and one session strictly in the order of versions; and
//! no session or app waits for another one's receiver. Deliveries are rows that the change itself
//! wrote, so nothing here can lose one: what a worker took and did not finish is taken again when
//! its lease ends. No transaction is open while something is sent.

mod attempt;
mod circuit;
mod desk;
mod networks;
mod options;
mod pace;
mod prune;
mod ready;
mod retry;
mod sender;
mod take;
mod under_way;
mod unwritten;
mod worker;

pub use networks::{Networks, Refused};
pub use options::Options;
pub use prune::prune;
pub use retry::{Schedule, Verdict, asked_wait, decide};
pub use sender::{Outcome, Sender, Timeouts};
pub use worker::Worker;
