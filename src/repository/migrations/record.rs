//! The record of migrations: the table `_sqlx_migrations`.
//!
//! The table belongs to sqlx, whose programs can read and write it. Muster adds columns: the kind of
//! each migration, for programs that do not know the migration, and how far a migration has come. A
//! database of an earlier program has no such columns, so they are read as parts of the whole row. The
//! statements are not checked at compile time, because the table exists only after the first migration.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::migrate::{Migrate as _, MigrateError, Migration as MigrationFile};
use sqlx::postgres::{PgConnection, PgExecutor};

use super::script::MigrationKind;
use crate::repository::{Error, Pool};

/// The table of the record.
pub(super) const MIGRATIONS_TABLE: &str = "_sqlx_migrations";

/// A row of the record.
#[derive(Clone, Debug)]
pub(super) struct AppliedMigration {
    /// Whether all statements are done.
    pub(super) success: bool,
    pub(super) checksum: Vec<u8>,
    pub(super) at: DateTime<Utc>,
    /// `None` if the migration has no kind, or if an earlier program applied it.
    pub(super) kind: Option<MigrationKind>,
    /// The number of statements after which a migration goes on; `None` if it cannot.
    pub(super) statements_done: Option<usize>,
}

/// The point at which a migration goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MigrationProgress {
    /// The number of statements that are done.
    pub(super) statements: usize,
    /// The position at which the next batch begins, if the next statement runs in batches.
    pub(super) position: Option<String>,
}

#[derive(sqlx::FromRow)]
pub(super) struct AppliedRow {
    version: i64,
    success: bool,
    checksum: Vec<u8>,
    installed_on: DateTime<Utc>,
    kind: Option<String>,
    statements_done: Option<i32>,
}

/// The columns of an [`AppliedRow`], of the table under the name `record`.
pub(super) const COLUMNS: &str = "version, success, checksum, installed_on, \
     to_jsonb(record) ->> 'kind' as kind, \
     (to_jsonb(record) ->> 'statements_done')::int4 as statements_done";

impl From<AppliedRow> for (i64, AppliedMigration) {
    fn from(row: AppliedRow) -> Self {
        let applied = AppliedMigration {
            success: row.success,
            checksum: row.checksum,
            at: row.installed_on,
            kind: row.kind.as_deref().and_then(MigrationKind::parse),
            statements_done: row.statements_done.and_then(|done| usize::try_from(done).ok()),
        };
        (row.version, applied)
    }
}

/// The rows of the table, or none if it does not exist.
pub(super) async fn read_if_exists(pool: &Pool) -> Result<BTreeMap<i64, AppliedMigration>, Error> {
    let exists: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(pool)
        .await?;
    if exists { read(pool).await } else { Ok(BTreeMap::new()) }
}

/// The rows of the table, which must exist.
pub(super) async fn read(
    executor: impl PgExecutor<'_>,
) -> Result<BTreeMap<i64, AppliedMigration>, Error> {
    let sql = format!("select {COLUMNS} from {MIGRATIONS_TABLE} as record");
    let rows: Vec<AppliedRow> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(executor).await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Creates the table, if it does not exist.
pub(super) async fn create_table(connection: &mut PgConnection) -> Result<(), MigrateError> {
    connection.ensure_migrations_table(MIGRATIONS_TABLE).await
}

/// Whether the table lacks a column of Muster.
pub(super) async fn lacks_columns(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select count(*) < 3 from pg_attribute
         where attrelid = to_regclass('_sqlx_migrations') and not attisdropped
           and attname in ('kind', 'statements_done', 'position')",
    )
    .fetch_one(connection)
    .await
}

/// Adds the columns of Muster. An earlier program called `position` `place`: its column is renamed, so that
/// a statement in batches goes on where that program stopped.
pub(super) async fn add_columns(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let is_old: bool = sqlx::query_scalar(
        "select coalesce(bool_or(attname = 'place') and not bool_or(attname = 'position'), false)
         from pg_attribute
         where attrelid = to_regclass('_sqlx_migrations') and not attisdropped",
    )
    .fetch_one(&mut *connection)
    .await?;
    if is_old {
        let sql = "alter table _sqlx_migrations rename column place to position";
        sqlx::query(sql).execute(&mut *connection).await?;
    }
    sqlx::query(
        "alter table _sqlx_migrations
             add column if not exists kind text,
             add column if not exists statements_done integer,
             add column if not exists position text",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Records a migration that is done, as sqlx does.
pub(super) async fn insert_done(
    connection: &mut PgConnection,
    file: &MigrationFile,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values ($1, $2, true, $3, -1)",
    )
    .bind(file.version)
    .bind(&*file.description)
    .bind(&*file.checksum)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records that a migration begins, unless it has begun before. Returns where it goes on.
pub(super) async fn begin(
    connection: &mut PgConnection,
    file: &MigrationFile,
    kind: MigrationKind,
) -> Result<MigrationProgress, sqlx::Error> {
    sqlx::query(
        "insert into _sqlx_migrations
             (version, description, success, checksum, execution_time, kind, statements_done)
         values ($1, $2, false, $3, -1, $4, 0)
         on conflict (version) do nothing",
    )
    .bind(file.version)
    .bind(&*file.description)
    .bind(&*file.checksum)
    .bind(kind.as_str())
    .execute(&mut *connection)
    .await?;
    let (statements, position): (i32, Option<String>) =
        sqlx::query_as("select statements_done, position from _sqlx_migrations where version = $1")
            .bind(file.version)
            .fetch_one(connection)
            .await?;
    Ok(MigrationProgress { statements: usize::try_from(statements).unwrap_or_default(), position })
}

/// Records where a migration goes on.
pub(super) async fn advance(
    connection: &mut PgConnection,
    version: i64,
    to: &MigrationProgress,
) -> Result<(), sqlx::Error> {
    let sql = "update _sqlx_migrations set statements_done = $2, position = $3 where version = $1";
    sqlx::query(sql)
        .bind(version)
        .bind(i32::try_from(to.statements).unwrap_or(i32::MAX))
        .bind(&to.position)
        .execute(connection)
        .await?;
    Ok(())
}

/// Records that a migration is done, and its duration in this run.
pub(super) async fn finish(
    connection: &mut PgConnection,
    version: i64,
    duration: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update _sqlx_migrations
         set installed_on = case when success then installed_on else now() end, success = true,
             execution_time = $2
         where version = $1",
    )
    .bind(version)
    .bind(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(())
}

/// Replaces the checksum of a migration.
pub(super) async fn set_checksum(
    connection: &mut PgConnection,
    file: &MigrationFile,
) -> Result<(), Error> {
    sqlx::query("update _sqlx_migrations set checksum = $2 where version = $1")
        .bind(file.version)
        .bind(&*file.checksum)
        .execute(connection)
        .await?;
    Ok(())
}
