//! Writes the decided changes of sessions.

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection, PgExecutor, Row as _};

use super::columns::{EventColumns, KeyColumns, RoleColumns, SessionColumns, TitleColumns};
use super::member_changes::MemberChanges;
use super::provenance::Provenance;
use super::read::{find, lock};
use super::stored::StoredChanges;
use crate::domain::{AttributesPatch, Change, Session, SessionId};
use crate::repository::connections::persistent::Persistent;
use crate::repository::{Error, ServerConnection};

/// The decided changes of a session: one, or several in sequence.
#[derive(Clone, Debug)]
pub struct ChangeSet<'a> {
    /// The session for which the changes were decided. The stored version must still be the same.
    pub before: &'a Session,
    /// The changes, in order, at least one.
    pub steps: Vec<VersionedChange<'a>>,
}

/// A change, and the request that makes it.
#[derive(Clone, Copy, Debug)]
pub struct VersionedChange<'a> {
    /// The change.
    pub change: &'a Change,
    /// The source of the request.
    pub provenance: Provenance<'a>,
}

/// Writes the changes of each session if its stored version is still the expected one. Returns the
/// written sessions with the time of their changes. The other sessions were changed by a faster
/// writer and are not written. The time is that of the database's clock, and not earlier than that
/// of the session's last change. `fixed_time` replaces the clock in tests.
///
/// # Errors
/// [`Error::DuplicateIdempotencyKey`] if a key was used before, or when the database fails. No
/// session was written then.
pub async fn update_if_version(
    executor: impl PgExecutor<'_>,
    change_sets: &[ChangeSet<'_>],
    fixed_time: Option<DateTime<Utc>>,
) -> Result<Vec<(SessionId, DateTime<Utc>)>, Error> {
    let mut expected_versions = Vec::with_capacity(change_sets.len());
    let mut items = SessionColumns::default();
    let mut events = EventColumns::default();
    let mut members = MemberChanges::default();
    let mut titles = TitleColumns::default();
    let mut keys = KeyColumns::default();
    let mut roles = RoleColumns::default();
    for ChangeSet { before, steps } in change_sets {
        let Some(last) = steps.last() else { continue };
        let after = &last.change.after;
        expected_versions.push(before.version.get());
        items.push(after);
        let patched = steps.iter().any(|step| step.change.changes.attributes.is_some());
        items.set_attributes(patched.then(|| after.attributes.as_map()));
        if steps.iter().any(|step| step.change.changes.title.is_some()) {
            titles.push(after);
        }
        for VersionedChange { change, provenance } in steps {
            let Change { after, kind, changes } = change;
            let patch = changes.attributes.as_ref().map(AttributesPatch::as_map);
            events.push(after, *kind, &StoredChanges::from(changes), patch, provenance);
            keys.push(after, provenance);
        }
        members.push(before, steps.iter().map(|step| step.change));
        let mut owner = &before.owner;
        for VersionedChange { change, .. } in steps {
            roles.push_all(owner, change);
            owner = &change.after.owner;
        }
    }
    let MemberChanges { added, moved, removed } = members;
    let statement = sqlx::query!(
        r#"
        with item as (
            select * from unnest(
                $1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[],
                $7::int[], $9::text[]
            ) as item (
                session_id, expected_version, version, state, title, owner, member_count,
                attributes
            )
        ), clock as materialized (
            select coalesce($8::timestamptz, clock_timestamp()) as now
        ), locked as (
            -- All servers lock rows in this order. An update alone locks them in the order of its
            -- plan.
            select 1
            from session
            join item on session.session_id = item.session_id
                     and session.version = item.expected_version
            order by session.session_id
            for no key update of session
        ), updated as (
            update session
            set title = item.title, owner = item.owner, version = item.version,
                state = item.state, member_count = item.member_count,
                updated_at = greatest((select now from clock), session.updated_at),
                attributes = coalesce(item.attributes::json, session.attributes)
            from item
            where session.session_id = item.session_id and session.version = item.expected_version
              -- The count takes all locks before the first row is changed. One row has no order.
              and (cardinality($1) = 1 or (select count(*) from locked) > 0)
            returning session.session_id, session.buin, session.updated_at
        ), updated_title as (
            update session_title
            -- Programs of the previous release search these numbers, as long as their index exists.
            set folded = title.folded,
                grams = case when to_regclass('session_title_by_buin_grams') is not null then array(
                    select distinct (ascii(substr(title.folded, place, 1))::bigint << 21) + next
                    from generate_series(1, length(title.folded)) as place
                    cross join lateral (values (0), (ascii(substr(title.folded, place + 1, 1))))
                        as following (next)
                ) end
            from unnest($10::uuid[], $11::text[]) as title (session_id, folded),
                 updated
            where title.session_id = updated.session_id
              and session_title.session_id = title.session_id
        ), deleted_member as (
            delete from session_member
            using unnest($12::uuid[], $13::text[]) as removed (session_id, account), updated
            where removed.session_id = updated.session_id
              and session_member.session_id = removed.session_id
              and session_member.account = removed.account
              and session_member.buin = updated.buin
        ), moved_member as (
            update session_member
            set joined_version = moved.joined_version, position = moved.position
            from unnest($14::uuid[], $15::text[], $16::bigint[], $17::int[])
                     as moved (session_id, account, joined_version, position),
                 updated
            where moved.session_id = updated.session_id
              and session_member.session_id = moved.session_id
              and session_member.account = moved.account
              and session_member.buin = updated.buin
        ), new_member as (
            insert into session_member (session_id, buin, account, joined_version, position)
            select session_id, updated.buin, account, joined_version, position
            from unnest($18::uuid[], $19::text[], $20::bigint[], $21::int[])
                as added (session_id, account, joined_version, position)
            join updated using (session_id)
        ), event as (
            select event.*, updated.buin, updated.updated_at
            from unnest(
                $22::uuid[], $23::bigint[], $24::text[], $25::text[], $26::text[], $27::text[],
                $28::text[], $29::text[], $30::text[], $31::text[], $32::timestamptz[],
                $40::bytea[]
            ) as event (
                session_id, version, kind, operator, app_id, title, owner, reason, changes, patch,
                decided_at, trace
            )
            join updated using (session_id)
        ), new_event as (
            insert into session_event (
                session_id, version, buin, kind, operator, app_id, title, owner, reason, changes,
                attributes, created_at
            )
            select session_id, version, buin, kind, operator, app_id, title, owner, reason,
                   changes::jsonb, patch::json, updated_at
            from event
        ), new_outbox as (
            insert into outbox (written_at, session_ids, versions)
            select clock_timestamp(), array_agg(session_id), array_agg(version)
            from event
            where coalesce(current_setting('muster.feed', true), '') <> 'off'
            having count(*) > 0
        ), new_role_change as (
            insert into role_change (buin, account, role, session_id, version, gained)
            select updated.buin, account, role, session_id, version, gained
            from unnest($41::uuid[], $42::bigint[], $43::text[], $44::text[], $45::bool[])
                as changed_role (session_id, version, account, role, gained)
            join updated using (session_id)
        ), new_delivery as (
            insert into delivery (
                session_id, buin, app_id, version, state, due_at, attempts, tries, created_at,
                trace
            )
            select event.session_id, app.buin, app.app_id, event.version, 'pending',
                   event.decided_at, 0, 0, event.decided_at, event.trace
            from event
            join app on app.buin = event.buin
            where app.callback_url is not null and app.disabled_at is null
              and 'callbacks' = any(app.permissions)
        ), new_key as (
            insert into idempotency (
                buin, app_id, key, digest, session_id, version, expires_at
            )
            select key.buin, app_id, key, digest, session_id, version, expires_at
            from unnest(
                $33::bigint[], $34::text[], $35::text[], $36::bytea[], $37::uuid[], $38::bigint[],
                $39::timestamptz[]
            ) as key (buin, app_id, key, digest, session_id, version, expires_at)
            join updated using (session_id)
            -- All servers insert keys in this order, because an insert waits for an equal key of
            -- another server.
            order by key.buin, app_id, key
        )
        select session_id, updated_at from updated
        "#,
        &items.session_ids,
        &expected_versions,
        &items.versions,
        &items.states as &[&str],
        &items.titles as &[&str],
        &items.owners as &[&str],
        &items.member_counts,
        fixed_time,
        &items.attributes as &[Option<String>],
        &titles.session_ids,
        &titles.folded,
        &removed.session_ids,
        &removed.accounts as &[&str],
        &moved.session_ids,
        &moved.accounts as &[&str],
        &moved.joined_versions,
        &moved.positions,
        &added.session_ids,
        &added.accounts as &[&str],
        &added.joined_versions,
        &added.positions,
        &events.session_ids,
        &events.versions,
        &events.kinds as &[&str],
        &events.operators as &[&str],
        &events.app_ids as &[&str],
        &events.titles as &[&str],
        &events.owners as &[&str],
        &events.reasons as &[Option<&str>],
        &events.changes,
        &events.patches as &[Option<String>],
        &events.at,
        &keys.buins,
        &keys.app_ids as &[&str],
        &keys.names as &[&str],
        &keys.digests as &[&[u8]],
        &keys.session_ids,
        &keys.versions,
        &keys.expire_at,
        &events.traces as &[Option<Vec<u8>>],
        &roles.session_ids,
        &roles.versions,
        &roles.accounts as &[&str],
        &roles.roles as &[&str],
        &roles.gained,
    );
    let written = executor.fetch_all(Persistent(statement)).await.map_err(Error::from_write)?;
    written.iter().map(|row| Ok((SessionId::new(row.try_get(0)?), row.try_get(1)?))).collect()
}

/// Locks and reads sessions, calls `decide` with the result of [`find`], and writes the changes
/// that it returns, all in one transaction. Returns the written sessions, like
/// [`update_if_version`].
///
/// # Errors
/// The errors of [`update_if_version`]. No session was written then.
pub async fn update_locked<'a>(
    connection: &mut ServerConnection,
    ids: &[SessionId],
    fixed_time: Option<DateTime<Utc>>,
    decide: impl FnOnce(Vec<(SessionId, Result<Session, Error>)>) -> Vec<ChangeSet<'a>>,
) -> Result<Vec<(SessionId, DateTime<Utc>)>, Error> {
    // Through a pooler, the transaction is that of the connection.
    if connection.is_in_transaction() {
        return lock_and_update(connection, ids, fixed_time, decide).await;
    }
    let mut transaction = PgConnection::begin(connection).await?;
    let written = lock_and_update(&mut transaction, ids, fixed_time, decide).await?;
    transaction.commit().await?;
    Ok(written)
}

async fn lock_and_update<'a>(
    connection: &mut PgConnection,
    ids: &[SessionId],
    fixed_time: Option<DateTime<Utc>>,
    decide: impl FnOnce(Vec<(SessionId, Result<Session, Error>)>) -> Vec<ChangeSet<'a>>,
) -> Result<Vec<(SessionId, DateTime<Utc>)>, Error> {
    lock(connection, ids).await?;
    let decided = decide(find(&mut *connection, ids).await?);
    match decided.is_empty() {
        true => Ok(Vec::new()),
        false => update_if_version(&mut *connection, &decided, fixed_time).await,
    }
}
