//! Copies of a whole database: backups, restores, and the move to another PostgreSQL.
//!
//! Only rows are copied, and only those of Muster's tables: other tables, extensions and definitions
//! stay where they are. So do columns that no migration of Muster made. The surprise: a restore
//! begins another line of history in the feed, and a move does not. The changes after a backup are
//! lost, and their numbers will stand for others.

mod check;
mod columns;
mod connection;
mod content;
mod contents_list;
mod create;
mod directory;
mod error;
mod inherited;
mod load;
mod manifest;
mod objects;
mod process;
mod regular_file;
mod restore;
mod script;
mod target;
mod tools;
mod transfer;

pub use self::columns::COLUMNS;
pub use self::content::{DatabaseContents, TableSummary};
pub use self::create::{Destination, backup};
pub use self::error::DumpError;
pub use self::manifest::{Backup, DumpFile, Manifest};
pub use self::restore::{audit_restore, restore};
pub use self::tools::Tools;
pub use self::transfer::transfer;
