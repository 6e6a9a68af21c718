//! The context that all operator use cases share.

use std::sync::Arc;

use crate::clock::Clock;
use crate::domain::Actor;
use crate::keyring::Keyring;
use crate::repository::Pool;
use crate::repository::audit::AuditContext;
use crate::repository::migrations::{LockWaits, MigrationList};

/// The database, its master keys, the operator and the clock. A clone uses the same database.
#[derive(Clone)]
pub struct AdminContext {
    pub(super) pool: Pool,
    pub(super) keyring: Arc<Keyring>,
    /// The migrations of this program.
    pub(super) migrations: MigrationList,
    pub(super) lock_waits: LockWaits,
    actor: Actor,
    clock: Clock,
}

impl AdminContext {
    /// A context for the acts of `actor`.
    #[must_use]
    pub fn new(pool: Pool, keyring: Arc<Keyring>, actor: Actor, clock: Clock) -> Self {
        let (migrations, lock_waits) = (MigrationList::own(), LockWaits::default());
        Self { pool, keyring, migrations, lock_waits, actor, clock }
    }

    /// The same for a program with other migrations, which waits in another way for tables in use.
    #[must_use]
    pub fn with_migrations(self, migrations: MigrationList, lock_waits: LockWaits) -> Self {
        Self { migrations, lock_waits, ..self }
    }

    /// The operator and the present time, for the audit entry of a change.
    pub(super) fn audit_context(&self) -> AuditContext<'_> {
        AuditContext { actor: &self.actor, at: self.clock.now() }
    }

    /// The difference between the clock of this process and `other`, as an absolute value.
    pub(super) fn skew(&self, other: chrono::DateTime<chrono::Utc>) -> std::time::Duration {
        (self.clock.now() - other).abs().to_std().unwrap_or_default()
    }
}
