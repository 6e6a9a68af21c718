//! Connections for work without a time limit.
//!
//! Such a connection has fixed settings for values as text, because checksums depend on the text.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Executor as _};

use crate::repository::{Error, Pool, connections::connection_settings, own_schema};

/// Options for a connection without a time limit for statements.
///
/// # Errors
/// The connections of the pool keep no session.
pub(super) async fn without_timeouts(pool: &Pool) -> Result<PgConnectOptions, Error> {
    let options = pool.session_options().await?.as_ref().clone();
    Ok(options.application_name("muster copy").options([
        ("statement_timeout", "0"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "0"),
    ]))
}

/// Opens a connection outside of the pool, so that a lost one is not silently replaced by another. Its
/// current schema is that of Muster's tables.
pub(super) async fn connect(pool: &Pool) -> Result<PgConnection, Error> {
    let options = without_timeouts(pool).await?.disable_statement_logging();
    let mut connection = connection_settings::open(&options).await?;
    connection
        .execute(
            "set timezone = 'UTC'; set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres';
             set extra_float_digits = 1; set bytea_output = 'hex'",
        )
        .await?;
    own_schema::select(&mut connection).await?;
    Ok(connection)
}
