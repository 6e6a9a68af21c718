//! Restoring a backup into a database that has nothing to lose.
//!
//! Tables that migrations have made in the target are dropped first, because the backup brings its
//! own, perhaps those of an earlier release. If the rest fails, the database has no tables, like a
//! new one. A server that starts meanwhile makes the tables again; `pg_restore` then refuses them
//! and changes nothing.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::content::{self, Table};
use super::error::DumpError;
use super::manifest::Backup;
use super::tools::Tools;
use super::{connection, create, process, target};
use crate::postgres::embedded::Options;
use crate::repository::audit::{Act, Action};
use crate::repository::{Error, PgPool};

/// Restores a backup, and compares the restored rows with its manifest. Later migrations still have
/// to be applied.
///
/// # Errors
/// [`DumpError`]. Nothing of the backup is there then, unless it is [`DumpError::Differs`].
pub async fn restore(pool: &PgPool, backup: &Backup, programs: &Options) -> Result<(), DumpError> {
    let manifest = &backup.manifest;
    let mut connection = connection::open(pool).await?;
    let to = create::major(&mut connection).await?;
    if to < manifest.postgres {
        return Err(DumpError::OlderTarget { backup: manifest.postgres, target: to });
    }
    let why = format!("a backup by pg_dump {} into a PostgreSQL {to}", manifest.pg_dump);
    let tools = Tools::find(programs, to.max(manifest.pg_dump), &why)?;
    clear(&mut connection).await?;

    let (dump, database) = (backup.dump(), connection::patient(pool));
    let restored =
        tokio::task::spawn_blocking(move || process::restore(&tools, &database, &dump)).await;
    restored.unwrap_or_else(|error| {
        let source = std::io::Error::other(error);
        Err(DumpError::File { doing: "read", path: backup.dump(), source })
    })?;

    let tables = content::tables(&mut connection).await?;
    let found = content::content(&mut connection, &tables).await?;
    let differences = content::differences(&manifest.tables, &found);
    if !differences.is_empty() {
        let then = "Do not use this database: remove it, and restore another backup into a new one";
        return Err(DumpError::Differs { from: "the backup", differences, then });
    }
    renumber(&mut connection, &tables).await?;
    target::analyze(&mut connection, &tables).await?;
    connection.close().await?;
    Ok(())
}

/// Writes the audit record of a restore into the restored database.
///
/// # Errors
/// When the database fails.
pub async fn note_restored(pool: &PgPool, backup: &Backup, act: Act<'_>) -> Result<(), Error> {
    let manifest = &backup.manifest;
    let details = serde_json::json!({
        "backupAt": manifest.at,
        "sessions": manifest.rows("session"),
    });
    let mut connection = pool.acquire().await?;
    target::note(&mut connection, act, Action::DatabaseRestore, details).await
}

/// Drops the tables that migrations made, if they hold nothing else.
async fn clear(connection: &mut PgConnection) -> Result<(), DumpError> {
    target::check_unserved(connection, "the target database").await?;
    let mut transaction = connection.begin().await?;
    let tables: Vec<Table> =
        content::tables(&mut transaction).await?.into_iter().filter(target::is_ours).collect();
    if tables.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = tables.iter().map(|table| content::quoted(&table.name)).collect();
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
/// Rewriting the table leaves no dead rows.
async fn renumber(connection: &mut PgConnection, tables: &[Table]) -> Result<(), Error> {
    if !tables.iter().any(|table| table.name == "session_event") {
        return Ok(());
    }
    // A backup of a release without the column has none to be made anew.
    let numbered: bool = sqlx::query_scalar(
        "select exists (
             select from pg_attribute
             where attrelid = 'session_event'::regclass and attname = 'xid' and not attisdropped
         )",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !numbered {
        return Ok(());
    }
    let ahead: bool = sqlx::query_scalar(
        "select exists (
             select from session_event where xid >= pg_snapshot_xmax(pg_current_snapshot())
         )",
    )
    .fetch_one(&mut *connection)
    .await?;
    if ahead {
        connection
            .execute(
                "alter table session_event
                     alter column xid type xid8 using pg_current_xact_id()",
            )
            .await?;
    }
    Ok(())
}
