//! Reading the audit. Each change writes its own entry; nothing here writes one.

use super::{AdminContext, Error};
use crate::domain::{AuditEntry, AuditFilter};
use crate::repository::audit::{self, AuditAction};

/// Lists entries, the newest first, at most `limit`.
///
/// # Errors
/// The database fails.
pub async fn list(
    admin: &AdminContext,
    filter: &AuditFilter,
    limit: i64,
) -> Result<Vec<AuditEntry>, Error> {
    Ok(audit::list(&admin.pool, filter, limit).await?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_noun_is_listed_once_before_its_actions() {
        let actions = actions();
        assert_eq!(actions[..3], ["app", "app.create", "app.update"]);
        let nouns: Vec<_> = actions.iter().filter(|name| !name.contains('.')).collect();
        assert_eq!(nouns, [&"app", &"key", &"delivery", &"consumer", &"secrets", &"database"]);
        assert_eq!(actions.len(), nouns.len() + AuditAction::ALL.len());
    }
}
