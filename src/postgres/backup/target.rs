//! The target of a copy: checks that no server uses it and that it holds nothing to lose, and the
//! work after the copy.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::content::{Table, quoted};
use super::error::DumpError;
use crate::repository::audit::{self, Act, Action, Line};
use crate::repository::{Error, app_notifications};

/// Tables that migrations themselves fill.
const BY_MIGRATIONS: [&str; 3] = ["_sqlx_migrations", "audit", "sealing"];
/// The tables of Muster, besides those.
const OF_SESSIONS: [&str; 9] = [
    "api_key",
    "app",
    "delivery",
    "delivery_attempt",
    "idempotency",
    "session",
    "session_event",
    "session_member",
    "session_title",
];

/// Whether a table belongs to Muster.
pub(super) fn is_ours(table: &Table) -> bool {
    let name = table.name.as_str();
    BY_MIGRATIONS.contains(&name) || OF_SESSIONS.contains(&name)
}

/// Refuses a database that a server uses.
pub(super) async fn check_unserved(
    connection: &mut PgConnection,
    which: &'static str,
) -> Result<(), DumpError> {
    match app_notifications::servers(connection).await? {
        0 => Ok(()),
        servers => Err(DumpError::Served(servers, which)),
    }
}

/// Refuses a database in which any table of Muster has rows that its migrations have not made.
pub(super) async fn check_empty(
    connection: &mut PgConnection,
    tables: &[Table],
) -> Result<(), DumpError> {
    for Table { name, .. } in tables.iter().filter(|table| is_ours(table)) {
        if BY_MIGRATIONS.contains(&name.as_str()) {
            continue;
        }
        let sql = AssertSqlSafe(format!("select count(*) from {}", quoted(name)));
        let rows: i64 = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
        if rows > 0 {
            return Err(DumpError::NotEmpty { table: name.clone(), rows });
        }
    }
    Ok(())
}

/// Analyzes the copied tables, so that the first statements are planned well. Only Muster's tables:
/// PostgreSQL would warn of each other table that this role may not analyze.
pub(super) async fn analyze(connection: &mut PgConnection, tables: &[Table]) -> Result<(), Error> {
    let ours = tables.iter().filter(|table| is_ours(table));
    let names: Vec<String> = ours.map(|table| quoted(&table.name)).collect();
    if !names.is_empty() {
        connection.execute(AssertSqlSafe(format!("analyze {}", names.join(", ")))).await?;
    }
    Ok(())
}

/// Writes the audit record of a copy.
pub(super) async fn note(
    connection: &mut PgConnection,
    act: Act<'_>,
    action: Action,
    details: serde_json::Value,
) -> Result<(), Error> {
    Ok(audit::write(connection, act, Line { action, buin: None, app_id: None, details }).await?)
}
