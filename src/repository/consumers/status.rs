//! The progress of consumers.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::position::{with_position, with_progress};
use super::row::{self, FilterColumns, consumer_name, lease, number};
use crate::domain::{
    AppId, Buin, Consumer, ConsumerLimits, ConsumerName, ConsumerState, FeedSeq, MemberLeases,
    ParkedEvent, SessionId,
};
use crate::repository::error::corrupt;
use crate::repository::sessions::version;
use crate::repository::{Error, Pool};

/// The column names are those of the statement.
struct StateRow {
    buin: i64,
    app_id: String,
    name: String,
    filter_member: Option<String>,
    filter_owner: Option<String>,
    filter_session_id: Option<Uuid>,
    filter_kind: Option<String>,
    filter_app_id: Option<String>,
    lease_seconds: i32,
    created_at: DateTime<Utc>,
    used_at: DateTime<Utc>,
    is_expired: bool,
    selected: i64,
    head: i64,
    oldest: Option<i64>,
    oldest_at: Option<DateTime<Utc>>,
    leased: i64,
    ready: i64,
    parked: i64,
    waiting: i64,
}

/// A consumer of an app, without its members. `None` if the app has no such consumer.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn find(
    pool: &Pool,
    buin: Buin,
    app_id: &AppId,
    name: &ConsumerName,
) -> Result<Option<ConsumerState>, Error> {
    let found = read(pool, Some(buin), Some(app_id), Some(name)).await?;
    Ok(found.into_iter().next().map(|(_, _, state)| state))
}

/// The consumers of an app, of an enterprise or of all, without their members.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn list(
    pool: &Pool,
    buin: Option<Buin>,
    app_id: Option<&AppId>,
) -> Result<Vec<(Buin, AppId, ConsumerState)>, Error> {
    read(pool, buin, app_id, None).await
}

async fn read(
    pool: &Pool,
    buin: Option<Buin>,
    app_id: Option<&AppId>,
    name: Option<&ConsumerName>,
) -> Result<Vec<(Buin, AppId, ConsumerState)>, Error> {
    let rows = with_progress!(
        query_as!(StateRow,),
        [r#"
        select consumer.buin, consumer.app_id, consumer.name, filter_member, filter_owner,
               filter_session_id, filter_kind, filter_app_id, lease_seconds, created_at, used_at,
               consumer.epoch <> feed_state.epoch or last.position > head.seq as "is_expired!",
               last.position as selected, head.seq as "head!",
               least(active.oldest, held_back.oldest) as "oldest?",
               (
                   select sequenced_at from feed
                   where feed.buin = consumer.buin
                     and feed.seq = least(active.oldest, held_back.oldest)
               ) as "oldest_at?",
               active.leased as "leased!", active.ready as "ready!", held_back.parked as "parked!",
               held_back.waiting as "waiting!"
        from consumer
        cross join feed_state"#],
        [r#"
        cross join lateral (
            select count(parked_at) as parked, count(*) - count(parked_at) as waiting,
                   min(seq) as oldest
            from consumer_held_event
            where consumer_held_event.consumer_id = consumer.consumer_id
        ) as held_back
        where ($1::bigint is null or consumer.buin = $1)
          and ($2::text is null or consumer.app_id = $2)
          and ($3::text is null or consumer.name = $3)
        order by consumer.buin, consumer.app_id, consumer.name
        "#],
        (buin.map(Buin::get), app_id.map(AppId::as_str), name.map(ConsumerName::as_str),),
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(StateRow::into_state).collect()
}

impl StateRow {
    fn into_state(self) -> Result<(Buin, AppId, ConsumerState), Error> {
        let filter = FilterColumns {
            member: self.filter_member,
            owner: self.filter_owner,
            session_id: self.filter_session_id,
            kind: self.filter_kind,
            app_id: self.filter_app_id,
        };
        let event = |seq| row::seq("consumer_event", "seq", seq);
        let state = ConsumerState {
            consumer: Consumer {
                name: consumer_name(&self.name)?,
                filter: filter.try_into()?,
                lease: lease(self.lease_seconds)?,
                created_at: self.created_at,
                used_at: self.used_at,
            },
            is_expired: self.is_expired,
            selected: row::seq("consumer_position", "position", self.selected)?,
            head: row::seq("feed", "seq", self.head)?,
            oldest: self.oldest.map(event).transpose()?.zip(self.oldest_at),
            leased: number(self.leased),
            ready: number(self.ready),
            parked: number(self.parked),
            waiting: number(self.waiting),
            members: Vec::new(),
        };
        let buin = Buin::new(self.buin).map_err(corrupt("consumer", "buin", self.buin))?;
        let app_id = self.app_id.parse().map_err(corrupt("consumer", "app_id", &self.app_id))?;
        Ok((buin, app_id, state))
    }
}

/// The members of a consumer that have changes, at most [`ConsumerLimits::MAX_LISTED`].
///
/// # Errors
/// When the database fails.
pub async fn members(
    pool: &Pool,
    buin: Buin,
    app_id: &AppId,
    name: &ConsumerName,
) -> Result<Vec<MemberLeases>, Error> {
    let rows = with_position!(
        query!(),
        [r#"
        select event.member as "member!", count(*) as "events!",
               min(event.lease_until) as "lease_until!"
        from consumer"#],
        [r#"
        cross join lateral (
            select member, lease_until
            from consumer_event
            where consumer_event.consumer_id = consumer.consumer_id and seq > last.ready_after
              and lease_until > clock_timestamp()
            order by consumer_event.consumer_id, seq
            offset 0
        ) as event
        where consumer.buin = $1 and consumer.app_id = $2 and consumer.name = $3
        group by event.member
        order by event.member
        limit $4
        "#],
        (
            buin.get(),
            app_id.as_str(),
            name.as_str(),
            i64::try_from(ConsumerLimits::MAX_LISTED).unwrap_or(i64::MAX),
        ),
    )
    .fetch_all(pool)
    .await?;
    let members = rows.into_iter().map(|row| MemberLeases {
        member: row.member,
        events: number(row.events),
        lease_until: row.lease_until,
    });
    Ok(members.collect())
}

/// The parked changes of a consumer, at most [`ConsumerLimits::MAX_LISTED`], the oldest first.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn parked(
    pool: &Pool,
    buin: Buin,
    app_id: &AppId,
    name: &ConsumerName,
) -> Result<Vec<ParkedEvent>, Error> {
    let rows = sqlx::query!(
        r#"
        select event.seq, event.session_id, event.version, event.attempts,
               event.member as "member?", event.parked_at as "parked_at!"
        from consumer
        cross join lateral (
            select seq, session_id, version, attempts, member, parked_at
            from consumer_held_event
            where consumer_held_event.consumer_id = consumer.consumer_id
              and parked_at is not null
            offset 0
        ) as event
        where consumer.buin = $1 and consumer.app_id = $2 and consumer.name = $3
        order by event.seq
        limit $4
        "#,
        buin.get(),
        app_id.as_str(),
        name.as_str(),
        i64::try_from(ConsumerLimits::MAX_LISTED).unwrap_or(i64::MAX),
    )
    .fetch_all(pool)
    .await?;
    let parked = rows.into_iter().map(|row| {
        Ok(ParkedEvent {
            seq: FeedSeq::new(row.seq).map_err(corrupt("consumer_held_event", "seq", row.seq))?,
            session_id: SessionId::new(row.session_id),
            version: version("consumer_held_event", row.version)?,
            attempts: u32::try_from(row.attempts).unwrap_or_default(),
            member: row.member,
            parked_at: row.parked_at,
        })
    });
    parked.collect()
}
