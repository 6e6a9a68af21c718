//! Use cases: authorise, load, decide, write. No SQL, no HTTP.

pub mod admin;

mod access;
mod audit;
mod cache;
mod changed;
mod creates;
mod directory;
mod error;
mod follow;
mod group;
mod history;
mod known;
mod lanes;
mod list;
mod observatory;
mod pace;
mod pooled;
mod queue;
mod readiness;
mod reads;
mod retries;
mod sessions;
mod updates;
mod waiting;

pub use access::{Access, Caller, Credential, Grant, TokenRules};
pub use audit::Retention;
pub use cache::CacheOptions;
pub use changed::Changed;
pub use directory::{Directory, KnownApp};
pub use error::{Denied, Error};
pub use history::Diff;
pub use known::KnownSession;
pub use list::{BadCursor, ListQuery, Listing, MembersQuery, PageSize, WrongPageSize};
pub use observatory::{Observatory, Parts};
pub use readiness::{NotReady, Readiness};
pub use sessions::{Done, SessionOptions, Sessions, Terms};

/// Which part of a history is read.
pub use crate::repository::history::Page as HistoryPage;
