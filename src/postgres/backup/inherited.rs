//! Rows in tables that inherit from those of Muster.
//!
//! A server sees these rows as if they were in Muster's tables, but a copy of Muster's tables would not
//! have them.

use sqlx::{AssertSqlSafe, PgConnection};

use super::content::{DatabaseTable, quote_identifier};
use super::error::DumpError;

/// Refuses tables of which other tables hold rows, by inheritance or as partitions.
pub(super) async fn refuse(
    connection: &mut PgConnection,
    tables: &[DatabaseTable],
) -> Result<(), DumpError> {
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let parents: Vec<(String, Vec<String>)> = sqlx::query_as(
        "select parent.relname::text,
                array_agg(inhrelid::regclass::text order by inhrelid::regclass::text)
         from pg_inherits join pg_class as parent on parent.oid = inhparent
         where parent.relnamespace = to_regnamespace(quote_ident(current_schema()))
           and parent.relname = any($1)
         group by parent.relname
         order by parent.relname",
    )
    .bind(names)
    .fetch_all(&mut *connection)
    .await?;
    for (table, children) in parents {
        let name = quote_identifier(&table);
        let sql = format!("select count(*) from {name} where tableoid <> $1::regclass");
        let count = sqlx::query_scalar(AssertSqlSafe(sql)).bind(name);
        let rows: i64 = count.fetch_one(&mut *connection).await?;
        if rows > 0 {
            return Err(DumpError::Inherited { table, rows, children });
        }
    }
    Ok(())
}
