//! The statement that lists sessions: one per source of candidates, otherwise the same.
//!
//! A source yields candidates from an index, at most one window. Each candidate is looked up by its
//! key and compared with all filters. The first matches make the page. The surprise: `offset 0`
//! keeps the planner from replacing lookups by key with a scan of a whole table, and `limit 0`
//! switches off the direction that was not requested.

/// The statement with a source that selects `session_id`, `changed_at` (the position in a list by
/// change, if the source knows it) and `represents_session` (whether the row represents its
/// session, of which the source may have several rows). The source may use the arguments of the
/// statement: $1 buin, $2 member, $3 owner, $4 part of the title, $5 state, $6 changed since, $7 by
/// change, $8 newest first, $9 and $10 the position to begin after, $11 the latest position in a list
/// by change, $12 the latest change of a session, $14 the window. Its own arguments begin with $17.
macro_rules! list {
    ($pool:expr, $request:expr, $bounds:expr, $step:expr, $source:literal $(, $argument:expr)?) => {{
        let (filter, (at, id)) = ($request.filter, $request.start());
        let ListBounds { updated_until, complete_until } = $bounds;
        sqlx::query_as!(
            CandidateRow,
            "with candidate as materialized (" + $source + ")" + r#"
            , matching as (
                select candidate.session_id, sort_key.changed_at, member_count
                from candidate
                cross join lateral (
                    select member_count
                    from session
                    where session.session_id = candidate.session_id and buin = $1
                      and ($3::text is null or owner = $3)
                      and ($5::text is null or state = $5)
                      and ($6::timestamptz is null or updated_at >= $6)
                      and ($12::timestamptz is null or updated_at <= $12)
                    offset 0
                ) as session
                cross join lateral (
                    select case
                        when not $7::bool then null
                        when candidate.changed_at is not null then candidate.changed_at
                        else (
                            select created_at
                            from session_event
                            where session_event.session_id = candidate.session_id
                              and created_at <= $11::timestamptz
                            order by version desc
                            limit 1
                        )
                    end as changed_at
                    offset 0
                ) as sort_key
                where represents_session
                  and (not $7 or sort_key.changed_at <= $11::timestamptz)
                  and (not $15::bool or (select count(*) from candidate) < $14::bigint)
                  and case
                      when $7 and $8::bool then
                          (sort_key.changed_at, candidate.session_id) < ($9::timestamptz, $10::uuid)
                      when $7 then (sort_key.changed_at, candidate.session_id) > ($9, $10)
                      when $8 then candidate.session_id < $10
                      else candidate.session_id > $10
                  end
                  and ($2::text is null or exists (
                      select from session_member
                      where session_member.session_id = candidate.session_id and account = $2
                        and session_member.buin = $1
                      offset 0
                  ))
                  and ($4::text is null or exists (
                      select from session_title
                      where session_title.session_id = candidate.session_id
                        and strpos(folded, $4) > 0
                      offset 0
                  ))
            ), ranked as (
                select session_id, changed_at, member_count, row_number() over (
                    order by case when $8 then changed_at end desc,
                             case when $8 then session_id end desc,
                             changed_at, session_id
                ) as rank
                from matching
                order by rank
                limit $13::bigint + 1
            ), cumulative as (
                select ranked.session_id, changed_at, rank,
                       sum(member_count + attributes.members) over (order by rank)
                           as total_members
                from ranked
                cross join lateral (
                    -- 256 bytes of attributes count as one member.
                    select octet_length(attributes::text) / 256 as members
                    from session
                    where session.session_id = ranked.session_id
                    offset 0
                ) as attributes
            )
            select rows_read as "rows_read!", found_count as "found_count!",
                   last.changed_at as "last_changed_at?",
                   last.session_id as "last_id?", page.changed_at as "changed_at?",
                   page.session_id as "session_id?", buin as "buin?", title as "title?",
                   owner as "owner?", version as "version?", state as "state?",
                   attributes as "attributes?: Json<Map<String, Value>>", members as "members?",
                   created_at as "created_at?", updated_at as "updated_at?"
            from (
                select (select count(*) from candidate) as rows_read,
                       (select count(*) from ranked) as found_count
            ) as counts
            left join lateral (
                select changed_at, session_id
                from candidate
                order by case when $8 then changed_at end, case when $8 then session_id end,
                         changed_at desc, session_id desc
                limit 1
            ) as last on true
            left join lateral (
                select rank, changed_at, session.*, array(
                           select account
                           from session_member
                           where session_member.session_id = cumulative.session_id
                           order by joined_version, position
                       ) as members
                from cumulative
                cross join lateral (
                    select session_id, buin, title, owner, version, state, attributes, created_at,
                           updated_at
                    from session
                    where session.session_id = cumulative.session_id
                    offset 0
                ) as session
                where rank <= $13 and (rank = 1 or total_members <= $16::bigint)
            ) as page on true
            order by rank
            "#,
            $request.buin.get(),
            filter.member.as_ref().map(Account::as_str),
            filter.owner.as_ref().map(Account::as_str),
            filter.title.as_ref().map(|part| titles::fold(part.as_str())),
            filter.state.map(State::name),
            filter.updated_since,
            $request.sort.by == SortKey::UpdatedAt,
            $request.sort.newest_first,
            at,
            id,
            *complete_until,
            *updated_until,
            i64::from($request.limit),
            $step.window,
            $step.unordered,
            MAX_MEMBERS,
            $($argument)?
        )
        .fetch_all($pool)
        .await?
    }};
}

pub(super) use list;
