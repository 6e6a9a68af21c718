//! Writing what was decided about sessions.

use sqlx::PgPool;

use super::arrays::{Items, Keys, Members, Titles};
use super::stored::StoredChanges;
use crate::domain::{Account, AppId, Change, IdempotencyKey, Reason, SessionId};
use crate::repository::Error;

/// A decided change, who decided it, and the app that acted for them.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'a> {
    /// The session's version before is `change.after.version` minus 1.
    pub change: &'a Change,
    /// The account that acted.
    pub operator: &'a Account,
    /// The app that acted for it.
    pub app_id: &'a AppId,
    /// Why.
    pub reason: Option<&'a Reason>,
    /// The caller's name for the request.
    pub key: Option<&'a IdempotencyKey>,
}

/// Writes decided changes, each only if its session still has the version that it was decided
/// against. Gives the sessions that were written; for the others somebody else was faster, and
/// nothing of theirs was changed.
///
/// # Errors
/// [`Error::KeyTaken`] when a request of this name was done before, or when the database fails.
/// Then nothing at all was written.
pub async fn update_if_version(
    pool: &PgPool,
    updates: &[Decided<'_>],
) -> Result<Vec<SessionId>, Error> {
    let mut items = Items::default();
    let mut added = Members::default();
    let mut moved = Members::default();
    let mut removed = Members::default();
    let mut titles = Titles::default();
    let mut keys = Keys::default();
    for Decided { change, operator, app_id, reason, key } in updates {
        let (after, changes) = (&change.after, &change.changes);
        items.push(after, operator, app_id, *reason, &StoredChanges::from(changes));
        items.kind(change.kind);
        items.attributes_become(
            changes.attributes.as_ref().map(|_| after.attributes.as_map()),
            changes.attributes.as_ref().map(|patch| patch.as_map()),
        );
        match &changes.members {
            None => added.push_all(after, &changes.added),
            // Who stays gets a new place as well.
            Some(members) => {
                let comes = |account: &Account| changes.added.contains(account);
                added.push_some(after, members, comes);
                moved.push_some(after, members, |account| !comes(account));
            }
        }
        removed.push_all(after, &changes.removed);
        if changes.title.is_some() {
            titles.push(after);
        }
        keys.push(after, app_id, *key);
    }
    let written = sqlx::query_scalar!(
        r#"
        with item as (
            select * from unnest(
                $1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::int[],
                $7::timestamptz[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
                $13::text[], $14::text[]
            ) as item (
                session_id, version, state, title, owner, member_count,
                at, kind, operator, app_id, reason, changes, attributes, patch
            )
        ), written as (
            update session
            set title = item.title, owner = item.owner, version = item.version,
                state = item.state, member_count = item.member_count, updated_at = item.at,
                attributes = coalesce(item.attributes::json, session.attributes)
            from item
            where session.session_id = item.session_id and session.version = item.version - 1
            returning session.session_id, session.buin
        ), retitled as (
            update session_title
            set folded = title.folded, grams = title.grams::bigint[]
            from unnest($15::uuid[], $16::text[], $17::text[])
                     as title (session_id, folded, grams),
                 written
            where title.session_id = written.session_id
              and session_title.session_id = title.session_id
        ), removed as (
            delete from session_member
            using unnest($18::uuid[], $19::text[]) as gone (session_id, account), written
            where gone.session_id = written.session_id
              and session_member.session_id = gone.session_id
              and session_member.account = gone.account
        ), moved as (
            update session_member
            set joined_version = place.joined_version, position = place.position
            from unnest($20::uuid[], $21::text[], $22::bigint[], $23::int[])
                     as place (session_id, account, joined_version, position),
                 written
            where place.session_id = written.session_id
              and session_member.session_id = place.session_id
              and session_member.account = place.account
        ), added as (
            insert into session_member (session_id, buin, account, joined_version, position)
            select session_id, written.buin, account, joined_version, position
            from unnest($24::uuid[], $25::text[], $26::bigint[], $27::int[])
                as newcomer (session_id, account, joined_version, position)
            join written using (session_id)
        ), event as (
            insert into session_event (
                session_id, version, buin, kind, operator, app_id, title, owner, reason, changes,
                attributes, created_at
            )
            select session_id, version, written.buin, kind, operator, app_id, title, owner, reason,
                   changes::jsonb, patch::json, at
            from item
            join written using (session_id)
        ), new_delivery as (
            insert into delivery (
                session_id, buin, app_id, version, state, due_at, attempts, tries, created_at
            )
            select item.session_id, app.buin, app.app_id, item.version, 'pending', item.at, 0, 0,
                   item.at
            from item
            join written using (session_id)
            join app on app.buin = written.buin
            where app.callback_url is not null and app.disabled_at is null
              and 'callbacks' = any(app.permissions)
        ), new_key as (
            insert into idempotency (
                buin, app_id, key, digest, session_id, version, expires_at
            )
            select key.buin, app_id, key, digest, session_id, version, expires_at
            from unnest(
                $28::bigint[], $29::text[], $30::text[], $31::bytea[], $32::uuid[], $33::bigint[],
                $34::timestamptz[]
            ) as key (buin, app_id, key, digest, session_id, version, expires_at)
            join written using (session_id)
        )
        select session_id from written
        "#,
        &items.session_ids,
        &items.versions,
        &items.states as &[&str],
        &items.titles as &[&str],
        &items.owners as &[&str],
        &items.member_counts,
        &items.at,
        &items.kinds as &[&str],
        &items.operators as &[&str],
        &items.app_ids as &[&str],
        &items.reasons as &[Option<&str>],
        &items.changes,
        &items.attributes as &[Option<String>],
        &items.patches as &[Option<String>],
        &titles.session_ids,
        &titles.folded,
        &titles.grams,
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
        &keys.buins,
        &keys.app_ids as &[&str],
        &keys.names as &[&str],
        &keys.digests as &[&[u8]],
        &keys.session_ids,
        &keys.versions,
        &keys.expire_at,
    )
    .fetch_all(pool)
    .await
    .map_err(Error::of_write)?;
    Ok(written.into_iter().map(SessionId::new).collect())
}
