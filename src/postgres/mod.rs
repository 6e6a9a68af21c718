//! PostgreSQL as a whole: the server that Muster runs itself, and copies of a whole database.
//!
//! Nothing here knows the rules of sessions. SQL of one table is in [`crate::repository`], which
//! this room may use.

pub mod backup;
pub mod embedded;
