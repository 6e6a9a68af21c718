//! Restores a backup into a database without data.
//!
//! A backup is data from outside. Its rows are loaded into tables that the migrations of this program
//! create, as of the migrations that the backup had. No definition and no statement of the dump is
//! executed. The rows are loaded in one transaction, which is committed only if they are those of the
//! manifest. A failed restore leaves a database without data, which can be used again.

use std::io::{self, BufReader};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::sync::mpsc;

use super::content::{self, DatabaseTable};
use super::contents_list::foreign_entries;
use super::error::DumpError;
use super::load::ForeignColumn;
use super::manifest::Backup;
use super::script::{self, ScriptError};
use super::tools::Tools;
use super::{connection, create, load, objects, process, target};
use crate::postgres::embedded::Options;
use crate::repository::audit::{AuditAction, AuditContext};
use crate::repository::{Error, Pool, feed, migrations, own_schema};

/// The maximum number of pieces of rows that wait for the database.
const MAX_QUEUED_PARTS: usize = 4;

/// Restores a backup, and compares the restored rows with its manifest. The caller applies later
/// migrations.
///
/// # Errors
/// [`DumpError`]. The target then holds no part of the backup.
pub async fn restore(pool: &Pool, backup: &Backup, postgres: &Options) -> Result<(), DumpError> {
    let manifest = &backup.manifest;
    let mut connection = connection::connect(pool).await?;
    let target_major = create::server_major(&mut connection).await?;
    if target_major < manifest.postgres {
        return Err(DumpError::OlderTarget { backup: manifest.postgres, target: target_major });
    }
    let needed_by = format!("a backup by pg_dump {}", manifest.pg_dump);
    let tools = Tools::find(postgres, manifest.pg_dump, &needed_by)?;
    check_entries(&tools, backup).await?;
    drop_empty_tables(&mut connection).await?;
    migrations::run_to(pool, &manifest.migrations).await?;
    // The new tables may be in another schema than those that were dropped.
    own_schema::select(&mut connection).await?;

    let mut transaction = connection.begin().await?;
    let tables = lock_tables(&mut transaction).await?;
    // A server may have started meanwhile, and may have migrated the database.
    target::check_no_servers(&mut transaction, "the target database").await?;
    target::check_empty(&mut transaction, &tables).await?;
    let copied: Vec<DatabaseTable> = tables.into_iter().filter(DatabaseTable::is_copied).collect();
    // The row of the migration is replaced by that of the backup, and that one by another at the end.
    let has_feed = copied.iter().any(|table| table.name == "feed_state");
    if has_feed {
        transaction.execute("delete from feed_state").await?;
    }
    let expected = objects::definitions(&mut transaction).await?;
    let foreign = load_rows(&mut transaction, &tools, backup, &copied).await?;
    compare(&mut transaction, backup, &copied, foreign, &expected).await?;
    // A backup of an earlier program has no feed: a migration makes it, and an epoch, afterwards.
    if has_feed {
        feed::renew_epoch(&mut transaction).await?;
    }
    transaction.commit().await?;
    target::analyze(&mut connection, &copied).await?;
    connection.close().await?;
    Ok(())
}

/// Writes the audit record of a restore into the restored database.
///
/// # Errors
/// When the database fails.
pub async fn audit_restore(
    pool: &Pool,
    backup: &Backup,
    is_authenticated: bool,
    context: AuditContext<'_>,
) -> Result<(), Error> {
    let manifest = &backup.manifest;
    let details = serde_json::json!({
        "backupAt": manifest.at,
        "sessions": manifest.rows("session"),
        "authenticated": is_authenticated,
    });
    let mut transaction = pool.begin().await?;
    let action = AuditAction::DatabaseRestore;
    target::write_audit(&mut transaction, context, action, details).await?;
    Ok(transaction.commit().await?)
}

/// Refuses a dump that contains anything else than a dump of Muster.
async fn check_entries(tools: &Tools, backup: &Backup) -> Result<(), DumpError> {
    let (tools, path) = (tools.clone(), backup.dump());
    let list_task = tokio::task::spawn_blocking({
        let path = path.clone();
        move || process::list(&tools, &path)
    });
    let list = list_task.await.unwrap_or_else(|error| Err(panicked(backup, error)))?;
    let entries = foreign_entries(&list, backup.manifest.format);
    if entries.is_empty() { Ok(()) } else { Err(DumpError::ForeignEntries { path, entries }) }
}

/// Drops the tables that migrations created, if they hold no other rows.
async fn drop_empty_tables(connection: &mut PgConnection) -> Result<(), DumpError> {
    target::check_no_servers(connection, "the target database").await?;
    let mut transaction = connection.begin().await?;
    let tables = lock_tables(&mut transaction).await?;
    if tables.is_empty() {
        return Ok(());
    }
    target::check_empty(&mut transaction, &tables).await?;
    let names = names(&tables);
    transaction.execute(AssertSqlSafe(format!("drop table {names}"))).await?;
    let functions = content::FUNCTIONS.join(", ");
    let drop_functions = format!("drop function if exists {functions}");
    transaction.execute(AssertSqlSafe(drop_functions)).await?;
    transaction.commit().await?;
    Ok(())
}

/// Locks the tables of Muster against all other use.
async fn lock_tables(connection: &mut PgConnection) -> Result<Vec<DatabaseTable>, Error> {
    let tables = content::tables(connection).await?;
    if !tables.is_empty() {
        let lock = format!("lock table {} in access exclusive mode", names(&tables));
        connection.execute(AssertSqlSafe(lock)).await?;
    }
    Ok(tables)
}

fn names(tables: &[DatabaseTable]) -> String {
    let names: Vec<String> =
        tables.iter().map(|table| content::quote_identifier(&table.name)).collect();
    names.join(", ")
}

/// Loads the rows of the dump. A thread decodes them meanwhile.
async fn load_rows(
    connection: &mut PgConnection,
    tools: &Tools,
    backup: &Backup,
    tables: &[DatabaseTable],
) -> Result<Vec<ForeignColumn>, DumpError> {
    let detached = load::detach(connection, tables).await?;
    let (sender, mut parts) = mpsc::channel(MAX_QUEUED_PARTS);
    let (tools, path, dump) = (tools.clone(), backup.dump(), backup.manifest.dump.clone());
    let decode_task = tokio::task::spawn_blocking(move || {
        process::rows(&tools, &path, &dump, |output| {
            let mut output = BufReader::with_capacity(1 << 16, output);
            let read = script::read(&mut output, |part| sender.blocking_send(part).is_ok());
            read.map_err(|error| match error {
                ScriptError::Io(error) => DumpError::file("read", &path)(error),
                other => DumpError::damaged(&path, other.to_string()),
            })
        })
    });
    let loaded = load::load(connection, tables, &mut parts).await;
    // The thread ends if its parts are not accepted.
    drop(parts);
    let decoded = decode_task.await.unwrap_or_else(|error| Err(panicked(backup, error)));
    let foreign = loaded?;
    decoded?;
    load::attach(connection, detached).await?;
    Ok(foreign)
}

/// Compares the rows with the manifest, and the schema with that of the migrations. Drops the columns
/// that are not Muster's.
async fn compare(
    connection: &mut PgConnection,
    backup: &Backup,
    tables: &[DatabaseTable],
    foreign: Vec<ForeignColumn>,
    expected: &[String],
) -> Result<(), DumpError> {
    let found = content::summarize(connection, tables).await?;
    let mut differences = content::diff(&backup.manifest.tables, &found);
    if !differences.is_empty() && !foreign.is_empty() {
        let tables = load::with_foreign_columns(tables, &foreign);
        let expected = &backup.manifest.tables;
        let mut found = found;
        for (name, summary) in content::summarize(connection, &tables).await? {
            if found.get(&name) != expected.get(&name) {
                found.insert(name, summary);
            }
        }
        differences = content::diff(expected, &found);
    }
    for column in foreign {
        column.drop(connection).await?;
    }
    let definitions = objects::definitions(connection).await?;
    if definitions != expected {
        let foreign = definitions.iter().filter(|found| !expected.contains(found));
        let missing = expected.iter().filter(|known| !definitions.contains(known));
        differences.extend(foreign.map(|found| format!("the schema has {found}")));
        differences.extend(missing.map(|known| format!("the schema lacks {known}")));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let remedy = "Nothing was restored: use another backup";
    Err(DumpError::Differs { from: "the backup", differences, remedy })
}

fn panicked(backup: &Backup, error: tokio::task::JoinError) -> DumpError {
    DumpError::file("read", backup.dump())(io::Error::other(error))
}
