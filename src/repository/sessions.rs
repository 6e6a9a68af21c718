//! Sessions, their members and their history.
//!
//! Each of the three statements takes any number of sessions and commits by itself: one round
//! trip, one fsync. A change writes its event and the deliveries to its subscribers in the same. The surprise: an update of members never asks who is in. It was decided against
//! a version, and `version = expected` in the statement makes that decision still true.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::Error;
use super::error::corrupt;
use crate::domain::{Account, AppId, Buin, Change, Session, SessionId, State, Title, Version};

/// A session that begins, and the app that created it.
#[derive(Clone, Copy, Debug)]
pub struct Creation<'a> {
    /// The session, at version 1.
    pub session: &'a Session,
    /// The app that acted for its owner.
    pub app_id: &'a AppId,
}

/// A decided update, who decided it, and the app that acted for them.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'a> {
    /// The session's state before is `change.after.version` minus 1.
    pub change: &'a Change,
    /// The account that acted.
    pub operator: &'a Account,
    /// The app that acted for it.
    pub app_id: &'a AppId,
}

/// Reads sessions. What is not there is not in the answer, which has no order.
///
/// # Errors
/// When the database fails, or holds what cannot be.
pub async fn find(pool: &PgPool, ids: &[SessionId]) -> Result<Vec<Session>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"
        select session_id, buin, title, owner, version, state, created_at, updated_at,
               array(
                   select account from session_member
                   where session_member.session_id = session.session_id
                   order by joined_version, position
               ) as "members!"
        from session
        where session_id = any($1)
        "#,
        &ids
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Session::try_from).collect()
}

/// Writes new sessions, their members and their first events: all or none.
///
/// # Errors
/// When the database fails.
pub async fn insert(pool: &PgPool, creations: &[Creation<'_>]) -> Result<(), Error> {
    let mut items = Items::default();
    let mut members = Members::default();
    for Creation { session, app_id } in creations {
        let changes = Changes {
            title: Some(session.title.as_str()),
            owner: Some(session.owner.as_str()),
            member: texts(&session.members),
            ..Changes::default()
        };
        items.push(session, &session.owner, app_id, &changes);
        members.push(session, &session.members);
    }
    sqlx::query!(
        r#"
        with item as (
            select * from unnest(
                $1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::int[],
                $7::timestamptz[], $8::text[], $9::text[], $10::text[]
            ) as item (
                session_id, buin, version, title, owner, member_count,
                at, operator, app_id, changes
            )
        ), new_session as (
            insert into session (
                session_id, buin, title, owner, version, state, member_count,
                created_at, updated_at
            )
            select session_id, buin, title, owner, version, 'active', member_count, at, at
            from item
        ), new_member as (
            insert into session_member (session_id, buin, account, joined_version, position)
            select session_id, buin, account, joined_version, position
            from unnest($11::uuid[], $12::bigint[], $13::text[], $14::bigint[], $15::int[])
                as member (session_id, buin, account, joined_version, position)
        ), new_delivery as (
            insert into delivery (
                session_id, buin, app_id, version, state, due_at, attempts, tries, created_at
            )
            select item.session_id, app.buin, app.app_id, item.version, 'pending', item.at, 0, 0,
                   item.at
            from item
            join app on app.buin = item.buin
            where app.callback_url is not null and app.disabled_at is null
              and 'callbacks' = any(app.permissions)
        )
        insert into session_event (
            session_id, version, kind, operator, app_id, title, owner, changes, created_at
        )
        select session_id, version, 'created', operator, app_id, title, owner, changes::jsonb, at
        from item
        "#,
        &items.session_ids,
        &items.buins,
        &items.versions,
        &items.titles as &[&str],
        &items.owners as &[&str],
        &items.member_counts,
        &items.at,
        &items.operators as &[&str],
        &items.app_ids as &[&str],
        &items.changes,
        &members.session_ids,
        &members.buins,
        &members.accounts as &[&str],
        &members.joined_versions,
        &members.positions,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Writes decided updates, each only if its session still has the version that it was decided
/// against. Gives the sessions that were written; for the others somebody else was faster, and
/// nothing of theirs was changed.
///
/// # Errors
/// When the database fails.
pub async fn update_if_version(
    pool: &PgPool,
    updates: &[Decided<'_>],
) -> Result<Vec<SessionId>, Error> {
    let mut items = Items::default();
    let mut added = Members::default();
    let mut removed = Members::default();
    for Decided { change, operator, app_id } in updates {
        let changes = Changes {
            title: change.title.as_ref().map(Title::as_str),
            owner: change.owner.as_ref().map(Account::as_str),
            add_member: texts(&change.added),
            del_member: texts(&change.removed),
            ..Changes::default()
        };
        items.push(&change.after, operator, app_id, &changes);
        added.push(&change.after, &change.added);
        removed.push(&change.after, &change.removed);
    }
    let written = sqlx::query_scalar!(
        r#"
        with item as (
            select * from unnest(
                $1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::int[],
                $6::timestamptz[], $7::text[], $8::text[], $9::text[]
            ) as item (
                session_id, version, title, owner, member_count,
                at, operator, app_id, changes
            )
        ), written as (
            update session
            set title = item.title, owner = item.owner, version = item.version,
                member_count = item.member_count, updated_at = item.at
            from item
            where session.session_id = item.session_id and session.version = item.version - 1
            returning session.session_id, session.buin
        ), removed as (
            delete from session_member
            using unnest($10::uuid[], $11::text[]) as gone (session_id, account), written
            where gone.session_id = written.session_id
              and session_member.session_id = gone.session_id
              and session_member.account = gone.account
        ), added as (
            insert into session_member (session_id, buin, account, joined_version, position)
            select session_id, written.buin, account, joined_version, position
            from unnest($12::uuid[], $13::text[], $14::bigint[], $15::int[])
                as newcomer (session_id, account, joined_version, position)
            join written using (session_id)
        ), event as (
            insert into session_event (
                session_id, version, kind, operator, app_id, title, owner, changes, created_at
            )
            select session_id, version, 'updated', operator, app_id, title, owner,
                   changes::jsonb, at
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
        )
        select session_id from written
        "#,
        &items.session_ids,
        &items.versions,
        &items.titles as &[&str],
        &items.owners as &[&str],
        &items.member_counts,
        &items.at,
        &items.operators as &[&str],
        &items.app_ids as &[&str],
        &items.changes,
        &removed.session_ids,
        &removed.accounts as &[&str],
        &added.session_ids,
        &added.accounts as &[&str],
        &added.joined_versions,
        &added.positions,
    )
    .fetch_all(pool)
    .await?;
    Ok(written.into_iter().map(SessionId::new).collect())
}

struct Row {
    session_id: Uuid,
    buin: i64,
    title: String,
    owner: String,
    version: i64,
    state: String,
    members: Vec<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Session {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let account = |table, column| {
            move |text: &str| Account::new(text).map_err(corrupt(table, column, text))
        };
        Ok(Self {
            id: SessionId::new(row.session_id),
            buin: Buin::new(row.buin).map_err(corrupt("session", "buin", row.buin))?,
            title: Title::new(&row.title).map_err(corrupt("session", "title", &row.title))?,
            owner: account("session", "owner")(&row.owner)?,
            version: Version::new(row.version).map_err(corrupt(
                "session",
                "version",
                row.version,
            ))?,
            state: match row.state.as_str() {
                "active" => State::Active,
                "dissolved" => State::Dissolved,
                other => return Err(corrupt("session", "state", other)("no such state")),
            },
            members: row
                .members
                .iter()
                .map(|text| account("session_member", "account")(text))
                .collect::<Result<_, _>>()?,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// What an event keeps, in the words of the wire protocol. What did not change is left away.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Changes<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    member: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    add_member: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    del_member: Vec<&'a str>,
}

/// One array a column: what becomes a row of `session` and one of `session_event`.
#[derive(Default)]
struct Items<'a> {
    session_ids: Vec<Uuid>,
    buins: Vec<i64>,
    versions: Vec<i64>,
    titles: Vec<&'a str>,
    owners: Vec<&'a str>,
    member_counts: Vec<i32>,
    at: Vec<DateTime<Utc>>,
    operators: Vec<&'a str>,
    app_ids: Vec<&'a str>,
    changes: Vec<String>,
}

impl<'a> Items<'a> {
    fn push(
        &mut self,
        after: &'a Session,
        operator: &'a Account,
        app_id: &'a AppId,
        changes: &Changes<'_>,
    ) {
        self.session_ids.push(after.id.uuid());
        self.buins.push(after.buin.get());
        self.versions.push(after.version.get());
        self.titles.push(after.title.as_str());
        self.owners.push(after.owner.as_str());
        self.member_counts.push(count(after.members.len()));
        self.at.push(after.updated_at);
        self.operators.push(operator.as_str());
        self.app_ids.push(app_id.as_str());
        // Text and lists of text: nothing in there can fail to be JSON.
        self.changes.push(serde_json::to_string(changes).unwrap_or_default());
    }
}

/// One array a column: what becomes, or ends, a row of `session_member`.
#[derive(Default)]
struct Members<'a> {
    session_ids: Vec<Uuid>,
    buins: Vec<i64>,
    accounts: Vec<&'a str>,
    joined_versions: Vec<i64>,
    positions: Vec<i32>,
}

impl<'a> Members<'a> {
    fn push(&mut self, after: &Session, accounts: &'a [Account]) {
        for (place, account) in accounts.iter().enumerate() {
            self.session_ids.push(after.id.uuid());
            self.buins.push(after.buin.get());
            self.accounts.push(account.as_str());
            self.joined_versions.push(after.version.get());
            self.positions.push(count(place));
        }
    }
}

fn texts(accounts: &[Account]) -> Vec<&str> {
    accounts.iter().map(Account::as_str).collect()
}

/// The number of members is limited far below this by the configuration.
fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
