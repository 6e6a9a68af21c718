//! The streams of the sources that need no account, each with its index, in both directions.
//!
//! The surprise: streams sort also by columns that are the same in all their rows, so that the planner
//! takes the index of the source.

/// The macro of a statement with the common table expressions `share (rows)`, the number of rows that are
/// read of each stream, and `stream_row (stream, seq, session_id, version, kind, app_id)`, the rows after
/// the change $2 in order, or the rows up to it, the last one first. $8 is the number of rows of a stream.
macro_rules! with_streams {
    (after, $($source:tt)+) => { with_streams!(@ ">", "", $($source)+) };
    (up_to, $($source:tt)+) => { with_streams!(@ "<=", " desc", $($source)+) };
    (@ $beyond:literal, $order:literal, feed, $statement:ident!($($argument:expr),+)) => {
        $statement!(
            $($argument,)+
            r#"
            share as (
                select $8::bigint as rows
            ), stream_row as materialized (
                select '' as stream, seq, session_id, version, kind, app_id
                from feed
                where buin = $1 and seq "# $beyond " $2
                order by buin" $order ", seq" $order "
                limit $8
            )"
        )
    };
    // All rows of a session are of one enterprise, which may be another one.
    (@ $beyond:literal, $order:literal, session, $statement:ident!($($argument:expr),+)) => {
        $statement!(
            $($argument,)+
            r#"
            share as (
                select $8::bigint as rows
            ), stream_row as materialized (
                select '' as stream, seq, session_id, version, kind, app_id
                from (
                    select *
                    from feed
                    where session_id = $7::uuid and seq "# $beyond " $2
                    order by session_id" $order ", seq" $order "
                    limit $8
                ) as session_row
                where buin = $1
            )"
        )
    };
    // A stream is a kind of the changes of an app.
    (@ $beyond:literal, $order:literal, origin, $statement:ident!($($argument:expr),+)) => {
        $statement!(
            $($argument,)+
            r#"
            app (app_id) as (
                -- Skips from app to app in the index.
                select coalesce($6::text collate "C", (
                    select app_id from feed where buin = $1 order by buin, app_id limit 1
                ))
                union all
                select (
                    select feed.app_id
                    from feed
                    where buin = $1 and feed.app_id > app.app_id
                    order by buin, feed.app_id
                    limit 1
                )
                from app
                where app_id is not null and $6 is null
            ), origin as materialized (
                select app_id, kind
                from app
                cross join unnest(
                    array['created', 'updated', 'reverted', 'dissolved', 'restored']
                ) as known_kind (kind)
                where app_id is not null and ($5::text is null or kind = $5)
            ), share as materialized (
                select least($8::bigint, greatest(4, 10000 / greatest(1, count(*)))) as rows
                from origin
            ), stream_row as materialized (
                select origin.app_id || ':' || origin.kind as stream, origin_row.*
                from origin
                cross join lateral (
                    select seq, session_id, version, kind, app_id
                    from feed
                    where buin = $1 and app_id = origin.app_id and kind = origin.kind
                      and seq "# $beyond " $2
                    order by buin" $order ", app_id" $order ", kind" $order ", seq" $order "
                    limit (select rows from share)
                ) as origin_row
            )"
        )
    };
}

pub(super) use with_streams;
