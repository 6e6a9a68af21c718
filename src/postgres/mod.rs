//! PostgreSQL as a whole: the server that Muster runs itself, and copies of a whole database.
//!
//! Nothing here knows the rules of sessions. What belongs to one table is in [`crate::repository`].

pub mod backup;
pub mod embedded;
