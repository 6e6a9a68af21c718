//! Restores a backup into a database without data.
//!
//! Tables that migrations have created in the target are dropped first, because the backup contains
//! its own tables, perhaps those of an earlier release. The database has no tables, like a new one,
//! if a later step fails. A server that starts meanwhile creates the tables again; `pg_restore`
//! then fails and changes nothing.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::content::{self, DatabaseTable};
use super::error::DumpError;
use super::manifest::Backup;
use super::tools::Tools;
use super::{connection, create, process, target};
use crate::postgres::embedded::Options;
use crate::repository::audit::{AuditAction, AuditContext};
use crate::repository::{Error, Pool};

/// Restores a backup, and compares the restored rows with its manifest. The caller applies later
/// migrations.
///
/// # Errors
/// [`DumpError`]. The target then holds no part of the backup, except after [`DumpError::Differs`].
pub async fn restore(pool: &Pool, backup: &Backup, postgres: &Options) -> Result<(), DumpError> {
    let manifest = &backup.manifest;
    let mut connection = connection::connect(pool).await?;
    let target_major = create::server_major(&mut connection).await?;
    if target_major < manifest.postgres {
        return Err(DumpError::OlderTarget { backup: manifest.postgres, target: target_major });
    }
    let needed_by =
        format!("a backup by pg_dump {} into a PostgreSQL {target_major}", manifest.pg_dump);
    let tools = Tools::find(postgres, target_major.max(manifest.pg_dump), &needed_by)?;
    drop_empty_tables(&mut connection).await?;

    let (dump, database) = (backup.dump(), connection::without_timeouts(pool));
    let restore_task =
        tokio::task::spawn_blocking(move || process::restore(&tools, &database, &dump)).await;
    restore_task.unwrap_or_else(|error| {
        let source = std::io::Error::other(error);
        Err(DumpError::File { action: "read", path: backup.dump(), source })
    })?;

    let tables = content::tables(&mut connection).await?;
    let found = content::summarize(&mut connection, &tables).await?;
    let differences = content::diff(&manifest.tables, &found);
    if !differences.is_empty() {
        let remedy =
            "Do not use this database: remove it, and restore another backup into a new one";
        return Err(DumpError::Differs { from: "the backup", differences, remedy });
    }
    restamp_events(&mut connection, &tables).await?;
    target::analyze(&mut connection, &tables).await?;
    connection.close().await?;
    Ok(())
}

/// Writes the audit record of a restore into the restored database.
///
/// # Errors
/// When the database fails.
pub async fn audit_restore(
    pool: &Pool,
    backup: &Backup,
    context: AuditContext<'_>,
) -> Result<(), Error> {
    let manifest = &backup.manifest;
    let details = serde_json::json!({
        "backupAt": manifest.at,
        "sessions": manifest.rows("session"),
    });
    let mut connection = pool.acquire().await?;
    target::write_audit(&mut connection, context, AuditAction::DatabaseRestore, details).await
}

/// Drops the tables that migrations created, if they hold no other rows.
async fn drop_empty_tables(connection: &mut PgConnection) -> Result<(), DumpError> {
    target::check_no_servers(connection, "the target database").await?;
    let mut transaction = connection.begin().await?;
    let tables: Vec<DatabaseTable> = content::tables(&mut transaction)
        .await?
        .into_iter()
        .filter(target::is_muster_table)
        .collect();
    if tables.is_empty() {
        return Ok(());
    }
    let names: Vec<String> =
        tables.iter().map(|table| content::quote_identifier(&table.name)).collect();
    let names = names.join(", ");
    let lock = format!("lock table {names} in access exclusive mode");
    transaction.execute(AssertSqlSafe(lock)).await?;
    target::check_empty(&mut transaction, &tables).await?;
    transaction.execute(AssertSqlSafe(format!("drop table {names}"))).await?;
    transaction
        .execute("drop function if exists notify_apps_changed(), refuse_audit_change()")
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// Sets the transaction ids of events to one of this PostgreSQL, if any of them is in its future.
/// The statement rewrites the table, so it leaves no dead rows.
async fn restamp_events(
    connection: &mut PgConnection,
    tables: &[DatabaseTable],
) -> Result<(), Error> {
    if !tables.iter().any(|table| table.name == "session_event") {
        return Ok(());
    }
    // A backup of an older release may lack the column.
    let has_xid: bool = sqlx::query_scalar(
        "select exists (
             select from pg_attribute
             where attrelid = 'session_event'::regclass and attname = 'xid' and not attisdropped
         )",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !has_xid {
        return Ok(());
    }
    let is_ahead: bool = sqlx::query_scalar(
        "select exists (
             select from session_event where xid >= pg_snapshot_xmax(pg_current_snapshot())
         )",
    )
    .fetch_one(&mut *connection)
    .await?;
    if is_ahead {
        connection
            .execute(
                "alter table session_event
                     alter column xid type xid8 using pg_current_xact_id()",
            )
            .await?;
    }
    Ok(())
}
