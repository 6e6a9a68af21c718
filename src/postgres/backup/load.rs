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

/// The objects that are dropped during the load, as statements.
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
         where class.relnamespace = to_regnamespace(quote_ident(current_schema())) and class.relname = any($1)
           and not exists (select from pg_constraint where conindid = index.indexrelid)
         union all
         select format('alter table %s drop constraint %I', conrelid::regclass, conname),
                format('alter table %s add constraint %I %s', conrelid::regclass, conname,
                       pg_get_constraintdef(con.oid))
         from pg_constraint as con
         join pg_class as class on class.oid = con.conrelid
         where class.relnamespace = to_regnamespace(quote_ident(current_schema())) and class.relname = any($1)
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

/// Creates the objects again that [`detach`] has dropped.
pub(super) async fn attach(connection: &mut PgConnection, detached: Detached) -> Result<(), Error> {
    for statement in detached.create {
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    Ok(())
}

/// A column that an operator had added to a table. It exists until the rows are compared, because the
/// checksums of earlier releases cover it.
pub(super) struct ForeignColumn {
    table: String,
    name: String,
}

impl ForeignColumn {
    /// Adds a column for any text.
    async fn add(&self, connection: &mut PgConnection) -> Result<(), Error> {
        self.alter(connection, "add column", " text").await
    }

    /// Drops the column.
    pub(super) async fn drop(&self, connection: &mut PgConnection) -> Result<(), Error> {
        self.alter(connection, "drop column", "").await
    }

    async fn alter(
        &self,
        connection: &mut PgConnection,
        verb: &str,
        end: &str,
    ) -> Result<(), Error> {
        let [table, name] = [&self.table, &self.name].map(|name| content::quote_identifier(name));
        let sql = AssertSqlSafe(format!("alter table {table} {verb} {name}{end}"));
        connection.execute(sql).await?;
        Ok(())
    }
}

/// The same tables, with these columns among the compared ones.
pub(super) fn with_foreign_columns(
    tables: &[DatabaseTable],
    foreign: &[ForeignColumn],
) -> Vec<DatabaseTable> {
    let mut tables = tables.to_vec();
    for table in &mut tables {
        let added = foreign.iter().filter(|column| column.table == table.name);
        table.columns.extend(added.map(|column| column.name.clone()));
        table.columns.sort_unstable();
    }
    tables
}

/// Loads the parts of a script. Tables and sequences of other programs are skipped. Columns of other
/// programs are added, and returned.
pub(super) async fn load(
    connection: &mut PgConnection,
    tables: &[DatabaseTable],
    parts: &mut Receiver<ScriptPart>,
) -> Result<Vec<ForeignColumn>, DumpError> {
    let mut foreign = Vec::new();
    while let Some(part) = parts.recv().await {
        match part {
            ScriptPart::Table { name, columns } => {
                if let Some(table) = tables.iter().find(|table| table.name == name) {
                    for name in columns.iter().filter(|name| !table.columns.contains(name)) {
                        let column =
                            ForeignColumn { table: table.name.clone(), name: name.clone() };
                        column.add(connection).await?;
                        foreign.push(column);
                    }
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
    Ok(foreign)
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
