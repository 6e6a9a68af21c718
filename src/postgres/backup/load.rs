//! Loads the rows of a dump into the tables that migrations have created.
//!
//! The statements are made here, from the names in the target's catalog. Secondary indexes and
//! foreign keys are dropped before and created again afterwards: this is faster, and the tables may
//! come in any order.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::sync::mpsc::Receiver;

use super::content::{self, DatabaseTable};
use super::error::DumpError;
use super::script::ScriptPart;
use crate::repository::Error;

/// What is dropped during the load, as statements.
pub(super) struct Detached {
    create: Vec<String>,
}

/// Drops the secondary indexes and the foreign keys of the copied tables.
pub(super) async fn detach(
    connection: &mut PgConnection,
    tables: &[DatabaseTable],
) -> Result<Detached, Error> {
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let statements: Vec<(String, String)> = sqlx::query_as(
        "select format('drop index %s', index.indexrelid::regclass), pg_get_indexdef(index.indexrelid)
         from pg_index as index
         join pg_class as class on class.oid = index.indrelid
         where class.relnamespace = current_schema()::regnamespace and class.relname = any($1)
           and not exists (select from pg_constraint where conindid = index.indexrelid)
         union all
         select format('alter table %s drop constraint %I', conrelid::regclass, conname),
                format('alter table %s add constraint %I %s', conrelid::regclass, conname,
                       pg_get_constraintdef(con.oid))
         from pg_constraint as con
         join pg_class as class on class.oid = con.conrelid
         where class.relnamespace = current_schema()::regnamespace and class.relname = any($1)
           and contype = 'f'",
    )
    .bind(names)
    .fetch_all(&mut *connection)
    .await?;
    let mut create = Vec::with_capacity(statements.len());
    for (drop, again) in statements {
        connection.execute(AssertSqlSafe(drop)).await?;
        create.push(again);
    }
    Ok(Detached { create })
}

/// Creates again what [`detach`] has dropped.
pub(super) async fn attach(connection: &mut PgConnection, detached: Detached) -> Result<(), Error> {
    for statement in detached.create {
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    Ok(())
}

/// Loads the parts of a script. Tables and sequences of other programs are skipped.
pub(super) async fn load(
    connection: &mut PgConnection,
    tables: &[DatabaseTable],
    parts: &mut Receiver<ScriptPart>,
) -> Result<(), DumpError> {
    while let Some(part) = parts.recv().await {
        match part {
            ScriptPart::Table { name, columns } => {
                if let Some(table) = tables.iter().find(|table| table.name == name) {
                    copy_in(connection, table, &columns, parts).await?;
                }
            }
            ScriptPart::Sequence { name, last, is_called } => {
                if content::SEQUENCES.contains(&name.as_str()) {
                    sqlx::query("select setval($1::regclass, $2, $3)")
                        .bind(content::quote_identifier(&name))
                        .bind(last)
                        .bind(is_called)
                        .execute(&mut *connection)
                        .await?;
                }
            }
            // The rows of a table that is skipped.
            ScriptPart::Rows(_) | ScriptPart::TableEnd => {}
        }
    }
    Ok(())
}

/// Copies rows into a table, until the end of the table.
async fn copy_in(
    connection: &mut PgConnection,
    table: &DatabaseTable,
    columns: &[String],
    parts: &mut Receiver<ScriptPart>,
) -> Result<(), DumpError> {
    let columns: Vec<String> =
        columns.iter().map(|column| content::quote_identifier(column)).collect();
    let (name, columns) = (content::quote_identifier(&table.name), columns.join(", "));
    let mut copy = connection.copy_in_raw(&format!("copy {name} ({columns}) from stdin")).await?;
    loop {
        match parts.recv().await {
            Some(ScriptPart::Rows(rows)) => {
                copy.send(rows).await?;
            }
            Some(ScriptPart::TableEnd) => break,
            // The reader of the script has failed, and has the precise error.
            Some(ScriptPart::Table { .. } | ScriptPart::Sequence { .. }) | None => {
                copy.abort("the dump is incomplete").await?;
                return Ok(());
            }
        }
    }
    let rows = copy.finish().await?;
    tracing::info!(table = table.name, rows, "restored");
    Ok(())
}
