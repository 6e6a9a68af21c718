//! The role that each server of a database reports.
//!
//! Each server gets a connection of its own for this, also those that are not used.

use std::time::Duration;

use futures_util::future::join_all;
use sqlx::{Connection as _, Error, Row as _};
use tokio::time::timeout;

use super::database_servers::DatabaseServers;
use crate::repository::Pool;
use crate::telemetry::cause_chain;

/// The time limit for all servers, which are asked at once.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Reads the role, the position and the age of a server.
const STATE: &str = "
    select pg_is_in_recovery(),
           current_setting('transaction_read_only')::bool,
           pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                                else pg_current_wal_lsn() end, '0/0')::bigint,
           extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8";

/// The answer of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerAnswer {
    /// Whether it is a standby.
    pub is_standby: bool,
    /// Whether its transactions may not write by default.
    pub is_read_only: bool,
    /// The position in the log, in bytes, that it wrote or replayed last.
    pub position: Option<i64>,
    /// The age of the last transaction that it replayed, in seconds.
    pub replayed_age: Option<f64>,
}

/// The name of each server, in the order of the URL, and its answer, or the reason why it gave
/// none. Takes at most a second.
pub async fn ask_all(pool: &Pool) -> Vec<(String, Result<ServerAnswer, String>)> {
    let servers = pool.connector().servers();
    let answers = join_all((0..servers.len()).map(async |index| {
        let answer = timeout(TIMEOUT, ask(servers, index)).await;
        match answer {
            Ok(answer) => answer.map_err(|error| cause_chain(&error)),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }))
    .await;
    answers.into_iter().enumerate().map(|(index, answer)| (servers.name(index), answer)).collect()
}

async fn ask(servers: &DatabaseServers, index: usize) -> Result<ServerAnswer, Error> {
    let mut connection = servers.connect(index).await?;
    let row = sqlx::raw_sql(STATE).fetch_one(&mut connection).await?;
    let answer = ServerAnswer {
        is_standby: row.try_get(0)?,
        is_read_only: row.try_get(1)?,
        position: row.try_get(2)?,
        replayed_age: row.try_get(3)?,
    };
    connection.close().await?;
    Ok(answer)
}
