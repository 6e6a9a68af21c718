//! Taking what is due, under a lease.
//!
//! The order of versions is kept here: of one session and app only the earliest unfinished delivery
//! is taken. The ones behind it, even if a lease of theirs has ended, are put off to just after it,
//! so that a session whose receiver is down costs nothing while it waits; finishing the earlier one
//! calls the next back. And so the first in the order of `due_at` can always be taken or put off:
//! whatever stands in the way, a claim makes progress. No row is skipped for being locked: two
//! workers that want the same one queue for it, and the second finds its `due_at` moved.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use super::unlocked;
use crate::domain::{AppId, Buin, DeliveryId, SessionId, Version};
use crate::repository::Error;
use crate::repository::error::corrupt;

/// How many deliveries a worker can take for an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The enterprise of the app.
    pub buin: Buin,
    /// The app.
    pub app_id: AppId,
    /// How many are under way to it.
    pub taken: usize,
    /// How many more may be.
    pub places: usize,
    /// Whether its receiver failed for many sessions, so that the few places must find out whether
    /// it does for all: every other one goes to what was never tried, the newest first.
    pub probes: bool,
}

/// What a claim did.
#[derive(Clone, Debug)]
pub struct Claims {
    /// What is ours now.
    pub taken: Vec<Claimed>,
    /// Whether some stood in the way of others and will do so no more: if there is still room,
    /// another claim finds what they hid.
    pub more: bool,
}

/// A delivery that is ours until its lease ends.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Which one.
    pub id: DeliveryId,
    /// The enterprise.
    pub buin: Buin,
    /// The lease; [`super::record`] asks for it.
    pub lease: Uuid,
    /// The number of this try, ever.
    pub attempt: i32,
    /// The number of this try since the delivery was made or replayed.
    pub tries: i32,
    /// When that round began.
    pub first_tried_at: DateTime<Utc>,
    /// What it tells.
    pub event: Event,
}

/// A change of a session, as its history has it.
#[derive(Clone, Debug)]
pub struct Event {
    /// What kind of change.
    pub kind: EventKind,
    /// Who acted.
    pub operator: String,
    /// The title since then.
    pub title: String,
    /// The owner since then.
    pub owner: String,
    /// All members, of a session that was created.
    pub member: Vec<String>,
    /// Who came in.
    pub add_member: Vec<String>,
    /// Who went.
    pub del_member: Vec<String>,
    /// When it was.
    pub at: DateTime<Utc>,
}

/// What kind of change an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The session began.
    Created,
    /// The session changed.
    Updated,
}

/// Takes up to `most` deliveries that are due at `now`, and as many for each app as there is room.
/// They are ours until `until`; then whoever asks gets them.
///
/// # Errors
/// When the database fails, or holds what cannot be.
pub async fn claim(
    pool: &PgPool,
    rooms: &[Room],
    most: usize,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Claims, Error> {
    let buins: Vec<i64> = rooms.iter().map(|room| room.buin.get()).collect();
    let app_ids: Vec<&str> = rooms.iter().map(|room| room.app_id.as_str()).collect();
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let taken: Vec<i64> = rooms.iter().map(|room| count(room.taken)).collect();
    let places: Vec<i64> = rooms.iter().map(|room| count(room.places)).collect();
    let probes: Vec<bool> = rooms.iter().map(|room| room.probes).collect();
    let lease = Uuid::from_u128(rand::random());
    let rows = unlocked(|| {
        sqlx::query_as!(
            Row,
            r#"
        with room as (
            select * from unnest($1::bigint[], $2::text[], $3::bigint[], $8::bigint[], $9::bool[])
                as room (buin, app_id, places, taken, probes)
        ), candidate as (
            -- More than there is room for, because some will stand behind others.
            select due.*, room.buin, room.places, room.taken, room.probes
            from room
            cross join lateral (
                (
                    select session_id, app_id, version, due_at, tries
                    from delivery
                    where delivery.buin = room.buin and delivery.app_id = room.app_id
                      and state in ('pending', 'leased') and due_at <= $4
                    order by due_at, version
                    limit 4 * room.places
                )
                union
                (
                    select session_id, app_id, version, due_at, tries
                    from delivery
                    where delivery.buin = room.buin and delivery.app_id = room.app_id
                      and state in ('pending', 'leased') and due_at <= $4
                    order by due_at desc, version desc
                    limit case when room.probes then 64 else 0 end
                )
            ) as due
        ), judged as (
            select candidate.*, earlier.due_at as behind
            from candidate
            left join lateral (
                -- What is being sent will have ended, and called the next, long before its lease
                -- does. Should the next have been written just then, unseen, it is not late.
                select case when state = 'leased' then least(due_at, $4 + interval '5 seconds')
                            else due_at end as due_at
                from delivery
                where delivery.session_id = candidate.session_id
                  and delivery.app_id = candidate.app_id
                  and delivery.version < candidate.version
                  and delivery.state in ('pending', 'leased')
                order by delivery.version
                limit 1
            ) as earlier on true
        ), chosen as (
            select session_id, app_id, version, due_at
            from (
                select *, case when probes then least(2 * oldest - 1, 2 * newest) else oldest end
                       as rank
                from (
                    select *, row_number() over (
                               partition by buin, app_id order by due_at, version
                           ) as oldest,
                           row_number() over (
                               partition by buin, app_id order by tries, due_at desc, version desc
                           ) as newest
                    from judged
                    where behind is null
                ) as numbered
            ) as free
            where rank <= places
            -- Each app's first before any app's second: one with much to tell leaves room.
            order by taken + rank, due_at, version
            limit $5
        ), decided as (
            (
                -- The limit tells the planner that these are few: it would read the whole table
                -- else.
                select session_id, app_id, version, due_at, behind
                from judged
                where behind >= due_at
                limit 500
            )
            union all
            select session_id, app_id, version, due_at, null from chosen
        ), touched as (
            update delivery
            set state = case when behind is null then 'leased' else 'pending' end,
                lease = case when behind is null then $6::uuid end,
                due_at = coalesce(behind + interval '1 microsecond', $7),
                attempts = attempts + case when behind is null then 1 else 0 end,
                tries = tries + case when behind is null then 1 else 0 end,
                first_tried_at = case when behind is null then coalesce(first_tried_at, $4)
                                      else first_tried_at end
            -- In one order everywhere, so that no two workers each hold what the other wants.
            from (select * from decided order by session_id, app_id, version) as decided
            where delivery.session_id = decided.session_id and delivery.app_id = decided.app_id
              and delivery.version = decided.version and delivery.due_at = decided.due_at
              and delivery.state in ('pending', 'leased')
            returning delivery.*
        ), taken as (
            select * from touched where state = 'leased'
        )
        -- One row at least, so that `more` is told where nothing was taken.
        select more.more as "more!", taken.session_id as "session_id?",
               taken.buin as "buin?", taken.app_id as "app_id?", taken.version as "version?",
               taken.attempts as "attempts?", taken.tries as "tries?", taken.first_tried_at,
               event.kind as "kind?", event.operator as "operator?", event.title as "title?",
               event.owner as "owner?", event.changes as "changes?: Json<Changes>",
               event.created_at as "created_at?"
        from (
            select exists (select 1 from touched)
               and exists (select 1 from judged where behind is not null) as more
        ) as more
        left join (taken join session_event as event using (session_id, version)) on true
        "#,
            &buins,
            &app_ids as &[&str],
            &places,
            now,
            count(most),
            lease,
            until,
            &taken,
            &probes,
        )
        .fetch_all(pool)
    })
    .await?;
    let more = rows.first().is_some_and(|row| row.more);
    let taken = rows.into_iter().filter_map(|row| row.claimed(lease).transpose());
    Ok(Claims { taken: taken.collect::<Result<_, _>>()?, more })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Changes {
    member: Vec<String>,
    add_member: Vec<String>,
    del_member: Vec<String>,
}

struct Row {
    more: bool,
    session_id: Option<Uuid>,
    buin: Option<i64>,
    app_id: Option<String>,
    version: Option<i64>,
    attempts: Option<i32>,
    tries: Option<i32>,
    first_tried_at: Option<DateTime<Utc>>,
    kind: Option<String>,
    operator: Option<String>,
    title: Option<String>,
    owner: Option<String>,
    changes: Option<Json<Changes>>,
    created_at: Option<DateTime<Utc>>,
}

impl Row {
    /// What the row tells of; nothing, in the one row that only counts.
    fn claimed(self, lease: Uuid) -> Result<Option<Claimed>, Error> {
        let (Some(session_id), Some(app_id), Some(changes)) =
            (self.session_id, self.app_id, self.changes)
        else {
            return Ok(None);
        };
        let Json(Changes { member, add_member, del_member }) = changes;
        let version = self.version.unwrap_or_default();
        let buin = self.buin.unwrap_or_default();
        Ok(Some(Claimed {
            id: DeliveryId {
                session_id: SessionId::new(session_id),
                version: Version::new(version).map_err(corrupt("delivery", "version", version))?,
                app_id: app_id.parse().map_err(corrupt("delivery", "app_id", &app_id))?,
            },
            buin: Buin::new(buin).map_err(corrupt("delivery", "buin", buin))?,
            lease,
            attempt: self.attempts.unwrap_or_default(),
            tries: self.tries.unwrap_or_default(),
            first_tried_at: self.first_tried_at.unwrap_or_default(),
            event: Event {
                kind: match self.kind.as_deref() {
                    Some("created") => EventKind::Created,
                    Some("updated") => EventKind::Updated,
                    other => {
                        let kind = other.unwrap_or_default();
                        return Err(corrupt("session_event", "kind", kind)("no such kind"));
                    }
                },
                operator: self.operator.unwrap_or_default(),
                title: self.title.unwrap_or_default(),
                owner: self.owner.unwrap_or_default(),
                member,
                add_member,
                del_member,
                at: self.created_at.unwrap_or_default(),
            },
        }))
    }
}
