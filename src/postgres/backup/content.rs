//! The tables of Muster, and summaries of them. Equal rows have equal summaries.
//!
//! A checksum is the exclusive or of the MD5 sums of all rows as text. The order of rows does not
//! matter, so no sort is needed and PostgreSQL can work in parallel. Two rows never cancel each
//! other, because primary keys make all rows different. The checksum detects accidents. Forgery is
//! detected by the signature of the manifest, which contains the SHA-256 of the dump.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgConnection};

use super::columns;
use crate::repository::Error;

/// The tables whose rows are copied. Other tables of the database belong to other programs.
pub(super) const TABLES: [&str; 20] = [
    "api_key",
    "app",
    "audit",
    "consumer",
    "consumer_event",
    "consumer_held_event",
    "consumer_position",
    "delivery",
    "delivery_attempt",
    "feed",
    "feed_state",
    "idempotency",
    "outbox",
    "role_change",
    "sealing",
    "session",
    "session_event",
    "session_member",
    "session_snapshot",
    "session_title",
];
/// The record of migrations. Each database has its own.
pub(super) const MIGRATIONS_TABLE: &str = "_sqlx_migrations";
/// The sequences whose state is copied.
pub(super) const SEQUENCES: [&str; 1] = ["audit_audit_id_seq"];
/// The functions that migrations create.
pub(super) const FUNCTIONS: [&str; 3] =
    ["chain_audit_line()", "notify_apps_changed()", "refuse_audit_change()"];

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
    /// The columns that are Muster's, in the order of their names.
    pub(super) columns: Vec<String>,
    /// The other columns, which are not copied.
    pub(super) foreign_columns: Vec<String>,
}

impl DatabaseTable {
    /// Muster's columns, quoted and joined by commas.
    pub(super) fn column_list(&self) -> String {
        self.columns.iter().map(|name| quote_identifier(name)).collect::<Vec<_>>().join(", ")
    }

    /// Whether its rows are copied.
    pub(super) fn is_copied(&self) -> bool {
        TABLES.contains(&self.name.as_str())
    }
}

/// The tables of Muster in the schema. A table comes after the tables that it refers to.
pub(super) async fn tables(connection: &mut PgConnection) -> Result<Vec<DatabaseTable>, Error> {
    let (own_tables, own_columns) = columns::pairs();
    let rows: Vec<(String, Vec<String>, Vec<String>)> = sqlx::query_as(
        "select class.relname::text,
                coalesce(array_agg(attname::text order by attname)
                         filter (where own.name is not null), '{}'),
                coalesce(array_agg(attname::text order by attname)
                         filter (where own.name is null), '{}')
         from pg_class as class
         join pg_attribute on attrelid = class.oid
         left join unnest($1::text[], $2::text[]) as own (in_table, name)
             on own.in_table = class.relname::text and own.name = attname::text
         where relnamespace = to_regnamespace(quote_ident(current_schema())) and relkind in ('r', 'p')
           and not relispartition and attnum > 0 and not attisdropped
         group by class.oid, class.relname
         order by exists (
             select from pg_constraint where conrelid = class.oid and contype = 'f'
         ), class.relname",
    )
    .bind(own_tables)
    .bind(own_columns)
    .fetch_all(connection)
    .await?;
    let mut tables: Vec<DatabaseTable> = rows
        .into_iter()
        .map(|(name, columns, foreign_columns)| DatabaseTable { name, columns, foreign_columns })
        .collect();
    tables.retain(|table| table.is_copied() || table.name == MIGRATIONS_TABLE);
    Ok(tables)
}

/// Warns of the columns that are not copied.
pub(super) fn warn_of_foreign_columns(tables: &[DatabaseTable]) {
    for table in tables.iter().filter(|table| !table.foreign_columns.is_empty()) {
        tracing::warn!(
            table = table.name,
            columns = table.foreign_columns.join(", "),
            "these columns are not Muster's: the copy will not have them"
        );
    }
}

/// The summaries of these tables.
pub(super) async fn summarize(
    connection: &mut PgConnection,
    tables: &[DatabaseTable],
) -> Result<DatabaseContents, Error> {
    let mut content = DatabaseContents::new();
    for table in tables {
        let (name, columns) = (&table.name, table.column_list());
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
    let own = expected.iter().filter(|(name, _)| TABLES.contains(&name.as_str()));
    own.filter_map(describe).collect()
}

/// An identifier, quoted for SQL.
pub(super) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

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
            content(&[("app", rows(1, "a")), ("audit", rows(2, "b")), ("sealing", rows(3, "c"))]);
        assert_eq!(diff(&expected, &expected), Vec::<String>::new());
        let found = content(&[("app", rows(1, "A")), ("audit", rows(1, "b"))]);
        assert_eq!(
            diff(&expected, &found),
            [
                "app has the same number of rows, but different rows",
                "audit has 1 rows instead of 2",
                "sealing is missing"
            ]
        );
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
    }

    /// The words after each `create KIND` in the migrations, without functions that they drop again.
    fn created(kind: &str) -> Vec<String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let files = fs::read_dir(directory).unwrap();
        let text: String =
            files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        let lines = text.to_lowercase();
        let words = lines.split("\ncreate ").skip(1).map(str::split_whitespace);
        words
            .filter_map(|mut words| (words.next() == Some(kind)).then(|| words.next().unwrap()))
            .map(|word| word.split('(').next().unwrap().to_owned())
            .filter(|name| !lines.contains(&format!("\ndrop function {name}(")))
            .collect()
    }

    #[test]
    fn everything_that_migrations_create_is_known() {
        let known = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        assert_eq!(sorted(created("table")), sorted(known(&TABLES)), "tables of a backup");
        let functions = created("function").iter().map(|name| format!("{name}()")).collect();
        assert_eq!(sorted(functions), sorted(known(&FUNCTIONS)), "functions of Muster");
        assert_eq!(created("sequence"), Vec::<String>::new(), "sequences of a backup");
        assert_eq!(created("view"), Vec::<String>::new(), "a backup copies no views");
    }
}
