//! The parts that several statements on consumers share: the position of a consumer, and the last change of
//! its enterprise.

/// The largest number of held-back changes of a consumer that a statement reads all at once. A statement seeks
/// a larger number one by one, by their keys. A seek in so large a table is cheaper than a read of the whole
/// table, with any statistics.
pub(super) const FEW_HELD_BACK: i64 = 1_000;

/// A statement of `sqlx` with two parts. Between them stands the position of each row of `consumer`, as `last`:
/// its last row of `consumer_position`, which is found first however many earlier ones were deleted.
macro_rules! with_position {
    (
        $query:ident!($($row:ident,)?),
        [$($before:literal)+],
        [$($after:literal)+],
        ($($argument:expr),* $(,)?) $(,)?
    ) => {
        sqlx::$query!(
            $($row,)?
            $($before +)+ r#"
            cross join lateral (
                select position, cursor, ready_after, held_back
                from consumer_position
                where consumer_position.consumer_id = consumer.consumer_id
                order by consumer_position.consumer_id desc, position desc
                limit 1
            ) as last
            "#
            $(+ $after)+,
            $($argument),*
        )
    };
}

/// The same with the number of the last change of the enterprise, as `head`, and the leased and ready events
/// of the consumer, as `active`.
macro_rules! with_progress {
    (
        $query:ident!($($row:ident,)?),
        [$($before:literal)+],
        [$($after:literal)+],
        $arguments:tt $(,)?
    ) => {
        with_position!(
            $query!($($row,)?),
            [$($before)+],
            [
                r#"
            cross join lateral (
                select coalesce((
                    select seq from feed
                    where feed.buin = consumer.buin
                    order by feed.buin desc, seq desc
                    limit 1
                ), 0) as seq
            ) as head
            cross join lateral (
                select count(*) filter (where lease_until > clock_timestamp()) as leased,
                       count(*) filter (where lease_until > clock_timestamp() is not true) as ready,
                       min(seq) as oldest
                from consumer_event
                where consumer_event.consumer_id = consumer.consumer_id
                  and seq > last.ready_after
            ) as active
            "#
                $($after)+
            ],
            $arguments,
        )
    };
}

pub(super) use with_position;
pub(super) use with_progress;
