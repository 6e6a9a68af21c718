//! Whether the database can serve requests: its schema, whether it takes writes, and the rights of the
//! role.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;

use super::known::{MigrationList, SchemaStatus};
use super::record::{AppliedRow, COLUMNS, MIGRATIONS_TABLE};
use crate::repository::table_rights;
use crate::repository::{Error, Pool};

/// The condition of a database that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseCondition {
    /// The schema, compared with this program.
    pub schema: SchemaStatus,
    /// Whether the database takes no writes: the server is a standby, or
    /// `default_transaction_read_only` is on. It has no meaning if no migration is applied.
    pub is_read_only: bool,
    /// The rights that a server needs and the role lacks, each like `INSERT on session`.
    pub missing_rights: Vec<String>,
    /// The tables that a server would use instead of Muster's, each like `own.session`: they are in
    /// another schema than the record of migrations, and come first in the search path.
    pub hiding_tables: Vec<String>,
    /// The tables whose rows row level security would hide from the role. Statements on them fail.
    pub filtered_tables: Vec<String>,
    /// The tables that a server needs and the database lacks, although their migrations are applied.
    pub missing_tables: Vec<String>,
}

impl DatabaseCondition {
    /// The condition of a database without any other fault than that of its schema.
    fn new(schema: SchemaStatus) -> Self {
        Self {
            schema,
            is_read_only: false,
            missing_rights: Vec::new(),
            hiding_tables: Vec::new(),
            filtered_tables: Vec::new(),
            missing_tables: Vec::new(),
        }
    }
}

#[derive(sqlx::FromRow)]
struct ConditionRow {
    #[sqlx(flatten)]
    applied: AppliedRow,
    is_read_only: bool,
    missing_rights: Vec<String>,
    hiding_tables: Vec<String>,
    filtered_tables: Vec<String>,
    missing_tables: Vec<String>,
}

/// Reads the condition. One statement asks for everything, because probes ask often.
///
/// # Errors
/// When the database cannot be queried.
pub async fn read(pool: &Pool, known: &MigrationList) -> Result<DatabaseCondition, Error> {
    let (tables, rights) = table_rights::pairs();
    let sql = format!(
        r#"
        select {COLUMNS},
               current_setting('transaction_read_only')::bool as is_read_only,
               array(
                   select format('%s on %s', "right", name)
                   from unnest($1::text[], $2::text[]) as needed (name, "right")
                   -- A table that a later migration makes has no rights yet: null.
                   where not has_table_privilege(to_regclass(name), "right")
               ) as missing_rights,
               array(
                   select format('%s.%s', nspname, relname)
                   from pg_class join pg_namespace on pg_namespace.oid = relnamespace
                   where pg_class.oid = any(select to_regclass(name)::oid from unnest($1::text[]) as name)
                     and relnamespace <> (
                         select relnamespace from pg_class where oid = to_regclass('_sqlx_migrations')
                     )
                   order by relname
               ) as hiding_tables,
               array(
                   select distinct name from unnest($1::text[]) as name
                   where row_security_active(to_regclass(name)::oid) order by name
               ) as filtered_tables,
               array(
                   select distinct name from unnest($1::text[]) as name
                   where to_regclass(name) is null order by name
               ) as missing_tables
        from {MIGRATIONS_TABLE} as record
        "#
    );
    let rows = sqlx::query_as::<_, ConditionRow>(AssertSqlSafe(sql));
    let rows = match rows.bind(tables).bind(rights).fetch_all(pool).await {
        Ok(rows) => rows,
        Err(error) => match error.as_database_error().and_then(|error| error.code()).as_deref() {
            // undefined_table: no migration is applied. A server that runs has its tables, unless they
            // are dropped, so this costs no statement more.
            Some("42P01") => Vec::new(),
            // insufficient_privilege, also because of row level security
            Some("42501") => return without_migrations(pool).await,
            _ => return Err(error.into()),
        },
    };
    let mut condition = DatabaseCondition::new(SchemaStatus::Current);
    let mut applied = BTreeMap::new();
    for row in rows {
        let (version, row_of_migration) = row.applied.into();
        applied.insert(version, row_of_migration);
        condition.is_read_only = row.is_read_only;
        condition.missing_rights = row.missing_rights;
        condition.hiding_tables = row.hiding_tables;
        condition.filtered_tables = row.filtered_tables;
        condition.missing_tables = row.missing_tables;
    }
    condition.schema = known.compare(&applied);
    // A later migration makes the others.
    if !condition.schema.is_usable() {
        condition.missing_tables.clear();
    }
    Ok(condition)
}

/// The condition if not even the record of migrations can be read.
async fn without_migrations(pool: &Pool) -> Result<DatabaseCondition, Error> {
    let is_filtered: bool =
        sqlx::query_scalar("select coalesce(row_security_active(to_regclass($1)::oid), false)")
            .bind(MIGRATIONS_TABLE)
            .fetch_one(pool)
            .await?;
    let (missing_rights, filtered_tables) = match is_filtered {
        true => (Vec::new(), vec![MIGRATIONS_TABLE.to_owned()]),
        false => (vec![format!("SELECT on {MIGRATIONS_TABLE}")], Vec::new()),
    };
    let condition = DatabaseCondition::new(SchemaStatus::Pending(Vec::new()));
    Ok(DatabaseCondition { missing_rights, filtered_tables, ..condition })
}
