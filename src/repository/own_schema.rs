//! The schema of Muster's tables.
//!
//! Statements name no schema, so PostgreSQL searches for each table along `search_path`. A statement
//! that creates or lists tables needs one schema: that of the tables which exist. It is not always
//! the first one of the path: a schema named like the role, made later, comes before `public`.

use sqlx::postgres::PgConnection;

use super::Error;

/// Makes the schema of Muster's tables the current one of this connection. Without tables, the current
/// schema is the one in which migrations create them.
///
/// # Errors
/// When the database fails.
pub async fn select(connection: &mut PgConnection) -> Result<(), Error> {
    // The table belongs to sqlx and exists only after the first migration.
    sqlx::query(
        "select set_config('search_path', format('%I, %s', nspname, current_setting('search_path')), false)
         from pg_class join pg_namespace on pg_namespace.oid = relnamespace
         where pg_class.oid = to_regclass('_sqlx_migrations')",
    )
    .execute(connection)
    .await?;
    Ok(())
}
