//! Summaries of tables. Equal rows have equal summaries.
//!
//! A checksum is the exclusive or of the MD5 sums of all rows as text. The order of rows does not
//! matter, so no sort is needed and PostgreSQL can work in parallel. Two rows never cancel each
//! other, because primary keys make all rows different. The checksum detects accidents. Forgery is
//! detected by the SHA-256 of the dump, if the operator keeps a copy of it elsewhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::repository::Error;

/// The summary of a table.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct TableSummary {
    /// The number of rows.
    pub rows: u64,
    /// The checksum of all rows: 32 hexadecimal digits.
    pub checksum: String,
}

/// The summary of each table, by the table's name.
pub type DatabaseContents = BTreeMap<String, TableSummary>;

/// A table of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DatabaseTable {
    pub(super) name: String,
    /// The columns of the table except those of transaction ids, quoted and joined by commas.
    pub(super) columns: String,
}

/// The tables of the schema. A table comes after the tables that it refers to.
pub(super) async fn tables(connection: &mut PgConnection) -> Result<Vec<DatabaseTable>, Error> {
    let tables = sqlx::query_as!(
        DatabaseTable,
        r#"
        select class.relname::text as "name!",
               string_agg(quote_ident(attname), ', ' order by attname) as "columns!"
        from pg_class as class
        join pg_attribute on attrelid = class.oid
        where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p')
          and not relispartition and attnum > 0 and not attisdropped
          and atttypid <> 'xid8'::regtype
        group by class.oid, class.relname
        order by exists (
            select from pg_constraint where conrelid = class.oid and contype = 'f'
        ), class.relname
        "#
    )
    .fetch_all(connection)
    .await?;
    Ok(tables)
}

/// The summaries of these tables.
pub(super) async fn summarize(
    connection: &mut PgConnection,
    tables: &[DatabaseTable],
) -> Result<DatabaseContents, Error> {
    let mut content = DatabaseContents::new();
    for DatabaseTable { name, columns } in tables {
        // PostgreSQL has already quoted the columns.
        let sql = format!(
            "select count(*), md5(coalesce(
                 bit_xor(('x' || md5(row({columns})::text))::bit(128))::text, ''))
             from {}",
            quote_identifier(name)
        );
        let (rows, checksum): (i64, String) =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut *connection).await?;
        let rows = u64::try_from(rows).unwrap_or_default();
        content.insert(name.clone(), TableSummary { rows, checksum });
    }
    Ok(content)
}

/// Describes each difference between `found` and `expected`.
pub(super) fn diff(expected: &DatabaseContents, found: &DatabaseContents) -> Vec<String> {
    let describe = |(name, expected): (&String, &TableSummary)| match found.get(name) {
        None => Some(format!("{name} is missing")),
        Some(found) if found.rows != expected.rows => {
            Some(format!("{name} has {} rows instead of {}", found.rows, expected.rows))
        }
        Some(found) if found.checksum != expected.checksum => {
            Some(format!("{name} has the same number of rows, but different rows"))
        }
        Some(_) => None,
    };
    expected.iter().filter_map(describe).collect()
}

/// An identifier, quoted for SQL.
pub(super) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let rows = |rows, checksum: &str| TableSummary { rows, checksum: checksum.to_owned() };
        let content = |list: &[(&str, TableSummary)]| {
            list.iter()
                .map(|(name, rows)| ((*name).to_owned(), rows.clone()))
                .collect::<DatabaseContents>()
        };
        let expected =
            content(&[("app", rows(1, "a")), ("audit", rows(2, "b")), ("x", rows(3, "c"))]);
        assert_eq!(diff(&expected, &expected), Vec::<String>::new());
        let found = content(&[("app", rows(1, "A")), ("audit", rows(1, "b"))]);
        assert_eq!(
            diff(&expected, &found),
            [
                "app has the same number of rows, but different rows",
                "audit has 1 rows instead of 2",
                "x is missing"
            ]
        );
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
    }
}
