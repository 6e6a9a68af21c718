//! Connections for work without a time limit.
//!
//! Such a connection has fixed settings for values as text, because checksums depend on the text.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Executor as _};

use crate::repository::{Error, Pool};

/// Options for a connection without a time limit for statements.
pub(super) fn without_timeouts(pool: &Pool) -> PgConnectOptions {
    pool.connect_options().as_ref().clone().application_name("muster copy").options([
        ("statement_timeout", "0"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "0"),
    ])
}

/// Opens a connection outside of the pool, so that a lost one is not silently replaced by another.
pub(super) async fn connect(pool: &Pool) -> Result<PgConnection, Error> {
    let mut connection = without_timeouts(pool).disable_statement_logging().connect().await?;
    connection
        .execute(
            "set timezone = 'UTC'; set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres';
             set extra_float_digits = 1; set bytea_output = 'hex'",
        )
        .await?;
    Ok(connection)
}
