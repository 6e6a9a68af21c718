//! Reads and locks whole sessions.

use serde_json::{Map, Value};
use sqlx::types::Json;
use sqlx::{Executor as _, FromRow as _, PgConnection, PgExecutor, Row as _};
use uuid::Uuid;

use super::stored::SessionRow;
use crate::domain::{Session, SessionId};
use crate::repository::Error;
use crate::repository::persistent::Persistent;

/// Reads sessions, in no order. An unknown id is left out. An invalid row is an error of this
/// session only.
///
/// # Errors
/// When the database fails.
pub async fn find(
    executor: impl PgExecutor<'_>,
    ids: &[SessionId],
) -> Result<Vec<(SessionId, Result<Session, Error>)>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let statement = sqlx::query_as!(
        SessionRow,
        r#"
        select session_id, buin, title, owner, version, state, created_at, updated_at,
               attributes as "attributes: Json<Map<String, Value>>",
               array(
                   select account from session_member
                   where session_member.session_id = session.session_id
                   order by joined_version, position
               ) as "members!"
        from session
        where session_id = any($1)
        "#,
        &ids
    );
    let rows = executor.fetch_all(Persistent(statement)).await?;
    let found = rows.iter().map(|row| {
        let id = SessionId::new(row.try_get("session_id")?);
        Ok((id, SessionRow::from_row(row).map_err(Error::from).and_then(Session::try_from)))
    });
    found.collect()
}

/// Locks sessions until the transaction ends.
///
/// # Errors
/// When the database fails.
pub async fn lock(connection: &mut PgConnection, ids: &[SessionId]) -> Result<(), Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    // The order is fixed, so that two servers cannot deadlock.
    let statement = sqlx::query_scalar!(
        r#"
        select session_id from session
        where session_id = any($1)
        order by session_id
        for update
        "#,
        &ids
    );
    connection.fetch_all(Persistent(statement)).await?;
    Ok(())
}
