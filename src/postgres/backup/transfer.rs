//! The move to another PostgreSQL: every row of every table passes through this process.
//!
//! The source is only read, in one snapshot, and is locked against writes. The target is written in
//! one transaction. So a failed move has changed nothing and can be repeated.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::content::{self, DatabaseContents, DatabaseTable};
use super::error::DumpError;
use super::{connection, inherited, target};
use crate::repository::audit::{AuditAction, AuditContext};
use crate::repository::{Error, Pool};

/// The size of one chunk to send, in bytes.
const CHUNK_BYTES: usize = 1 << 18;
/// The interval between progress messages for a large table.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Copies all rows into a database whose tables exist and are empty. Both databases must have the
/// migrations of this program. Returns the summaries of the copied tables.
///
/// # Errors
/// [`DumpError`]. The target then holds no copied rows, and the source is unchanged.
pub async fn transfer(
    source: &Pool,
    target: &Pool,
    context: AuditContext<'_>,
) -> Result<DatabaseContents, DumpError> {
    let mut from = connection::connect(source).await.map_err(DumpError::Source)?;
    let mut to = connection::connect(target).await.map_err(DumpError::Target)?;
    let copied = copy(&mut from, &mut to, context).await?;
    let target_tables = content::tables(&mut to).await.map_err(DumpError::Target)?;
    target::analyze(&mut to, &target_tables).await.map_err(DumpError::Target)?;
    let _ = from.close().await;
    let _ = to.close().await;
    Ok(copied)
}

async fn copy(
    from: &mut PgConnection,
    to: &mut PgConnection,
    context: AuditContext<'_>,
) -> Result<DatabaseContents, DumpError> {
    target::check_no_servers(from, "the source database").await?;
    target::check_no_servers(to, "the target database").await?;
    let tables: Vec<DatabaseTable> = content::tables(from)
        .await
        .map_err(DumpError::Source)?
        .into_iter()
        // The target has its own records of the same migrations.
        .filter(DatabaseTable::is_copied)
        .collect();
    let target_tables = content::tables(to).await.map_err(DumpError::Target)?;

    content::warn_of_foreign_columns(&tables);
    target::check_empty(to, &target_tables).await?;
    let mut source = from
        .begin_with("begin isolation level repeatable read, read only")
        .await
        .map_err(|error| DumpError::Source(error.into()))?;
    // The lock must come before the snapshot, which the first query takes.
    lock(&mut source, &tables, "share").await.map_err(DumpError::Source)?;
    inherited::refuse(&mut source, &tables).await?;
    let mut into = to.begin().await.map_err(|error| DumpError::Target(error.into()))?;
    lock(&mut into, &tables, "access exclusive").await.map_err(DumpError::Target)?;
    target::check_empty(&mut into, &target_tables).await?;
    // The rows of the target's own migrations are replaced by those of the source.
    into.execute("delete from sealing; delete from audit; delete from feed_state")
        .await
        .map_err(|error| DumpError::Target(error.into()))?;

    let source_contents =
        content::summarize(&mut source, &tables).await.map_err(DumpError::Source)?;
    for table in &tables {
        copy_table(&mut source, &mut into, table).await?;
    }
    set_sequences(&mut source, &mut into).await?;

    let target_contents =
        content::summarize(&mut into, &tables).await.map_err(DumpError::Target)?;
    let differences = content::diff(&source_contents, &target_contents);
    if !differences.is_empty() {
        let remedy = "Nothing is left in the target";
        return Err(DumpError::Differs { from: "the source", differences, remedy });
    }
    // A server that started meanwhile would write into the source.
    target::check_no_servers(&mut source, "the source database").await?;
    let sessions = source_contents.get("session").map_or(0, |table| table.rows);
    let details = serde_json::json!({ "sessions": sessions });
    target::write_audit(&mut into, context, AuditAction::DatabaseMove, details)
        .await
        .map_err(DumpError::Target)?;
    into.commit().await.map_err(|error| DumpError::Target(error.into()))?;
    Ok(source_contents)
}

async fn lock(
    connection: &mut PgConnection,
    tables: &[DatabaseTable],
    mode: &str,
) -> Result<(), Error> {
    let names: Vec<String> =
        tables.iter().map(|table| content::quote_identifier(&table.name)).collect();
    let sql = format!("lock table {} in {mode} mode", names.join(", "));
    connection.execute(AssertSqlSafe(sql)).await?;
    Ok(())
}

async fn copy_table(
    source: &mut PgConnection,
    target: &mut PgConnection,
    table: &DatabaseTable,
) -> Result<(), DumpError> {
    let (name, columns) = (&table.name, table.column_list());
    let source_error = |error: sqlx::Error| DumpError::Source(error.into());
    let target_error = |error: sqlx::Error| DumpError::Target(error.into());
    let columns_of = format!("{} ({columns})", content::quote_identifier(name));
    let query_out = format!("copy {columns_of} to stdout (format binary)");
    let mut rows = source.copy_out_raw(&query_out).await.map_err(source_error)?;
    let into = format!("copy {columns_of} from stdin (format binary)");
    let mut into = target.copy_in_raw(&into).await.map_err(target_error)?;
    let (mut chunk, mut reported_at, mut copied) =
        (Vec::with_capacity(2 * CHUNK_BYTES), Instant::now(), 0_u64);
    // PostgreSQL sends single rows. One system call per row would be too slow, so rows are
    // collected.
    while let Some(row) = rows.try_next().await.map_err(source_error)? {
        chunk.extend_from_slice(&row);
        copied += 1;
        if chunk.len() >= CHUNK_BYTES {
            into.send(chunk.as_slice()).await.map_err(target_error)?;
            chunk.clear();
        }
        if reported_at.elapsed() >= PROGRESS_INTERVAL {
            tracing::info!(table = name, rows = copied, "copying");
            reported_at = Instant::now();
        }
    }
    into.send(chunk.as_slice()).await.map_err(target_error)?;
    let rows = into.finish().await.map_err(target_error)?;
    tracing::info!(table = name, rows, "copied");
    Ok(())
}

/// Sets the sequences of the target to those of the source. Sequences of other programs are skipped.
async fn set_sequences(
    source: &mut PgConnection,
    target: &mut PgConnection,
) -> Result<(), DumpError> {
    let sequences: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class
         where relnamespace = to_regnamespace(quote_ident(current_schema())) and relkind = 'S'
           and relname = any($1)",
    )
    .bind(content::SEQUENCES)
    .fetch_all(&mut *source)
    .await
    .map_err(|error| DumpError::Source(error.into()))?;
    for name in sequences {
        let name = content::quote_identifier(&name);
        let sql = AssertSqlSafe(format!("select last_value, is_called from {name}"));
        let (last, is_called): (i64, bool) = sqlx::query_as(sql)
            .fetch_one(&mut *source)
            .await
            .map_err(|error| DumpError::Source(error.into()))?;
        sqlx::query("select setval($1::regclass, $2, $3)")
            .bind(name)
            .bind(last)
            .bind(is_called)
            .execute(&mut *target)
            .await
            .map_err(|error| DumpError::Target(error.into()))?;
    }
    Ok(())
}
