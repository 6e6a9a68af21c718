//! The sessions that any server has changed since an earlier position.

use chrono::{DateTime, Utc};
use sqlx::{Executor as _, FromRow, PgConnection};
use uuid::Uuid;

use crate::domain::{Buin, SessionId, Version};
use crate::repository::Error;
use crate::repository::connections::persistent::Persistent;
use crate::repository::error::corrupt;
use crate::repository::sessions::version;

/// A position in the feed: the number of a change among those of all enterprises. 0 is the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedPosition(i64);

/// A changed session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionChange {
    /// The enterprise of the session.
    pub buin: Buin,
    /// The session.
    pub id: SessionId,
    /// The version after its last change.
    pub version: Version,
}

/// The changes after a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedChanges {
    /// The position of the last change in the feed.
    pub head: FeedPosition,
    /// Every session that changed, once.
    pub sessions: Vec<SessionChange>,
    /// Whether there may be more changes than were read.
    pub is_truncated: bool,
}

/// The last position, and a changed session, if any.
#[derive(FromRow)]
struct FollowRow {
    #[sqlx(rename = "head!")]
    head: i64,
    #[sqlx(rename = "is_truncated!")]
    is_truncated: bool,
    #[sqlx(rename = "session_id?")]
    session_id: Option<Uuid>,
    #[sqlx(rename = "buin?")]
    buin: Option<i64>,
    #[sqlx(rename = "version?")]
    version: Option<i64>,
}

impl FeedPosition {
    pub(super) fn new(number: i64) -> Self {
        Self(number)
    }

    /// The position after this number of changes.
    #[cfg(test)]
    pub(crate) fn for_tests(number: i64) -> Self {
        Self(number)
    }

    /// The number. Other rooms get meanings of a position and not its number, because a database with
    /// several nodes has no single number.
    pub(super) fn get(self) -> i64 {
        self.0
    }

    /// The number of changes up to the position, for the metrics.
    #[must_use]
    pub fn change_count(self) -> i64 {
        self.0
    }

    /// The number of changes between this position and `later`; `None` if `later` is before it.
    #[must_use]
    pub fn changes_until(self, later: Self) -> Option<u64> {
        u64::try_from(later.0 - self.0).ok()
    }
}

/// The position of the last change in the feed.
///
/// # Errors
/// When the database fails.
pub async fn head(connection: &mut PgConnection) -> Result<FeedPosition, Error> {
    let last = sqlx::query_scalar!("select position from feed order by position desc limit 1")
        .fetch_optional(connection)
        .await?;
    Ok(FeedPosition(last.unwrap_or_default()))
}

/// The sessions that changed after `position`, each with its last version. Changes that wait for
/// their number are included if they are not older than `floor`, each time until they have it. At
/// most `limit` changes with and without a number are read.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn changes_since(
    connection: &mut PgConnection,
    position: FeedPosition,
    floor: DateTime<Utc>,
    limit: u32,
) -> Result<FeedChanges, Error> {
    let statement = sqlx::query_as!(
        FollowRow,
        r#"
        with head as materialized (
            select coalesce((
                select position from feed order by position desc limit 1
            ), 0) as position
        ), numbered as materialized (
            select session_id, buin, version
            from feed
            where position > $1
            order by position
            limit $3
        ), waiting as materialized (
            select written.session_id, session.buin, written.version
            from outbox
            cross join lateral unnest(session_ids, versions) as written (session_id, version)
            cross join lateral (
                select buin from session where session.session_id = written.session_id offset 0
            ) as session
            where written_at >= $2
            limit $3
        ), changed as (
            select session_id, buin, max(version) as version
            from (table numbered union all table waiting) as change
            group by session_id, buin
        )
        -- The result has at least one row, so that the head is known if no session changed.
        select head.position as "head!",
               (select count(*) from numbered) >= $3 or (select count(*) from waiting) >= $3
                   as "is_truncated!",
               changed.session_id as "session_id?", changed.buin as "buin?",
               changed.version as "version?"
        from head
        left join changed on true
        "#,
        position.0,
        floor,
        i64::from(limit),
    );
    let rows = connection.fetch_all(Persistent(statement)).await?;
    let mut found = FeedChanges {
        head: position,
        sessions: Vec::with_capacity(rows.len()),
        is_truncated: false,
    };
    for row in &rows {
        let row = FollowRow::from_row(row)?;
        found.head = FeedPosition(row.head);
        found.is_truncated = row.is_truncated;
        if let (Some(id), Some(buin), Some(number)) = (row.session_id, row.buin, row.version) {
            found.sessions.push(SessionChange {
                buin: Buin::new(buin).map_err(corrupt("feed", "buin", buin))?,
                id: SessionId::new(id),
                version: version("feed", number)?,
            });
        }
    }
    Ok(found)
}
