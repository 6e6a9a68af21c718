//! Copies of a whole database: backups, restores, and the move to another PostgreSQL.
//!
//! Only rows are copied, and only those of Muster's tables: other tables, extensions and definitions
//! stay where they are. Tables are copied without knowledge of their columns. The surprise: `session_event.xid` is
//! excluded from every comparison and gets a new value in the target. It is a transaction id of one
//! PostgreSQL and has no meaning in another: every server that follows changes would take ids from
//! the future for new events, again and again.

mod connection;
mod content;
mod contents_list;
mod create;
mod error;
mod load;
mod manifest;
mod objects;
mod process;
mod restore;
mod script;
mod target;
mod tools;
mod transfer;

pub use self::content::{DatabaseContents, TableSummary};
pub use self::create::{Destination, backup};
pub use self::error::DumpError;
pub use self::manifest::{Backup, DumpFile, Manifest};
pub use self::restore::{audit_restore, restore};
pub use self::tools::Tools;
pub use self::transfer::transfer;
