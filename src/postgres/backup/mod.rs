//! All of a database at once: backups, their way back, and the move to another PostgreSQL.
//!
//! What belongs to sessions is elsewhere; here tables are just tables, and no column is named. The
//! surprise: `session_event.xid` is left out of every comparison and made anew where data arrive. It
//! numbers transactions of one PostgreSQL and means nothing to another, where numbers from the
//! future would be taken for news by every server that follows changes, again and again.

mod connection;
mod content;
mod create;
mod error;
mod manifest;
mod process;
mod restore;
mod target;
mod tools;
mod transfer;

pub use self::content::{Content, Rows};
pub use self::create::{Destination, backup};
pub use self::error::DumpError;
pub use self::manifest::{Backup, DumpFile, Manifest};
pub use self::restore::{note_restored, restore};
pub use self::tools::Tools;
pub use self::transfer::transfer;
