//! Use cases: authorise, load, decide, write. No SQL, no HTTP.

mod access;
mod directory;
mod error;
mod history;
mod readiness;
mod retries;
mod sessions;
mod turns;

pub use access::{Access, Caller, Credential, Grant, TokenRules};
pub use directory::{Directory, KnownApp};
pub use error::{Denied, Error};
pub use history::Diff;
pub use readiness::{NotReady, Readiness};
pub use sessions::{Done, Sessions, Terms};
