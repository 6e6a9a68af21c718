//! Reading the audit. Each change writes its own entry; nothing here writes one.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{AdminContext, Error};
use crate::domain::{AppId, Buin};
use crate::repository::audit::{self, AuditAction, AuditEntry, AuditQuery};

/// A selection of audit entries: an entry must meet every condition that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Acts at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Acts before this time.
    pub until: Option<DateTime<Utc>>,
    /// An action such as `app.create`, or all actions of a noun such as `app`.
    pub action: Option<String>,
    /// Acts on the app of this id.
    pub app_id: Option<AppId>,
    /// Acts on apps of this enterprise.
    pub buin: Option<Buin>,
}

/// An act of an operator, as the audit stores it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdministrativeAct {
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
    /// The details of the action. They name secrets but never hold one.
    pub details: Value,
}

/// Lists acts, the newest first, at most `limit`.
///
/// # Errors
/// The database fails.
pub async fn list(
    admin: &AdminContext,
    filter: AuditFilter,
    limit: i64,
) -> Result<Vec<AdministrativeAct>, Error> {
    let listed = audit::list(&admin.pool, &filter.into(), limit).await?;
    Ok(listed.into_iter().map(AdministrativeAct::from).collect())
}

/// The valid values of [`AuditFilter::action`]: every action, and each noun before its actions.
#[must_use]
pub fn actions() -> Vec<&'static str> {
    let mut names = Vec::new();
    for action in AuditAction::ALL {
        if !names.contains(&action.noun()) {
            names.push(action.noun());
        }
        names.push(action.name());
    }
    names
}

impl From<AuditFilter> for AuditQuery {
    fn from(filter: AuditFilter) -> Self {
        let AuditFilter { since, until, action, app_id, buin } = filter;
        Self { since, until, action, app_id, buin }
    }
}

impl From<AuditEntry> for AdministrativeAct {
    fn from(listed: AuditEntry) -> Self {
        let AuditEntry { at, action, actor, sudo_user, host, pid, buin, app_id, details } = listed;
        Self { at, action, actor, sudo_user, host, pid, buin, app_id, details }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_noun_stands_once_before_its_actions() {
        let actions = actions();
        assert_eq!(actions[..3], ["app", "app.create", "app.update"]);
        let nouns: Vec<_> = actions.iter().filter(|name| !name.contains('.')).collect();
        assert_eq!(nouns, [&"app", &"key", &"delivery", &"secrets", &"database"]);
        assert_eq!(actions.len(), nouns.len() + AuditAction::ALL.len());
    }
}
