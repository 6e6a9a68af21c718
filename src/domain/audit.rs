//! Administrative acts, as the audit stores them.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{AppId, Buin};

/// The user who performs an administrative act, as the operating system reports the user. The audit
/// stores all four values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The name of the user of the operating system.
    pub user: String,
    /// The user who called `sudo`, if the command runs under it.
    pub sudo_user: Option<String>,
    /// The name of the machine.
    pub host: String,
    /// The id of the process.
    pub pid: u32,
}

/// An administrative act.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// The time.
    pub at: DateTime<Utc>,
    /// The action, such as `app.create`.
    pub action: String,
    /// The user of the operating system.
    pub actor: String,
    /// The user who called `sudo`.
    pub sudo_user: Option<String>,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: i64,
    /// The enterprise of the app, if the act is about one.
    pub buin: Option<i64>,
    /// The app, if the act is about one.
    pub app_id: Option<String>,
    /// The details, which depend on the action. They name secrets but never hold one.
    pub details: Value,
}

/// A filter of audit entries: an entry must meet every condition that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// The act was at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// The act was before this time.
    pub until: Option<DateTime<Utc>>,
    /// The action is this one, such as `app.create`, or has this noun, such as `app`.
    pub action: Option<String>,
    /// The act was on an app of this id.
    pub app_id: Option<AppId>,
    /// The act was on an app of this enterprise.
    pub buin: Option<Buin>,
}

/// The result of a check of the whole chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditChain {
    /// The number of entries.
    pub records: u64,
    /// The time of the first entry.
    pub first_at: Option<DateTime<Utc>>,
    /// The hash of the last entry, as hexadecimal digits. It depends on all entries before.
    pub head: Option<String>,
    /// The first entry that does not fit.
    pub fault: Option<AuditChainFault>,
    /// Whether the hash that the caller expects belongs to an entry, or to the last one of a deletion of
    /// old entries.
    pub has_expected: bool,
}

/// The first entry that breaks the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditChainFault {
    /// The number of the entry.
    pub audit_id: i64,
    /// The time of its act.
    pub at: DateTime<Utc>,
    /// Its action.
    pub action: String,
    /// Whether the content of the entry is not that of its hash. Otherwise the entry before is missing, or
    /// another one.
    pub is_altered: bool,
}
