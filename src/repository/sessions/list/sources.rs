//! Where candidates for a page come from: one index each.
//!
//! The surprise: sources compare and sort by the account or the state as well, though it is the
//! same in all their rows. So no other index seems to give the order, such as that of the primary
//! key, which would be read past all that is of others. And there is a bound on both sides, because
//! a comparison of rows ends no scan.

use serde_json::{Map, Value};
use sqlx::types::Json;

use super::plan::{Attempt, Source};
use super::request::{MOST_MEMBERS, Search};
use super::row::Listed;
use super::seek_key::AsOf;
use super::statement::list;
use crate::domain::{Account, SortKey, State};
use crate::repository::Error;
use crate::repository::PgPool;
use crate::repository::sessions::titles;

/// Looks for a page in one way.
pub(super) async fn run(
    pool: &PgPool,
    search: &Search<'_>,
    as_of: Option<&AsOf>,
    attempt: &Attempt,
) -> Result<Vec<Listed>, Error> {
    Ok(match attempt.source {
        Source::Member => list!(
            pool,
            search,
            as_of,
            attempt,
            "
            (
                select session_id, null::timestamptz as at, true as is_place
                from session_member
                where buin = $1 and (account, session_id) < ($2, $17::uuid)
                  and account >= $2
                order by account desc, session_id desc
                limit case when $8::bool then $14::bigint else 0 end
            ) union all (
                select session_id, null, true
                from session_member
                where buin = $1 and (account, session_id) > ($2, $17)
                  and account <= $2
                order by account, session_id
                limit case when $8 then 0 else $14 end
            )
            ",
            search.begin_ids()
        ),
        Source::Owner => list!(
            pool,
            search,
            as_of,
            attempt,
            "
            (
                select session_id, null::timestamptz as at, true as is_place
                from session
                where buin = $1 and (owner, session_id) < ($3, $17::uuid)
                  and owner >= $3
                order by owner desc, session_id desc
                limit case when $8::bool then $14::bigint else 0 end
            ) union all (
                select session_id, null, true
                from session
                where buin = $1 and (owner, session_id) > ($3, $17)
                  and owner <= $3
                order by owner, session_id
                limit case when $8 then 0 else $14 end
            )
            ",
            search.begin_ids()
        ),
        // Of each state a window, then of these the first.
        Source::State => list!(
            pool,
            search,
            as_of,
            attempt,
            "
            (
                select session_id, null::timestamptz as at, true as is_place
                from unnest(array['active', 'dissolved']) as known (known)
                cross join lateral (
                    select session_id
                    from session
                    where buin = $1 and (state, session_id) < (known, $17::uuid)
                      and state >= known
                    order by state desc, session_id desc
                    limit case when $8::bool then $14::bigint else 0 end
                ) as of_state
                where $5::text is null or known = $5
                order by session_id desc
                limit case when $8::bool then $14::bigint else 0 end
            ) union all (
                select session_id, null, true
                from unnest(array['active', 'dissolved']) as known (known)
                cross join lateral (
                    select session_id
                    from session
                    where buin = $1 and (state, session_id) > (known, $17)
                      and state <= known
                    order by state, session_id
                    limit case when $8 then 0 else $14 end
                ) as of_state
                where $5::text is null or known = $5
                order by session_id
                limit case when $8 then 0 else $14 end
            )
            ",
            search.begin_ids()
        ),
        // An event is the place of its session if it counts, and the next one, if any, does not.
        // Of events of one session and time the last comes first in both directions: where a page
        // ends among them, the next goes on behind them all.
        Source::Time => list!(
            pool,
            search,
            as_of,
            attempt,
            "
            select session_id, created_at as at,
                   (created_at < $11::timestamptz or pg_visible_in_snapshot(xid, $12::text::pg_snapshot))
                   and not exists (
                       select from session_event as later
                       where later.session_id = event.session_id
                         and later.version = event.version + 1
                         and (later.created_at < $11
                              or pg_visible_in_snapshot(later.xid, $12::text::pg_snapshot))
                       offset 0
                   ) as is_place
            from (
                (
                    select session_id, version, created_at, xid
                    from session_event
                    where buin = $1 and (created_at, session_id) < ($9::timestamptz, $10::uuid)
                      and created_at >= coalesce($6::timestamptz, '-infinity')
                    order by created_at desc, session_id desc, version desc
                    limit case when $8::bool then $14::bigint else 0 end
                ) union all (
                    select session_id, version, created_at, xid
                    from session_event
                    where buin = $1 and (created_at, session_id) > ($9, $10)
                      and created_at >= coalesce($6::timestamptz, '-infinity')
                    order by created_at, session_id, version desc
                    limit case when $8 then 0 else $14 end
                )
            ) as event
            "
        ),
        // Said twice, and not as a value, so that it is planned as something rare: nothing else than
        // the index is of use here, how common the grams may be.
        Source::Title => list!(
            pool,
            search,
            as_of,
            attempt,
            "
            select session_id, null::timestamptz as at, true as is_place
            from session_title
            where grams @> (select $17::bigint[]) and grams @> (select $17::bigint[])
            limit $14::bigint
            ",
            &filter_grams(search)
        ),
        // The last event of a session stands for it.
        Source::Since => list!(
            pool,
            search,
            as_of,
            attempt,
            "
            select session_id, null::timestamptz as at, not exists (
                       select from session_event as later
                       where later.session_id = event.session_id
                         and later.version = event.version + 1
                       offset 0
                   ) as is_place
            from (
                select session_id, version
                from session_event
                where buin = $1 and created_at >= $6::timestamptz
                order by buin, created_at
                limit $14::bigint
            ) as event
            "
        ),
    })
}

fn filter_grams(search: &Search<'_>) -> Vec<i64> {
    let part = search.filter.title.as_ref();
    part.map(|part| titles::grams_of_part(&titles::folded(part.as_str()))).unwrap_or_default()
}
