//! Creates a backup: the state of the database at one moment, while servers keep running.
//!
//! `pg_dump` and the checksums use the same snapshot, so the checksums are those of the dumped
//! rows. Only a migration has to wait for a backup.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::process::geteuid;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::content::{self, DatabaseContents, DatabaseTable};
use super::error::DumpError;
use super::manifest::{self, Manifest};
use super::process::DumpSource;
use super::tools::Tools;
use super::{connection, process};
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

/// Creates a backup. It is complete only after this function has returned.
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
    let patterns = patterns(&mut snapshot, &tables).await?;
    prepare(destination.dir)?;
    let path = destination.dir.join(manifest::DUMP);
    let file = manifest::new_file(&path).map_err(DumpError::file("make", &path))?;
    let dump_task = tokio::task::spawn_blocking({
        let (tools, database) = (tools.clone(), connection::without_timeouts(pool));
        let source = DumpSource { database, tables: patterns, snapshot: name };
        move || process::dump(&tools, &source, &path, file)
    });
    let counts = count_source(&mut snapshot, &tables).await;
    // The errors of `pg_dump` are more precise than those of a connection that it may have broken.
    let dump = dump_task.await.unwrap_or_else(|error| {
        let error = io::Error::other(error);
        Err(DumpError::File {
            action: "write",
            path: destination.dir.join(manifest::DUMP),
            source: error,
        })
    })?;
    let SourceCounts { tables, migrations, key } = counts?;
    snapshot.rollback().await?;
    source.close().await?;

    let included = match key {
        Some(id) if destination.with_key => {
            destination.keyring.save(&destination.dir.join(manifest::KEY), id)?
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
    manifest.write(destination.dir)?;
    write_audit(pool, &manifest, context).await?;
    Ok(manifest)
}

/// Creates the directory, with access for its owner only. An existing directory must be safe: a user
/// who can write to it could replace the files of the backup.
fn prepare(dir: &Path) -> Result<(), DumpError> {
    let failed = || DumpError::file("make the directory", dir);
    let found = match fs::metadata(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = dir.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed())?;
            }
            // Fails if another user has created it meanwhile.
            return DirBuilder::new().mode(0o700).create(dir).map_err(failed());
        }
        Err(error) => return Err(failed()(error)),
    };
    if found.is_dir() && found.uid() != geteuid().as_raw() {
        return Err(DumpError::DirectoryOfAnother { path: dir.to_owned(), owner: found.uid() });
    }
    let mode = found.mode() & 0o7777;
    if found.is_dir() && mode & 0o022 != 0 {
        return Err(DumpError::DirectoryWritable { path: dir.to_owned(), mode });
    }
    if fs::read_dir(dir).map_err(failed())?.next().is_some() {
        return Err(DumpError::DirectoryNotEmpty(dir.to_owned()));
    }
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(failed())
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
    let mut connection = pool.acquire().await?;
    Ok(audit::write(&mut connection, context, record).await?)
}
