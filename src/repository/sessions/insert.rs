//! Writes new sessions.

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, Row as _};

use super::columns::{EventColumns, KeyColumns, MemberColumns, SessionColumns, TitleColumns};
use super::provenance::Provenance;
use super::stored::StoredChanges;
use crate::domain::{Attributes, EventKind, Session};
use crate::repository::Error;
use crate::repository::connections::persistent::Persistent;

/// A new session, and the request that creates it.
#[derive(Clone, Copy, Debug)]
pub struct NewSessionRecord<'a> {
    /// The session, at version 1.
    pub session: &'a Session,
    /// The source of the request. Its operator is the owner.
    pub provenance: Provenance<'a>,
}

/// Writes new sessions, their members and their first events: all or none. Returns the time of their
/// creation, by the clock of the database. `fixed_time` replaces that clock in tests.
///
/// # Errors
/// [`Error::DuplicateIdempotencyKey`] if the key was used before, or when the database fails.
pub async fn insert(
    executor: impl PgExecutor<'_>,
    records: &[NewSessionRecord<'_>],
    fixed_time: Option<DateTime<Utc>>,
) -> Result<DateTime<Utc>, Error> {
    let mut items = SessionColumns::default();
    let mut events = EventColumns::default();
    let mut members = MemberColumns::default();
    let mut titles = TitleColumns::default();
    let mut keys = KeyColumns::default();
    for NewSessionRecord { session, provenance } in records {
        let changes = StoredChanges::from_created(session);
        let has_attributes = session.attributes != Attributes::default();
        let attributes = has_attributes.then(|| session.attributes.as_map());
        items.push(session);
        items.set_attributes(attributes);
        events.push(session, EventKind::Created, &changes, attributes, provenance);
        members.push_all(session, &session.members);
        titles.push(session);
        keys.push(session, provenance);
    }
    let statement = sqlx::query_scalar!(
        r#"
        with item as (
            select * from unnest(
                $1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::int[],
                $7::timestamptz[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
                $28::bytea[]
            ) as item (
                session_id, buin, version, title, owner, member_count,
                decided_at, operator, app_id, reason, changes, attributes, trace
            )
        ), clock as materialized (
            select coalesce($29::timestamptz, clock_timestamp()) as now
        ), new_session as (
            insert into session (
                session_id, buin, title, owner, version, state, member_count, attributes,
                created_at, updated_at
            )
            select session_id, buin, title, owner, version, 'active', member_count,
                   coalesce(attributes, '{}')::json, now, now
            from item
            cross join clock
        ), new_title as (
            insert into session_title (session_id, buin, folded, grams)
            -- Programs of the previous release search these numbers, as long as their index exists.
            select session_id, buin, folded,
                   case when to_regclass('session_title_by_buin_grams') is not null then array(
                       select distinct (ascii(substr(folded, place, 1))::bigint << 21) + next
                       from generate_series(1, length(folded)) as place
                       cross join lateral (values (0), (ascii(substr(folded, place + 1, 1))))
                           as following (next)
                   ) end
            from unnest($13::uuid[], $14::bigint[], $15::text[])
                as title (session_id, buin, folded)
        ), new_member as (
            insert into session_member (session_id, buin, account, joined_version, position)
            select session_id, buin, account, joined_version, position
            from unnest($16::uuid[], $17::bigint[], $18::text[], $19::bigint[], $20::int[])
                as member (session_id, buin, account, joined_version, position)
        ), new_delivery as (
            insert into delivery (
                session_id, buin, app_id, version, state, due_at, attempts, tries, created_at,
                trace
            )
            select item.session_id, app.buin, app.app_id, item.version, 'pending',
                   item.decided_at, 0, 0, item.decided_at, item.trace
            from item
            join app on app.buin = item.buin
            where app.callback_url is not null and app.disabled_at is null
              and 'callbacks' = any(app.permissions)
        ), new_key as (
            insert into idempotency (
                buin, app_id, key, digest, session_id, version, expires_at
            )
            select buin, app_id, key, digest, session_id, version, expires_at
            from unnest(
                $21::bigint[], $22::text[], $23::text[], $24::bytea[], $25::uuid[], $26::bigint[],
                $27::timestamptz[]
            ) as key (buin, app_id, key, digest, session_id, version, expires_at)
            -- All servers insert keys in this order, because an insert waits for an equal key of
            -- another server.
            order by buin, app_id, key
        ), new_event as (
            insert into session_event (
                session_id, version, buin, kind, operator, app_id, title, owner, reason, changes,
                attributes, created_at
            )
            select session_id, version, buin, 'created', operator, app_id, title, owner, reason,
                   changes::jsonb, attributes::json, now
            from item
            cross join clock
        ), new_outbox as (
            insert into outbox (written_at, session_ids, versions)
            select clock_timestamp(), $1, $3
            where coalesce(current_setting('muster.feed', true), '') <> 'off'
        )
        select now as "now!" from clock
        "#,
        &items.session_ids,
        &items.buins,
        &items.versions,
        &items.titles as &[&str],
        &items.owners as &[&str],
        &items.member_counts,
        &items.at,
        &events.operators as &[&str],
        &events.app_ids as &[&str],
        &events.reasons as &[Option<&str>],
        &events.changes,
        &items.attributes as &[Option<String>],
        &titles.session_ids,
        &titles.buins,
        &titles.folded,
        &members.session_ids,
        &members.buins,
        &members.accounts as &[&str],
        &members.joined_versions,
        &members.positions,
        &keys.buins,
        &keys.app_ids as &[&str],
        &keys.names as &[&str],
        &keys.digests as &[&[u8]],
        &keys.session_ids,
        &keys.versions,
        &keys.expire_at,
        &events.traces as &[Option<Vec<u8>>],
        fixed_time,
    );
    let row = executor.fetch_one(Persistent(statement)).await.map_err(Error::from_write)?;
    Ok(row.try_get(0)?)
}
