//! The current versions of many sessions, without their content. The statements read narrow rows, a
//! bounded number at a time.
//!
//! The surprise: no index holds the version, so each lookup reads the row of its session. With the
//! version in an index, no update of a session could keep its index entries.

use uuid::Uuid;

use super::stored::version;
use crate::domain::{Buin, SessionId, SessionVersion, Version};
use crate::repository::{Error, Pool};

/// Reads the current versions of those sessions whose versions differ from the given ones, in the
/// given order. `None` stands for a session that the enterprise does not have.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn find_differing(
    pool: &Pool,
    buin: Buin,
    expected: &[SessionVersion],
) -> Result<Vec<(SessionVersion, Option<Version>)>, Error> {
    let ids: Vec<Uuid> = expected.iter().map(|session| session.id.uuid()).collect();
    let versions: Vec<i64> = expected.iter().map(|session| session.version.get()).collect();
    let rows = sqlx::query!(
        r#"
        select number as "number!", current.version as "version?"
        from unnest($2::uuid[], $3::bigint[])
             with ordinality as item (session_id, expected_version, number)
        left join lateral (
            select version from session
            where session.session_id = item.session_id and buin = $1
            offset 0
        ) as current on true
        where current.version is distinct from expected_version
        order by number
        "#,
        buin.get(),
        &ids,
        &versions,
    )
    .fetch_all(pool)
    .await?;
    let differing = rows.into_iter().filter_map(|row| {
        let index = usize::try_from(row.number).ok()?.checked_sub(1)?;
        let session = *expected.get(index)?;
        let current = row.version.map(|number| version("session", number)).transpose();
        Some(current.map(|current| (session, current)))
    });
    differing.collect()
}

/// Reads the versions of the sessions of an enterprise after the id `after`, in the order of their ids,
/// at most `limit` of them.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn versions_after(
    pool: &Pool,
    buin: Buin,
    after: SessionId,
    limit: usize,
) -> Result<Vec<SessionVersion>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // One window for each state, merged in order, because the index begins with the state.
    let rows = sqlx::query!(
        r#"
        select session_id as "session_id!", version as "version!"
        from unnest(array['active', 'dissolved']) as known_state (name)
        cross join lateral (
            select session_id, version
            from session
            where buin = $1 and (state, session_id) > (known_state.name, $2)
              and state <= known_state.name
            order by state, session_id
            limit $3
        ) as state_window
        order by session_id
        limit $3
        "#,
        buin.get(),
        after.uuid(),
        limit,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let id = SessionId::new(row.session_id);
            Ok(SessionVersion { id, version: version("session", row.version)? })
        })
        .collect()
}
