//! The operator, and the context that all operator use cases share.

use std::sync::Arc;

use crate::clock::Clock;
use crate::keyring::Keyring;
use crate::repository::Pool;
use crate::repository::audit::{Actor, AuditContext};

/// The operator, as the operating system reports them. The audit stores all four values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The name of the user of the operating system.
    pub user: String,
    /// The user who called `sudo`, if the command runs under it.
    pub sudo_user: Option<String>,
    /// The name of the machine.
    pub host: String,
    /// The id of the process.
    pub pid: u32,
}

/// The database, its master keys, the operator and the clock. A clone uses the same database.
#[derive(Clone)]
pub struct AdminContext {
    pub(super) pool: Pool,
    pub(super) keyring: Arc<Keyring>,
    actor: Actor,
    clock: Clock,
}

impl AdminContext {
    /// A context for the acts of `operator`.
    #[must_use]
    pub fn new(pool: Pool, keyring: Arc<Keyring>, operator: Operator, clock: Clock) -> Self {
        let Operator { user, sudo_user, host, pid } = operator;
        Self { pool, keyring, actor: Actor { user, sudo_user, host, pid }, clock }
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
