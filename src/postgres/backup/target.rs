//! The target of a copy: checks before the copy that no server uses it and that it has no data, and
//! the work after the copy.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::content::{DatabaseTable, MIGRATIONS_TABLE, quote_identifier};
use super::error::DumpError;
use crate::repository::audit::{self, AuditAction, AuditContext, AuditRecord};
use crate::repository::{Error, app_notifications};

/// Tables that migrations fill with rows.
const SEEDED_TABLES: [&str; 4] = [MIGRATIONS_TABLE, "audit", "feed_state", "sealing"];

/// Refuses a database that a server uses.
pub(super) async fn check_no_servers(
    connection: &mut PgConnection,
    which: &'static str,
) -> Result<(), DumpError> {
    match app_notifications::count_servers(connection).await? {
        0 => Ok(()),
        servers => Err(DumpError::InUse(servers, which)),
    }
}

/// Refuses a database in which any table of Muster has rows that migrations have not written.
pub(super) async fn check_empty(
    connection: &mut PgConnection,
    tables: &[DatabaseTable],
) -> Result<(), DumpError> {
    for DatabaseTable { name, .. } in tables {
        if SEEDED_TABLES.contains(&name.as_str()) {
            continue;
        }
        let sql = AssertSqlSafe(format!("select count(*) from {}", quote_identifier(name)));
        let rows: i64 = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
        if rows > 0 {
            return Err(DumpError::NotEmpty { table: name.clone(), rows });
        }
    }
    Ok(())
}

/// Analyzes the copied tables, so that the first statements get good plans.
pub(super) async fn analyze(
    connection: &mut PgConnection,
    tables: &[DatabaseTable],
) -> Result<(), Error> {
    let names: Vec<String> = tables.iter().map(|table| quote_identifier(&table.name)).collect();
    if !names.is_empty() {
        connection.execute(AssertSqlSafe(format!("analyze {}", names.join(", ")))).await?;
    }
    Ok(())
}

/// Writes the audit record of a copy.
pub(super) async fn write_audit(
    connection: &mut PgConnection,
    context: AuditContext<'_>,
    action: AuditAction,
    details: serde_json::Value,
) -> Result<(), Error> {
    Ok(audit::write(connection, context, AuditRecord { action, buin: None, app_id: None, details })
        .await?)
}
