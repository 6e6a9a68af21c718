//! The statements that find the change before a page: one for each source, otherwise the same.
//!
//! Each examines a bounded number of the last changes of each stream. The next one continues below them, if
//! none matches. A filter of one condition needs one statement and one change of each stream, because the
//! last change of a stream matches.

use sqlx::{Executor as _, FromRow};

use super::filter::{Filter, Source};
use super::matching::matching;
use super::previous_of_account::previous_of_account;
use super::request::FeedPageRequest;
use super::streams::with_streams;
use crate::repository::connections::persistent::Persistent;
use crate::repository::feed::role_lookup::with_role_lookups;
use crate::repository::{Error, Pool};

/// The number of changes that the first statement for several conditions examines in all streams together.
const FIRST_ROWS: i64 = 100;
/// The maximum number of changes that a statement examines.
pub(super) const MAX_EXAMINED: i64 = 10_000;

/// A search through one source, as far as it has come.
struct SourceScan {
    source: Source,
    /// The changes after this one were examined.
    before: i64,
}

/// The result of one statement.
#[derive(FromRow)]
struct Examined {
    /// The last change that matches, if any was found.
    #[sqlx(rename = "seq?")]
    seq: Option<i64>,
    /// The first change that was examined; `None` if there are no earlier ones.
    #[sqlx(rename = "bound?")]
    bound: Option<i64>,
}

/// The statement with a source that defines `share (rows)`, the number of rows that are read of each stream,
/// and `stream_row (stream, seq, session_id, version, kind, app_id)`, the last rows of each stream. The
/// source may use the arguments: those of the filter, and $8 the number of rows of all streams.
macro_rules! previous {
    ($pool:expr, $request:expr, $before:expr, $rows:expr, $($source:tt)+) => {{
        let Filter { member, owner, kind, app, session } = Filter::for_filter($request.filter);
        let statement = matching!(
            query_as!(Examined,),
            [
                "with recursive "
                $($source)+
                r#", bound as materialized (
                -- A stream that has more rows bounds the result: a match below may precede its next row.
                select max(first_seq) as seq
                from (
                    select min(seq) as first_seq
                    from stream_row
                    group by stream
                    having count(*) >= (select rows from share)
                ) as unfinished
            )
            select bound.seq as "bound?", (
                select candidate.seq
                from (
                    select *
                    from stream_row
                    where seq >= coalesce(bound.seq, 0)
                    order by seq desc
                    offset 0
                ) as candidate
                where "#
            ],
            [
                r#"
                limit 1
            ) as "seq?"
            from bound
            "#
            ],
            ($request.buin.get(), $before, member, owner, kind, app, session, $rows),
        );
        Examined::from_row(&$pool.fetch_one(Persistent(statement)).await?)?
    }};
}

/// The last change up to the start of the page that matches the filter.
///
/// The searches through several sources take turns, so the shortest one decides how many changes are
/// examined.
pub(super) async fn find(pool: &Pool, request: &FeedPageRequest<'_>) -> Result<Option<i64>, Error> {
    let scan = |source| SourceScan { source, before: request.after.get() };
    let mut scans: Vec<SourceScan> = Source::covering(request.filter).map(scan).collect();
    let mut rows = if scans.len() == 1 { 1 } else { FIRST_ROWS };
    loop {
        for scan in &mut scans {
            let Examined { seq, bound } = examine(pool, request, scan, rows).await?;
            match (seq, bound) {
                (None, Some(bound)) => scan.before = bound - 1,
                _ => return Ok(seq),
            }
        }
        rows = (rows * 10).min(MAX_EXAMINED);
    }
}

/// Runs one statement.
async fn examine(
    pool: &Pool,
    request: &FeedPageRequest<'_>,
    scan: &SourceScan,
    rows: i64,
) -> Result<Examined, Error> {
    let before = scan.before;
    Ok(match scan.source {
        Source::Feed => with_streams!(up_to, feed, previous!(pool, request, before, rows)),
        Source::Session => with_streams!(up_to, session, previous!(pool, request, before, rows)),
        Source::Member => previous_of_account!(
            pool,
            request,
            before,
            rows,
            "$3",
            "'member'",
            "session_member",
            "account"
        ),
        Source::Owner => {
            previous_of_account!(pool, request, before, rows, "$4", "'owner'", "session", "owner")
        }
        Source::Origin => with_streams!(up_to, origin, previous!(pool, request, before, rows)),
    })
}
