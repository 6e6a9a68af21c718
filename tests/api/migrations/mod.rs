//! Migrations while servers use the database, and programs of two releases on one database.
//!
//! The tests plant migrations of a later release: numbers from 9001, after those of this program.

mod plans;
mod releases;
mod statements;

use crate::harness::store::{LockWaits, MigrationList, MigrationScope, SHORT_WAITS};
use crate::harness::{TestApp, store};

/// The first planted migration.
pub const PLANTED: i64 = 9001;

/// The list of a program that also has one planted migration.
pub fn planted(sql: &str) -> MigrationList {
    MigrationList::own().with(PLANTED, "planted", sql)
}

/// Applies all migrations of a list to the database of a service, and returns their numbers.
pub async fn migrate(app: &TestApp, known: &MigrationList, scope: MigrationScope) -> Vec<i64> {
    store::migrate(&app.database.options, known, scope, SHORT_WAITS).await.unwrap()
}

/// Waits that give up after a few attempts.
pub const FEW_ATTEMPTS: LockWaits = LockWaits { max_attempts: 3, ..SHORT_WAITS };
