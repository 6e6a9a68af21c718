//! The sources of candidates for a page, one index each.
//!
//! The surprise: sources also compare and sort by the account or the state, though it is the same
//! in all their rows. Otherwise the planner would choose another index, such as the primary key,
//! for the order, and would read the rows of all other accounts. Each range has a bound on both
//! sides, because a comparison of rows does not end a scan.

use serde_json::{Map, Value};
use sqlx::types::Json;

use super::bounds::ListBounds;
use super::plan::{IndexSource, PlanStep};
use super::request::ListRequest;
use super::row::CandidateRow;
use super::statement::list;
use crate::domain::{Account, SortKey, State};
use crate::repository::Error;
use crate::repository::Pool;
use crate::repository::sessions::read::MAX_MEMBERS;
use crate::repository::sessions::titles;

/// Runs one step.
pub(super) async fn fetch(
    pool: &Pool,
    request: &ListRequest<'_>,
    bounds: &ListBounds,
    step: &PlanStep,
) -> Result<Vec<CandidateRow>, Error> {
    let folded = request.filter.title.as_ref().map(|part| titles::fold(part.as_str()));
    let title_pairs = folded.as_deref().map(titles::pairs).unwrap_or_default();
    Ok(match step.source {
        IndexSource::Member => list!(
            pool,
            request,
            bounds,
            step,
            "
            (
                select session_id, null::timestamptz as changed_at, true as represents_session
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
            request.start_id()
        ),
        IndexSource::Owner => list!(
            pool,
            request,
            bounds,
            step,
            "
            (
                select session_id, null::timestamptz as changed_at, true as represents_session
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
            request.start_id()
        ),
        // One window per state, merged in order.
        IndexSource::State => list!(
            pool,
            request,
            bounds,
            step,
            "
            (
                select session_id, null::timestamptz as changed_at, true as represents_session
                from unnest(array['active', 'dissolved']) as known_state (name)
                cross join lateral (
                    select session_id
                    from session
                    where buin = $1 and (state, session_id) < (known_state.name, $17::uuid)
                      and state >= known_state.name
                    order by state desc, session_id desc
                    limit case when $8::bool then $14::bigint else 0 end
                ) as state_window
                where $5::text is null or known_state.name = $5
                order by session_id desc
                limit case when $8::bool then $14::bigint else 0 end
            ) union all (
                select session_id, null, true
                from unnest(array['active', 'dissolved']) as known_state (name)
                cross join lateral (
                    select session_id
                    from session
                    where buin = $1 and (state, session_id) > (known_state.name, $17)
                      and state <= known_state.name
                    order by state, session_id
                    limit case when $8 then 0 else $14 end
                ) as state_window
                where $5::text is null or known_state.name = $5
                order by session_id
                limit case when $8 then 0 else $14 end
            )
            ",
            request.start_id()
        ),
        // An event is the position of its session if it is the last one up to the horizon. Among
        // events of one session with the same time, the last comes first in both directions. So the
        // next page continues after all of them if a page ends among them.
        IndexSource::Time => list!(
            pool,
            request,
            bounds,
            step,
            "
            select session_id, created_at as changed_at, not exists (
                       select from session_event as later
                       where later.session_id = event.session_id
                         and later.version = event.version + 1
                         and later.created_at <= $11
                       offset 0
                   ) as represents_session
            from (
                (
                    select session_id, version, created_at
                    from session_event
                    where buin = $1 and (created_at, session_id) < ($9::timestamptz, $10::uuid)
                      and created_at >= coalesce($6::timestamptz, '-infinity')
                      and created_at <= $11::timestamptz
                    order by created_at desc, session_id desc, version desc
                    limit case when $8::bool then $14::bigint else 0 end
                ) union all (
                    select session_id, version, created_at
                    from session_event
                    where buin = $1 and (created_at, session_id) > ($9, $10)
                      and created_at >= coalesce($6::timestamptz, '-infinity')
                      and created_at <= $11
                    order by created_at, session_id, version desc
                    limit case when $8 then 0 else $14 end
                )
            ) as event
            "
        ),
        // The searched texts are subqueries, so that the planner expects few rows. Only this index is
        // useful, for common pairs too.
        IndexSource::Title => list!(
            pool,
            request,
            bounds,
            step,
            "
            select session_id, null::timestamptz as changed_at, true as represents_session
            from session_title
            where (array[
                      buin::text || ':',
                      buin::text || ':' || left(session_id::text, 3),
                      buin::text || ':' || left(session_id::text, 4),
                      buin::text || ':' || left(session_id::text, 5)
                  ] collate \"C\") @> (select array[$1::bigint::text || ':'])
              and ((
                      string_to_array(
                          regexp_replace(folded, '(.)(.)', '\\1\\2' || chr(1), 'g') || chr(1)
                              || regexp_replace(substr(folded, 2), '(.)(.)', '\\1\\2' || chr(1), 'g'),
                          chr(1)
                      ) || string_to_array(folded, null)
                  ) collate \"C\") @> (select $17::text[])
            limit $14::bigint
            ",
            &title_pairs as &[&str]
        ),
        // The last event of a session represents it.
        IndexSource::Since => list!(
            pool,
            request,
            bounds,
            step,
            "
            select session_id, null::timestamptz as changed_at, not exists (
                       select from session_event as later
                       where later.session_id = event.session_id
                         and later.version = event.version + 1
                       offset 0
                   ) as represents_session
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
