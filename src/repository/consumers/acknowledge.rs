//! The acknowledgement: a member has finished changes, and their rows go.
//!
//! The statement is planned each time, for the size that its tables have then. `seq + 0` keeps lists of
//! numbers out of the seeks, as in a claim.

use super::position::{FEW_HELD_BACK, with_position};
use crate::domain::{App, ConsumerMember, ConsumerName, FeedSeq};
use crate::repository::{Error, Pool};

/// The outcome of an acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Whether the consumer and the changes are of the present line of history. If not, nothing was
    /// removed.
    pub is_current: bool,
    /// The changes that the member does not have, and that no member has acknowledged.
    pub lost: Vec<i64>,
}

/// Removes the changes `seqs` of the line of history `epoch` that `member` has. A change that is not
/// active any more is ignored. A lease that has ended still counts until another member gets the change.
/// `None` if the app has no such consumer.
///
/// # Errors
/// When the database fails.
pub async fn acknowledge(
    pool: &Pool,
    app: &App,
    name: &ConsumerName,
    member: &ConsumerMember,
    epoch: Option<u64>,
    seqs: &[FeedSeq],
) -> Result<Option<Acknowledged>, Error> {
    let seqs: Vec<i64> = seqs.iter().map(|seq| seq.get()).collect();
    let statement = with_position!(
        query_as!(Acknowledged,),
        [r#"
        with consumer_state as materialized (
            select consumer.consumer_id, last.position, last.held_back,
                   consumer.epoch = feed_state.epoch
                       and coalesce(
                           left(replace(consumer.epoch::text, '-', ''), 16)
                               = lpad(to_hex($6::bigint), 16, '0'),
                           true
                       )
                       as is_current
            from consumer
            cross join feed_state"#],
        [r#"
            where consumer.buin = $1 and consumer.app_id = $2 and consumer.name = $3
        ), named as materialized (
            select min(seq) as first, max(seq) as last from unnest($5::bigint[]) as item (seq)
        ), own as materialized (
            -- A claim that runs now may have locked a change. The caller loses its lease of this change.
            select seq
            from consumer_event
            where consumer_id = (select consumer_id from consumer_state where is_current)
              and seq between (select first from named) and (select last from named)
              and seq + 0 = any($5) and member = $4
            order by seq
            for update skip locked
        ), acknowledged as (
            delete from consumer_event
            where consumer_id = (select consumer_id from consumer_state)
              and seq between (select first from named) and (select last from named)
              and seq + 0 = any(array(select seq from own))
            returning seq
        ), other as materialized (
            select item.seq
            from unnest($5::bigint[]) as item (seq)
            where item.seq not in (select seq from acknowledged)
        ), known as materialized (
            select seq
            from consumer_event
            where consumer_id = (select consumer_id from consumer_state)
              and seq between (select first from named) and (select last from named)
              and seq + 0 = any(array(select seq from other))
            union all
            select seq
            from consumer_held_event
            where consumer_id = (
                select consumer_id from consumer_state where held_back between 1 and $7::bigint
            )
              and seq + 0 = any(array(select seq from other))
            union all
            select held.seq
            from feed
            cross join lateral (
                select consumer_held_event.seq
                from consumer_held_event
                where consumer_id = (select consumer_id from consumer_state)
                  and consumer_held_event.session_id = feed.session_id
                  and consumer_held_event.seq = feed.seq
                offset 0
            ) as held
            where (select held_back from consumer_state) > $7::bigint
              and feed.buin = $1 and feed.seq = any(array(select seq from other))
        )
        select consumer_state.is_current as "is_current!",
               array(
                   select seq
                   from other
                   where seq > consumer_state.position or seq in (select seq from known)
               ) as "lost!"
        from consumer_state
        "#],
        (
            app.buin.get(),
            app.app_id.as_str(),
            name.as_str(),
            member.as_str(),
            &seqs,
            epoch.map(u64::cast_signed),
            FEW_HELD_BACK,
        ),
    );
    Ok(statement.fetch_optional(pool).await?)
}
