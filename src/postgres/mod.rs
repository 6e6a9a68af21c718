//! PostgreSQL as a whole: the server that Muster runs itself, and copies of a whole database.
//!
//! No module here knows the rules of sessions. SQL of single tables is in [`crate::repository`],
//! which modules here may use.

pub mod backup;
pub mod embedded;
pub mod environment;
