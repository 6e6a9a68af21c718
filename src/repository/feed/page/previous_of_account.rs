//! The source of the change before a page for a filter that names an account.
//!
//! The surprise: a session of a former member is read without the changes since. The feed has no index of
//! versions, so a search halves the distance to the version in which the account lost the role.

/// The statement with the sessions in which an account has or had a role. The arguments are the account as
/// an argument of the statement, the role, the table of those who have it at present, and its column. A
/// session is read from the last version on in which the account had the role. The feed itself is the stream
/// if the account has too many sessions.
macro_rules! previous_of_account {
    (
        $pool:expr, $request:expr, $before:expr, $rows:expr,
        $account:literal, $role:literal, $present:literal, $column:literal
    ) => {
        previous!(
            $pool,
            $request,
            $before,
            $rows,
            r#"
            role_session as materialized (
                select session_id
                from (
                    (
                        select session_id
                        from "#
            $present
            "
                        where buin = $1 and "
            $column
            " = "
            $account
            r#" and ($7::uuid is null or session_id = $7)
                        limit 10001
                    ) union (
                        select session_id
                        from role_change
                        where buin = $1 and account = "#
            $account
            " and role = "
            $role
            r#"
                          and ($7::uuid is null or session_id = $7)
                        limit 10001
                    )
                ) as found
            ), share as materialized (
                select case
                           when is_feed then greatest($8::bigint, 1000)
                           else least($8::bigint, greatest(4, 10000 / greatest(1, sessions)))
                       end as rows,
                       is_feed
                from (
                    select count(*) as sessions, count(*) > 10000 as is_feed from role_session
                ) as size
            ), last_role as materialized (
                -- The last version of each session, and the last one in which the account had the role.
                select role_session.session_id, last_row.seq, last_row.version,
                       case
                           when known.gained then last_row.version
                           when known.version is not null then known.version
                           when coalesce("#
            (
                had_role_until_next_change "$1" $account $role "role_session.session_id"
                "last_row.version"
            )
            r#", true) then last_row.version
                       end as role_version
                from role_session
                cross join lateral (
                    select seq, version
                    from feed
                    where feed.session_id = role_session.session_id and seq <= $2
                    order by feed.session_id desc, seq desc
                    limit 1
                ) as last_row
                left join lateral "#
            (
                last_role_change ["gained, role_change.version"] "$1" $account $role
                "role_session.session_id" "last_row.version"
            )
            r#" as known on true
                where not (select is_feed from share)
            ), search (session_id, version, low, high) as (
                -- The row of the version is not before `low` and not after `high`.
                select session_id, role_version,
                       case when role_version = version then seq else 0 end,
                       case when role_version = version then seq else seq - 1 end
                from last_role
                where role_version is not null
                union all
                select session_id, search.version,
                       case when middle.version <= search.version then middle.seq else low end,
                       case when middle.version < search.version then high
                            when middle.version = search.version then middle.seq
                            else middle.before end
                from search
                cross join lateral (
                    select later.seq, later.version, half - 1 as before
                    from (select low + (high - low + 1) / 2 as half) as point
                    left join lateral (
                        select seq, version
                        from feed
                        where feed.session_id = search.session_id and seq between half and high
                        order by feed.session_id, seq
                        limit 1
                    ) as later on true
                ) as middle
                where low < high
            ), stream_row as materialized (
                select search.session_id::text as stream, session_row.*
                from search
                cross join lateral (
                    select seq, session_id, version, kind, app_id
                    from feed
                    where feed.session_id = search.session_id and seq <= search.low
                    order by feed.session_id desc, seq desc
                    limit (select rows from share)
                ) as session_row
                where low >= high and low > 0
                union all
                (
                    select '', seq, session_id, version, kind, app_id
                    from feed
                    where buin = $1 and seq <= $2 and (select is_feed from share)
                    order by buin desc, seq desc
                    limit (select rows from share)
                )
            )"#
        )
    };
}

pub(super) use previous_of_account;
