//! The statements of pages: one for each source of candidates, otherwise the same.
//!
//! The surprise: `offset 0` keeps the planner from replacing lookups by key with a scan of a whole
//! table.

use serde_json::{Map, Value};
use sqlx::Executor as _;
use sqlx::types::Json;

use super::filter::{Filter, Source, to_i64};
use super::matching::matching;
use super::page_of_account::page_of_account;
use super::request::{FeedPageRequest, FeedPart};
use super::row::{self, PageRow};
use super::streams::with_streams;
use super::unfiltered;
use crate::repository::connections::persistent::Persistent;
use crate::repository::feed::role_lookup::with_role_lookups;
use crate::repository::sessions::StoredChanges;
use crate::repository::{Error, Pool};

/// The statement of a page with a source that defines `share (rows)`, the number of rows that are
/// read of each stream, and `stream_row (stream, seq, session_id, version, kind, app_id)`. The source
/// may use `head` and the arguments: those of the filter, $8 the rows of a single stream, $9 the number of
/// changes, $10 their size.
macro_rules! page {
    ($pool:expr, $request:expr, $rows:expr, $($source:tt)+) => {{
        let Filter { member, owner, kind, app, session } = Filter::for_filter($request.filter);
        let statement = matching!(
            query_as!(PageRow,),
            [
                r#"
            with recursive head as materialized (
                select seq, session_id, version
                from feed
                where buin = $1
                order by buin desc, seq desc
                limit 1
            ), "#
                $($source)+
                r#", complete as materialized (
                -- A stream that has more rows bounds the page. `least` ignores null.
                select least((
                    select min(last_seq)
                    from (
                        select max(seq) as last_seq
                        from stream_row
                        group by stream
                        having count(*) >= (select rows from share)
                    ) as unfinished
                ), (select seq from head)) as seq
            ), matched as materialized (
                select seq, session_id, version, kind, app_id
                from (
                    select *
                    from stream_row
                    where seq <= (select seq from complete)
                    order by seq
                    offset 0
                ) as candidate
                where "#
            ],
            [
                r#"
                limit $9::bigint
            ), stored as (
                -- The stored size costs no decompression.
                select matched.*, event.*, row_number() over in_order as number,
                       sum(stored_size) over in_order as stored_bytes
                from matched
                cross join lateral (
                    select operator, reason, changes, attributes, created_at,
                           pg_column_size(changes) + coalesce(pg_column_size(attributes), 0)
                               as stored_size
                    from session_event
                    where session_event.session_id = matched.session_id
                      and session_event.version = matched.version
                    offset 0
                ) as event
                window in_order as (order by seq)
            ), detailed as (
                select *, sum(
                           octet_length(changes::text)
                               + coalesce(octet_length(attributes::text), 0)
                       ) over (order by seq) as bytes
                from stored
                where number = 1 or stored_bytes <= $10::bigint
            ), page as materialized (
                select * from detailed where number = 1 or bytes <= $10
            ), page_end as materialized (
                select case
                    when count(*) >= $9 or count(*) < (select count(*) from matched) then max(seq)
                    else (select seq from complete)
                end as seq
                from page
            )
            -- The result has at least one row, so that the positions are known if no change matches.
            select epoch, start.session_id as "start_id?", start.version as "start_version?",
                   head.seq as "head_seq?", head.session_id as "head_id?",
                   head.version as "head_version?",
                   next.seq as "next_seq?", next.session_id as "next_id?",
                   next.version as "next_version?", following.age as "lag?",
                   page.seq as "seq?", page.session_id as "session_id?",
                   page.version as "version?", page.kind as "kind?",
                   page.operator as "operator?", page.app_id as "app_id?",
                   page.reason as "reason?",
                   page.changes as "changes?: Json<StoredChanges<'static>>",
                   page.attributes as "attributes?: Json<Map<String, Value>>",
                   page.created_at as "created_at?", page.bytes::bigint as "bytes?"
            from feed_state
            left join head on true
            left join lateral (
                select session_id, version
                from feed
                where buin = $1 and seq = $2
                offset 0
            ) as start on true
            left join lateral (
                select seq, session_id, version
                from feed
                where buin = $1 and seq = (select seq from page_end)
                offset 0
            ) as next on true
            left join lateral (
                select extract(epoch from clock_timestamp() - sequenced_at)::float8 as age
                from feed
                where buin = $1 and seq = (select seq from page_end) + 1
                offset 0
            ) as following on true
            left join page on true
            order by page.seq
            "#
            ],
            (
                $request.buin.get(),
                $request.after.get(),
                member,
                owner,
                kind,
                app,
                session,
                $rows,
                to_i64($request.limit),
                to_i64($request.max_bytes),
            ),
        );
        $pool.fetch_all(Persistent(statement)).await?
    }};
}

/// Runs the statement of a page.
pub(super) async fn fetch(pool: &Pool, request: &FeedPageRequest<'_>) -> Result<FeedPart, Error> {
    let (source, rows) = Source::choose(request);
    row::part(match source {
        Source::Feed => return unfiltered::fetch(pool, request).await,
        Source::Session => with_streams!(after, session, page!(pool, request, rows)),
        Source::Member => {
            page_of_account!(pool, request, rows, "$3", "'member'", "session_member", "account")
        }
        Source::Owner => page_of_account!(pool, request, rows, "$4", "'owner'", "session", "owner"),
        Source::Origin => with_streams!(after, origin, page!(pool, request, rows)),
    })
}
