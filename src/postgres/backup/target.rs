//! The target of a copy: checks before the copy that no server uses it and that it has no data, and
//! the work after the copy.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::content::{DatabaseTable, quote_identifier};
use super::error::DumpError;
use crate::repository::audit::{self, AuditAction, AuditContext, AuditRecord};
use crate::repository::{Error, app_notifications};

/// Tables that migrations fill with rows.
const SEEDED_TABLES: [&str; 3] = ["_sqlx_migrations", "audit", "sealing"];
/// The other tables of Muster.
const SESSION_TABLES: [&str; 10] = [
    "api_key",
    "app",
    "delivery",
    "delivery_attempt",
    "idempotency",
    "session",
    "session_event",
    "session_member",
    "session_snapshot",
    "session_title",
];

/// Whether a table belongs to Muster.
pub(super) fn is_muster_table(table: &DatabaseTable) -> bool {
    let name = table.name.as_str();
    SEEDED_TABLES.contains(&name) || SESSION_TABLES.contains(&name)
}

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
    for DatabaseTable { name, .. } in tables.iter().filter(|table| is_muster_table(table)) {
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

/// Analyzes the copied tables, so that the first statements get good plans. Other tables are
/// skipped, because PostgreSQL would warn about each one that this role may not analyze.
pub(super) async fn analyze(
    connection: &mut PgConnection,
    tables: &[DatabaseTable],
) -> Result<(), Error> {
    let own_tables = tables.iter().filter(|table| is_muster_table(table));
    let names: Vec<String> = own_tables.map(|table| quote_identifier(&table.name)).collect();
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
