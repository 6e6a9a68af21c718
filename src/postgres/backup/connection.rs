//! Connections for work that takes as long as it takes.
//!
//! They write values as text in one fixed way, wherever the database is: checksums rest on that.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Executor as _};

use crate::repository::{Error, PgPool};

/// How to connect for long work.
pub(super) fn patient(pool: &PgPool) -> PgConnectOptions {
    pool.connect_options().as_ref().clone().application_name("muster copy").options([
        ("statement_timeout", "0"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "0"),
    ])
}

/// A connection of its own: one that is lost must not be taken for another of the pool.
pub(super) async fn open(pool: &PgPool) -> Result<PgConnection, Error> {
    let mut connection = patient(pool).disable_statement_logging().connect().await?;
    connection
        .execute(
            "set timezone = 'UTC'; set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres';
             set extra_float_digits = 1; set bytea_output = 'hex'",
        )
        .await?;
    Ok(connection)
}
