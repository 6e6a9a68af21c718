//! Sessions as they were at some of their versions.

use serde_json::{Map, Value};
use sqlx::types::Json;
use sqlx::{Executor as _, FromRow as _};

use super::UpTo;
use crate::domain::{Account, Buin, Session, SessionId};
use crate::repository::connections::persistent::Persistent;
use crate::repository::sessions::SessionRow;
use crate::repository::{Error, Pool};

/// Reads the last snapshot of a session in a part of its history.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn find_snapshot(
    pool: &Pool,
    buin: Buin,
    id: SessionId,
    up_to: UpTo,
) -> Result<Option<Session>, Error> {
    let (version, at) = up_to.bounds();
    let statement = sqlx::query_as!(
        SessionRow,
        r#"
        select session_id, buin, title, owner, version, state, created_at, updated_at,
               attributes as "attributes: Json<Map<String, Value>>", members as "members!"
        from session_snapshot
        where session_id = $1 and buin = $2 and version <= $3
          and updated_at <= coalesce($4::timestamptz, 'infinity')
        order by version desc
        limit 1
        "#,
        id.uuid(),
        buin.get(),
        version,
        at,
    );
    let row = pool.fetch_optional(Persistent(statement)).await?;
    row.map(|row| SessionRow::from_row(&row)?.into_session("session_snapshot")).transpose()
}

/// Stores a session as a snapshot of its version, unless one exists.
///
/// # Errors
/// When the database fails.
pub async fn insert_snapshot(pool: &Pool, session: &Session) -> Result<(), Error> {
    let members: Vec<&str> = session.members.iter().map(Account::as_str).collect();
    let statement = sqlx::query!(
        r#"
        insert into session_snapshot (
            session_id, version, buin, title, owner, state, members, attributes, created_at,
            updated_at
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        on conflict do nothing
        "#,
        session.id.uuid(),
        session.version.get(),
        session.buin.get(),
        session.title.as_str(),
        session.owner.as_str(),
        session.state.name(),
        &members as &[&str],
        Json(session.attributes.as_map()) as _,
        session.created_at,
        session.updated_at,
    );
    pool.execute(Persistent(statement)).await?;
    Ok(())
}
