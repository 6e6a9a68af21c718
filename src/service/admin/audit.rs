//! Reading and checking the audit. Each change writes its own entry; nothing here writes one.

use super::{AdminContext, Error};
use crate::domain::{AuditChain, AuditEntry, AuditFilter};
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

/// Checks the hash chain of all entries. `expected` is the head of an earlier check, as hexadecimal digits.
///
/// # Errors
/// The database fails.
pub async fn verify(admin: &AdminContext, expected: Option<&str>) -> Result<AuditChain, Error> {
    Ok(audit::verify(&admin.pool, expected).await?)
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
        let expected = ["app", "key", "delivery", "consumer", "secrets", "database", "audit"];
        assert_eq!(nouns, expected.iter().collect::<Vec<_>>());
        assert_eq!(actions.len(), nouns.len() + AuditAction::ALL.len());
    }
}
