//! The changes that have no number yet.

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, Row as _};
use uuid::Uuid;

use crate::repository::Error;
use crate::repository::connections::persistent::Persistent;

/// The oldest row that waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OldestOutboxRow {
    /// The id of the row.
    pub id: Uuid,
    /// The time of the statement that wrote it.
    pub written_at: DateTime<Utc>,
    /// Its age by the clock of the database, in seconds.
    pub age: f64,
}

/// The oldest row since `floor`, and the process of PostgreSQL that serves the leader, if there is
/// one.
///
/// # Errors
/// When the database fails.
pub async fn oldest(
    executor: impl PgExecutor<'_>,
    floor: DateTime<Utc>,
) -> Result<(Option<OldestOutboxRow>, Option<i32>), Error> {
    let statement = sqlx::query!(
        r#"
        select oldest.outbox_id as "id?", oldest.written_at as "written_at?",
               extract(epoch from clock_timestamp() - oldest.written_at)::float8 as age,
               leader.pid as leader
        from (
            select (
                select pid
                from pg_locks
                where locktype = 'advisory' and granted and objsubid = 1
                  and database = (select oid from pg_database where datname = current_database())
                  and classid = x'4d757374'::int::oid and objid = 'outbox'::regclass::oid
                limit 1
            ) as pid
        ) as leader
        left join lateral (
            select outbox_id, written_at
            from outbox
            where written_at >= $1
            order by written_at, outbox_id
            limit 1
        ) as oldest on true
        "#,
        floor,
    );
    let row = executor.fetch_one(Persistent(statement)).await?;
    let (id, written_at, age): (Option<Uuid>, _, _) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let oldest = id.zip(written_at).zip(age);
    let oldest = oldest.map(|((id, written_at), age)| OldestOutboxRow { id, written_at, age });
    Ok((oldest, row.try_get(3)?))
}
