//! The source of a page for a filter that names an account.
//!
//! The surprise: the feed itself is read if the page is near the end of the feed, because the sessions of
//! the account may be many.

/// The statement for the sessions in which an account has or had a role. The arguments are: the parameter
/// of the statement with the account, the role, the table with the present members or owners, and the
/// column of the account in this table.
///
/// A former member or owner has no later change than the one that ended the role. A session whose next
/// change is later is not read. The feed itself is the stream if it has few changes after the start, or if
/// the account has too many sessions.
macro_rules! page_of_account {
    (
        $pool:expr, $request:expr, $rows:expr,
        $account:literal, $role:literal, $present:literal, $column:literal
    ) => {
        page!(
            $pool,
            $request,
            $rows,
            r#"
            distance as materialized (
                select coalesce((select seq from head), 0) - $2 > 500 as is_far
            ), account_session as materialized (
                select session_id, max(last_version) as last_version
                from (
                    (
                        select session_id, 9223372036854775807 as last_version
                        from "#
            $present
            r#"
                        where buin = $1 and "#
            $column
            r#" = "#
            $account
            r#" and (select is_far from distance)
                        limit 10001
                    ) union all (
                        select session_id,
                               case when gained then 9223372036854775807 else version end
                        from (
                            select distinct on (session_id) session_id, version, gained
                            from role_change
                            where buin = $1 and account = "#
            $account
            r#" and role = "#
            $role
            r#"
                              and (select is_far from distance)
                            order by session_id, version desc
                            limit 10001
                        ) as last_change
                    )
                ) as role_session
                group by session_id
            ), share as materialized (
                select case
                           when is_feed then $8
                           else greatest(4, least($8, 10000 / greatest(1, sessions)))
                       end
                           as rows,
                       is_feed
                from (
                    select not is_far or sessions > 10000 as is_feed, sessions
                    from distance
                    cross join (select count(*) as sessions from account_session) as counted
                ) as size
            ), stream_row as materialized (
                select account_session.session_id::text as stream, session_row.*
                from account_session
                cross join lateral (
                    select version
                    from feed
                    where session_id = account_session.session_id and seq > $2
                    order by session_id, seq
                    limit 1
                ) as first_row
                cross join lateral (
                    select seq, session_id, version, kind, app_id
                    from feed
                    where session_id = account_session.session_id and seq > $2
                    order by session_id, seq
                    limit least(
                        (select rows from share),
                        account_session.last_version - first_row.version + 1
                    )
                ) as session_row
                where not (select is_feed from share)
                  and first_row.version <= account_session.last_version
                union all
                (
                    select '', seq, session_id, version, kind, app_id
                    from feed
                    where buin = $1 and seq > $2 and (select is_feed from share)
                    order by buin, seq
                    limit $8::bigint
                )
            )
            "#
        )
    };
}

pub(super) use page_of_account;
