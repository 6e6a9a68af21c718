//! A page of all changes: their rows in the order of one index, without the conditions of a filter.
//!
//! PostgreSQL sends each row as soon as it has read it, because no step of the statement needs all of
//! them. The positions of the page come in a row of their own, after the changes.

use sqlx::postgres::PgRow;
use sqlx::{Executor as _, Row as _};
use uuid::Uuid;

use super::filter::to_i64;
use super::request::{EnterprisePosition, FeedPageRequest, FeedPart};
use super::row::{change, lag, seq};
use crate::domain::{FeedEvent, SessionId};
use crate::repository::connections::persistent::Persistent;
use crate::repository::error::corrupt;
use crate::repository::history::{StoredContent, StoredEvent};
use crate::repository::sessions::StoredChanges;
use crate::repository::{Error, Pool};

/// Reads a page of all changes.
pub(super) async fn fetch(pool: &Pool, request: &FeedPageRequest<'_>) -> Result<FeedPart, Error> {
    let statement = sqlx::query!(
        r#"
        with page as (
            select number, seq, session_id, version, kind, operator, app_id, reason, changes,
                   attributes, created_at, bytes
            from (
                -- Without an order, the rows need not be sorted. Their order decides only how many
                -- of them fit.
                select *, sum(octet_length(changes) + coalesce(octet_length(attributes), 0))
                              over (rows unbounded preceding) as bytes
                from (
                    select number, seq, session_id, version, kind, operator, app_id, reason,
                           changes::text as changes, attributes::text as attributes, created_at
                    from (
                        -- The stored size costs no decompression.
                        select *, row_number() over in_order as number,
                               sum(stored_size) over in_order as stored_bytes
                        from (
                            select seq, session_id, version, kind, app_id
                            from feed
                            where buin = $1 and seq > $2
                            order by buin, seq
                            limit $3::bigint
                        ) as change
                        cross join lateral (
                            select operator, reason, changes, attributes, created_at,
                                   pg_column_size(changes)
                                       + coalesce(pg_column_size(attributes), 0) as stored_size
                            from session_event
                            where session_event.session_id = change.session_id
                              and session_event.version = change.version
                            offset 0
                        ) as event
                        window in_order as (order by seq rows unbounded preceding)
                    ) as stored
                    where number = 1 or stored_bytes <= $4::bigint
                    offset 0
                ) as detailed
            ) as measured
            where number = 1 or bytes <= $4
        )
        select number, seq, session_id, version, kind, operator, app_id, reason, changes,
               attributes, created_at, bytes::bigint,
               null::uuid as epoch, null::uuid as start_id, null::bigint as start_version,
               null::bigint as head_seq, null::uuid as head_id, null::bigint as head_version,
               null::float8 as lag
        from page
        union all
        select null, null, null, null, null, null, null, null, null, null, null, null,
               epoch, start.session_id, start.version, head.seq, head.session_id, head.version,
               following.age
        from feed_state
        left join lateral (
            select seq, session_id, version
            from feed
            where buin = $1
            order by buin desc, seq desc
            limit 1
        ) as head on true
        left join lateral (
            select session_id, version
            from feed
            where buin = $1 and seq = $2
            offset 0
        ) as start on true
        left join lateral (
            select extract(epoch from clock_timestamp() - sequenced_at)::float8 as age
            from feed
            where buin = $1 and seq = (select max(seq) from page) + 1
            offset 0
        ) as following on true
        "#,
        request.buin.get(),
        request.after.get(),
        to_i64(request.limit),
        to_i64(request.max_bytes),
    );
    part(&pool.fetch_all(Persistent(statement)).await?)
}

fn part(rows: &[PgRow]) -> Result<FeedPart, Error> {
    let mut numbered = Vec::with_capacity(rows.len());
    let mut positions = None;
    for row in rows {
        match row.try_get::<Option<i64>, _>(0)? {
            Some(number) => numbered.push((number, row)),
            None => positions = Some(row),
        }
    }
    // The statement sends the rows in this order, and SQL does not promise it.
    numbered.sort_unstable_by_key(|(number, _)| *number);
    let complete = (1..).zip(&numbered).take_while(|(expected, (number, _))| expected == number);
    let rows: Vec<&PgRow> = complete.map(|(_, (_, row))| *row).collect();
    let events = rows.iter().map(|row| event(row)).collect::<Result<Vec<_>, _>>()?;
    let bytes: Option<i64> = rows.last().map(|row| row.try_get(11)).transpose()?;
    let positions = positions.ok_or(sqlx::Error::RowNotFound)?;
    let head: Option<i64> = positions.try_get(15)?;
    let head = EnterprisePosition {
        seq: seq(head.unwrap_or_default())?,
        change: change(positions.try_get(16)?, positions.try_get(17)?)?,
    };
    // A page without changes ends at the head.
    let next = events.last().map_or(head, |event: &FeedEvent| EnterprisePosition {
        seq: event.seq,
        change: Some((event.session_id, event.event.version)),
    });
    Ok(FeedPart {
        epoch: positions.try_get(12)?,
        start: change(positions.try_get(13)?, positions.try_get(14)?)?,
        events,
        bytes: usize::try_from(bytes.unwrap_or_default()).unwrap_or(usize::MAX),
        next,
        head,
        lag: lag(positions.try_get(18)?),
    })
}

fn event(row: &PgRow) -> Result<FeedEvent, Error> {
    let text: &str = row.try_get(8)?;
    let changes: StoredChanges<'_> =
        serde_json::from_str(text).map_err(corrupt("session_event", "changes", text))?;
    let attributes = row.try_get::<Option<&str>, _>(9)?.map(|text| {
        serde_json::from_str(text).map_err(corrupt("session_event", "attributes", text))
    });
    let event = StoredEvent {
        version: row.try_get(3)?,
        kind: row.try_get(4)?,
        app_id: row.try_get(6)?,
        content: StoredContent {
            operator: row.try_get(5)?,
            reason: row.try_get(7)?,
            changes,
            attributes: attributes.transpose()?,
            created_at: row.try_get(10)?,
        },
    };
    let session_id = SessionId::new(row.try_get::<Uuid, _>(2)?);
    Ok(FeedEvent { seq: seq(row.try_get(1)?)?, session_id, event: event.try_into()? })
}
