//! Creates a backup: the state of the database at one moment, while servers keep running.
//!
//! `pg_dump` and the checksums use the same snapshot, so the checksums are those of the dumped
//! rows. Only a migration has to wait for a backup.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::content::{self, DatabaseContents};
use super::error::DumpError;
use super::manifest::{self, Manifest};
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
    /// The keyring whose sealing key is included, if any.
    pub with_key: Option<&'a Keyring>,
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
    prepare(destination.dir)?;

    let mut snapshot =
        source.begin_with("begin isolation level repeatable read, read only").await?;
    let name = sqlx::query_scalar!(r#"select pg_export_snapshot() as "name!""#)
        .fetch_one(&mut *snapshot)
        .await?;
    let path = destination.dir.join(manifest::DUMP);
    let file = manifest::new_file(&path).map_err(DumpError::file("make", &path))?;
    let dump_task = tokio::task::spawn_blocking({
        let (tools, database) = (tools.clone(), connection::without_timeouts(pool));
        move || process::dump(&tools, &database, &name, &path, file)
    });
    let counts = count_source(&mut snapshot).await;
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

    let included = match (destination.with_key, key) {
        (Some(keyring), Some(id)) => keyring.save(&destination.dir.join(manifest::KEY), id)?,
        _ => false,
    };
    let manifest = Manifest {
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
    };
    manifest.write(destination.dir)?;
    write_audit(pool, &manifest, context).await?;
    Ok(manifest)
}

/// Creates the directory, with access for its owner only.
fn prepare(dir: &Path) -> Result<(), DumpError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(DumpError::DirectoryNotEmpty(dir.to_owned()));
            }
            fs::set_permissions(dir, Permissions::from_mode(0o700))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)
        }
        Err(error) => Err(error),
    }
    .map_err(DumpError::file("make the directory", dir))
}

/// The contents of a snapshot.
struct SourceCounts {
    tables: DatabaseContents,
    migrations: Vec<i64>,
    key: Option<MasterKeyId>,
}

async fn count_source(snapshot: &mut PgConnection) -> Result<SourceCounts, Error> {
    let tables = content::tables(snapshot).await?;
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
    Ok(SourceCounts { tables: content::summarize(snapshot, &tables).await?, migrations, key })
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
    });
    let record =
        AuditRecord { action: AuditAction::DatabaseBackup, buin: None, app_id: None, details };
    let mut connection = pool.acquire().await?;
    Ok(audit::write(&mut connection, context, record).await?)
}
