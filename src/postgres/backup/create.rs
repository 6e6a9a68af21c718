//! Creates a backup: the state of the database at one moment, while servers keep running.
//!
//! `pg_dump` and the checksums use the same snapshot, so the checksums are those of the dumped
//! rows. Only a migration has to wait for a backup.

use std::io;
use std::path::Path;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::content::{self, DatabaseContents, DatabaseTable};
use super::error::DumpError;
use super::manifest::{self, Manifest};
use super::process::DumpSource;
use super::tools::Tools;
use super::{check, connection, directory, inherited, process};
use crate::keyring::Keyring;
use crate::postgres::embedded::Options;
use crate::repository::audit::{self, AuditAction, AuditContext, AuditRecord};
use crate::repository::{Error, Pool};
use crate::wire::MasterKeyId;

/// The destination of a backup, and its contents.
#[derive(Debug)]
pub struct Destination<'a> {
    /// A new or an empty directory.
    pub dir: &'a Path,
    /// The directories of PostgreSQL's programs.
    pub postgres: &'a Options,
    /// The keyring, whose active key signs the backup.
    pub keyring: &'a Keyring,
    /// Whether the backup contains the active key.
    pub with_key: bool,
}

/// Creates a backup, and checks that a restore would accept it. It is complete only after this
/// function has returned.
///
/// # Errors
/// [`DumpError`]. The files written before the error are not a backup.
pub async fn backup(
    pool: &Pool,
    destination: &Destination<'_>,
    context: AuditContext<'_>,
) -> Result<Manifest, DumpError> {
    let mut source = connection::connect(pool).await?;
    let postgres = server_major(&mut source).await?;
    let needed_by = format!("the database, a PostgreSQL {postgres},");
    let tools = Tools::find(destination.postgres, postgres, &needed_by)?;
    let mut snapshot =
        source.begin_with("begin isolation level repeatable read, read only").await?;
    let name = sqlx::query_scalar!(r#"select pg_export_snapshot() as "name!""#)
        .fetch_one(&mut *snapshot)
        .await?;
    let tables = copied_tables(&mut snapshot).await?;
    if tables.is_empty() {
        return Err(DumpError::NoTables);
    }
    refuse_unfinished_migration(&mut snapshot).await?;
    content::warn_of_foreign_columns(&tables);
    inherited::refuse(&mut snapshot, &tables).await?;
    let patterns = patterns(&mut snapshot, &tables).await?;
    let dir = directory::prepare(destination.dir)?;
    let path = dir.join(manifest::DUMP);
    let file = manifest::new_file(&path).map_err(DumpError::file("make", &path))?;
    let dump_task = tokio::task::spawn_blocking({
        let (tools, database) = (tools.clone(), connection::without_timeouts(pool).await?);
        let source = DumpSource { database, tables: patterns, snapshot: name };
        move || process::dump(&tools, &source, &path, file)
    });
    let counts = count_source(&mut snapshot, &tables).await;
    let dumped = dump_task.await.unwrap_or_else(|error| {
        let error = io::Error::other(error);
        Err(DumpError::File { action: "write", path: dir.join(manifest::DUMP), source: error })
    });
    // The errors of `pg_dump` are more precise than those of a connection that it may have broken. A
    // refused statement is the cause of its errors, because the snapshot ends.
    let (dump, counts) = match (dumped, counts) {
        (_, Err(error)) if error.is_refusal() => return Err(error.into()),
        (dumped, counts) => (dumped?, counts),
    };
    let SourceCounts { tables, migrations, key } = counts?;
    snapshot.rollback().await?;
    source.close().await?;
    let check_task = tokio::task::spawn_blocking({
        let (tools, path) = (tools.clone(), dir.join(manifest::DUMP));
        let (dump, tables) = (dump.clone(), tables.clone());
        move || check::check(&tools, &path, &dump, &tables)
    });
    check_task.await.unwrap_or_else(|error| {
        Err(DumpError::file("read", dir.join(manifest::DUMP))(io::Error::other(error)))
    })?;

    let included = match key {
        Some(id) if destination.with_key => {
            destination.keyring.save(&dir.join(manifest::KEY), id)?
        }
        _ => false,
    };
    let mut manifest = Manifest {
        format: manifest::FORMAT,
        muster: env!("CARGO_PKG_VERSION").to_owned(),
        postgres,
        pg_dump: tools.version.major,
        at: context.at,
        migrations,
        master_key: key.map(|id| id.to_string()),
        master_key_included: included,
        dump,
        tables,
        hmac: None,
    };
    if let Some(key) = key.and_then(|id| destination.keyring.find(id)) {
        manifest.sign(&key)?;
    }
    manifest.write(&dir)?;
    write_audit(pool, &manifest, context).await?;
    Ok(manifest)
}

/// The contents of a snapshot.
struct SourceCounts {
    tables: DatabaseContents,
    migrations: Vec<i64>,
    key: Option<MasterKeyId>,
}

/// The tables whose rows are copied. The record of migrations is described in the manifest.
async fn copied_tables(snapshot: &mut PgConnection) -> Result<Vec<DatabaseTable>, Error> {
    let tables = content::tables(snapshot).await?;
    Ok(tables.into_iter().filter(DatabaseTable::is_copied).collect())
}

/// Refuses a database in the middle of a migration: a restore has only whole ones.
async fn refuse_unfinished_migration(snapshot: &mut PgConnection) -> Result<(), DumpError> {
    let sql = "select version from _sqlx_migrations where not success limit 1";
    let unfinished: Option<i64> = sqlx::query_scalar(sql).fetch_optional(snapshot).await?;
    unfinished.map_or(Ok(()), |version| Err(DumpError::UnfinishedMigration(version)))
}

/// The tables as patterns of `pg_dump`, in which quotation marks make a name plain text.
async fn patterns(
    snapshot: &mut PgConnection,
    tables: &[DatabaseTable],
) -> Result<Vec<String>, Error> {
    let schema: String =
        sqlx::query_scalar("select current_schema()::text").fetch_one(snapshot).await?;
    let schema = content::quote_identifier(&schema);
    let names = tables.iter().map(|table| content::quote_identifier(&table.name));
    Ok(names.map(|name| format!("{schema}.{name}")).collect())
}

async fn count_source(
    snapshot: &mut PgConnection,
    tables: &[DatabaseTable],
) -> Result<SourceCounts, Error> {
    // The first table belongs to sqlx and the second is missing in older databases, so neither
    // statement can be checked at compile time.
    let migrations = sqlx::query_scalar("select version from _sqlx_migrations order by version")
        .fetch_all(&mut *snapshot)
        .await?;
    let key: Option<Vec<u8>> = match tables.iter().any(|table| table.name == "sealing") {
        true => {
            sqlx::query_scalar("select master_key_id from sealing")
                .fetch_optional(&mut *snapshot)
                .await?
        }
        false => None,
    };
    let key = key.and_then(|id| Some(MasterKeyId::new(id.as_slice().try_into().ok()?)));
    Ok(SourceCounts { tables: content::summarize(snapshot, tables).await?, migrations, key })
}

/// The major version of the server.
pub(super) async fn server_major(connection: &mut PgConnection) -> Result<u32, Error> {
    let number =
        sqlx::query_scalar!(r#"select current_setting('server_version_num')::int4 as "number!""#)
            .fetch_one(connection)
            .await?;
    Ok(u32::try_from(number).unwrap_or_default() / 10_000)
}

/// Writes the audit record of a backup, if the database has the audit table already.
async fn write_audit(
    pool: &Pool,
    manifest: &Manifest,
    context: AuditContext<'_>,
) -> Result<(), DumpError> {
    if !manifest.tables.contains_key("audit") {
        return Ok(());
    }
    let details = serde_json::json!({
        "sessions": manifest.rows("session"),
        "bytes": manifest.dump.bytes,
        "masterKeyIncluded": manifest.master_key_included,
        "signed": manifest.hmac.is_some(),
    });
    let record =
        AuditRecord { action: AuditAction::DatabaseBackup, buin: None, app_id: None, details };
    let mut transaction = pool.begin().await?;
    audit::write(&mut transaction, context, record).await?;
    Ok(transaction.commit().await?)
}
