//! Reads and locks whole sessions.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::types::Json;
use sqlx::{Executor as _, FromRow, PgConnection, PgExecutor, Row as _};
use uuid::Uuid;

use super::stored::SessionRow;
use crate::domain::{Buin, Session, SessionId};
use crate::repository::connections::persistent::Persistent;
use crate::repository::{Error, Pool};

/// The largest total number of members of the sessions in one result. The bytes of
/// `Attributes::BYTES_PER_MEMBER` count as a member. The first session may exceed it. An account has at most
/// 256 bytes, so such a result has at most about 2.6 MB.
pub(super) const MAX_MEMBERS: i64 = 10_000;

/// The sessions of a request for many, as far as they fit into one result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BoundedSessions {
    /// The sessions, in the requested order.
    pub sessions: Vec<Session>,
    /// The sessions that exist, but did not fit; also in this order.
    pub remaining: Vec<SessionId>,
}

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

/// Reads sessions of an enterprise, in the order of `ids`, until the next one does not fit into the
/// result. An unknown id is left out.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn find_bounded(
    pool: &Pool,
    buin: Buin,
    ids: &[SessionId],
) -> Result<BoundedSessions, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let statement = sqlx::query_as!(
        FoundRow,
        r#"
        with found as (
            select session_id, number, sum(members) over (order by number) as total_members,
                   row_number() over (order by number) as rank
            from unnest($2::uuid[]) with ordinality as requested (session_id, number)
            cross join lateral (
                -- 256 bytes of attributes count as one member.
                select member_count + octet_length(attributes::text) / 256 as members
                from session
                where session.session_id = requested.session_id and buin = $1
                offset 0
            ) as size
        )
        select found.session_id as "found_id!", buin as "buin?", title as "title?",
               owner as "owner?", version as "version?", state as "state?",
               created_at as "created_at?", updated_at as "updated_at?",
               attributes as "attributes?: Json<Map<String, Value>>", members as "members?"
        from found
        left join lateral (
            select buin, title, owner, version, state, created_at, updated_at, attributes,
                   array(
                       select account from session_member
                       where session_member.session_id = found.session_id
                       order by joined_version, position
                   ) as members
            from session
            where session.session_id = found.session_id and (rank = 1 or total_members <= $3)
            offset 0
        ) as session on true
        order by number
        "#,
        buin.get(),
        &ids,
        MAX_MEMBERS,
    );
    let mut found = BoundedSessions::default();
    for row in pool.fetch_all(Persistent(statement)).await? {
        let row = FoundRow::from_row(&row)?;
        let id = SessionId::new(row.found_id);
        match row.session() {
            Some(session) => found.sessions.push(session.try_into()?),
            None => found.remaining.push(id),
        }
    }
    Ok(found)
}

/// A session that exists, and its content if it fits. The column names are those of the statement.
#[derive(FromRow)]
struct FoundRow {
    #[sqlx(rename = "found_id!")]
    found_id: Uuid,
    #[sqlx(rename = "buin?")]
    buin: Option<i64>,
    #[sqlx(rename = "title?")]
    title: Option<String>,
    #[sqlx(rename = "owner?")]
    owner: Option<String>,
    #[sqlx(rename = "version?")]
    version: Option<i64>,
    #[sqlx(rename = "state?")]
    state: Option<String>,
    #[sqlx(rename = "created_at?")]
    created_at: Option<DateTime<Utc>>,
    #[sqlx(rename = "updated_at?")]
    updated_at: Option<DateTime<Utc>>,
    #[sqlx(rename = "attributes?: Json<Map<String, Value>>")]
    attributes: Option<Json<Map<String, Value>>>,
    #[sqlx(rename = "members?")]
    members: Option<Vec<String>>,
}

impl FoundRow {
    fn session(self) -> Option<SessionRow> {
        Some(SessionRow {
            session_id: self.found_id,
            buin: self.buin?,
            title: self.title?,
            owner: self.owner?,
            version: self.version?,
            state: self.state?,
            attributes: self.attributes?,
            members: self.members?,
            created_at: self.created_at?,
            updated_at: self.updated_at?,
        })
    }
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
