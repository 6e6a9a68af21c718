//! New changes, for the readers that follow the feed as it grows.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::types::Json;
use sqlx::{Executor as _, FromRow, PgConnection};
use uuid::Uuid;

use super::FeedPosition;
use super::role_lookup::with_role_lookups;
use crate::domain::{Account, AppId, Buin, EventKind, FeedEvent, FeedSeq, SessionId, Version};
use crate::repository::Error;
use crate::repository::connections::persistent::Persistent;
use crate::repository::error::corrupt;
use crate::repository::history::StoredContent;
use crate::repository::sessions::{StoredChanges, account, version};

/// A change without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveChange {
    /// Its number among the changes of all enterprises.
    pub position: FeedPosition,
    /// The enterprise.
    pub buin: Buin,
    /// Its number among the changes of the enterprise.
    pub seq: FeedSeq,
    /// The session.
    pub session_id: SessionId,
    /// The version that the change made.
    pub version: Version,
    /// The kind of the change.
    pub kind: EventKind,
    /// The app that made the change.
    pub app: AppId,
}

/// The changes after a position, and the head of the feed at the same moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveChanges {
    /// The line of history.
    pub epoch: Uuid,
    /// The position of the last change in the feed.
    pub head: FeedPosition,
    /// The changes, in their order.
    pub changes: Vec<LiveChange>,
}

/// The accounts that have a role before or after a change, among those that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeRoles {
    /// The members.
    pub members: Vec<Account>,
    /// The owners.
    pub owners: Vec<Account>,
}

#[derive(FromRow)]
struct LiveRow {
    #[sqlx(rename = "epoch!")]
    epoch: Uuid,
    #[sqlx(rename = "head!")]
    head: i64,
    #[sqlx(rename = "position?")]
    position: Option<i64>,
    #[sqlx(rename = "buin?")]
    buin: Option<i64>,
    #[sqlx(rename = "seq?")]
    seq: Option<i64>,
    #[sqlx(rename = "session_id?")]
    session_id: Option<Uuid>,
    #[sqlx(rename = "version?")]
    version: Option<i64>,
    #[sqlx(rename = "kind?")]
    kind: Option<String>,
    #[sqlx(rename = "app_id?")]
    app_id: Option<String>,
}

/// The content of a change that the feed does not have.
#[derive(FromRow)]
struct ContentRow {
    #[sqlx(rename = "operator!")]
    operator: String,
    #[sqlx(rename = "reason?")]
    reason: Option<String>,
    #[sqlx(rename = "changes!: Json<StoredChanges<'static>>")]
    changes: Json<StoredChanges<'static>>,
    #[sqlx(rename = "attributes?: Json<Map<String, Value>>")]
    attributes: Option<Json<Map<String, Value>>>,
    #[sqlx(rename = "created_at!")]
    created_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct RolesRow {
    #[sqlx(rename = "members!")]
    members: Vec<String>,
    #[sqlx(rename = "owners!")]
    owners: Vec<String>,
}

/// At most `limit` changes after a position. No position: only the head.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn live_changes(
    connection: &mut PgConnection,
    after: Option<FeedPosition>,
    limit: u32,
) -> Result<LiveChanges, Error> {
    let statement = sqlx::query_as!(
        LiveRow,
        r#"
        -- The result has at least one row, so that the head is known if there are no changes.
        select feed_state.epoch as "epoch!", coalesce(head.position, 0) as "head!",
               change.position as "position?", change.buin as "buin?", change.seq as "seq?",
               change.session_id as "session_id?", change.version as "version?",
               change.kind as "kind?", change.app_id as "app_id?"
        from feed_state
        left join lateral (
            select position from feed order by position desc limit 1
        ) as head on true
        left join lateral (
            select position, buin, seq, session_id, version, kind, app_id
            from feed
            where position > $1
            order by position
            limit $2
        ) as change on true
        where feed_state.only_one
        order by change.position
        "#,
        after.map_or(i64::MAX, FeedPosition::get),
        i64::from(limit),
    );
    let rows = connection.fetch_all(Persistent(statement)).await?;
    let mut found =
        LiveChanges { epoch: Uuid::nil(), head: FeedPosition::default(), changes: Vec::new() };
    for row in &rows {
        let row = LiveRow::from_row(row)?;
        (found.epoch, found.head) = (row.epoch, FeedPosition::new(row.head));
        found.changes.extend(row.into_change()?);
    }
    Ok(found)
}

impl LiveRow {
    /// The change; `None` if the row has only the head.
    fn into_change(self) -> Result<Option<LiveChange>, Error> {
        let numbers = self.position.zip(self.buin).zip(self.seq);
        let keys = self.session_id.zip(self.version).zip(self.kind.zip(self.app_id));
        let Some((((position, buin), seq), ((session_id, number), (kind, app_id)))) =
            numbers.zip(keys)
        else {
            return Ok(None);
        };
        Ok(Some(LiveChange {
            position: FeedPosition::new(position),
            buin: Buin::new(buin).map_err(corrupt("feed", "buin", buin))?,
            seq: FeedSeq::new(seq).map_err(corrupt("feed", "seq", seq))?,
            session_id: SessionId::new(session_id),
            version: version("feed", number)?,
            kind: kind.parse().map_err(corrupt("feed", "kind", &kind))?,
            app: app_id.parse().map_err(corrupt("feed", "app_id", &app_id))?,
        }))
    }
}

/// The roles that some accounts have before or after each of these changes, in the same order.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn roles_at(
    connection: &mut PgConnection,
    changes: &[LiveChange],
    accounts: &[Account],
) -> Result<Vec<ChangeRoles>, Error> {
    let buins: Vec<i64> = changes.iter().map(|change| change.buin.get()).collect();
    let ids: Vec<Uuid> = changes.iter().map(|change| change.session_id.uuid()).collect();
    let versions: Vec<i64> = changes.iter().map(|change| change.version.get()).collect();
    let accounts: Vec<&str> = accounts.iter().map(Account::as_str).collect();
    let statement = with_role_lookups!(
        query_as!(RolesRow,),
        [
            r#"
        select coalesce(roles.members, '{}') as "members!", coalesce(roles.owners, '{}') as "owners!"
        from unnest($1::bigint[], $2::uuid[], $3::bigint[])
             with ordinality as change (buin, session_id, version, number)
        left join lateral (
            select array_agg(account) filter (where role = 'member') as members,
                   array_agg(account) filter (where role = 'owner') as owners
            from (
                -- The accounts with the role at present or at any time. `is true` makes one hash
                -- table of the accounts, for all changes: filters may name thousands of them.
                select account, 'member' as role
                from session_member
                where session_id = change.session_id and (account in (select unnest($4::text[]))) is true
                union
                select owner, 'owner'
                from session
                where session_id = change.session_id and (owner in (select unnest($4::text[]))) is true
                union
                select account, role
                from role_change
                where session_id = change.session_id and (account in (select unnest($4::text[]))) is true
            ) as candidate
            -- An account without a change of the role has had it since version 1.
            where "#
            (
                had_role "change.buin" "candidate.account" "candidate.role" "change.session_id"
                "change.version" else "true"
            )
            r#"
        ) as roles on true
        order by change.number
        "#
        ],
        (&buins, &ids, &versions, &accounts as &[&str]),
    );
    let rows = connection.fetch_all(Persistent(statement)).await?;
    let known = |texts: Vec<String>| -> Result<Vec<Account>, Error> {
        texts.iter().map(|text| account("role_change", "account", text)).collect()
    };
    let roles = rows.iter().map(|row| {
        let RolesRow { members, owners } = RolesRow::from_row(row)?;
        Ok(ChangeRoles { members: known(members)?, owners: known(owners)? })
    });
    roles.collect()
}

/// The contents of these changes, in the same order.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn events_of(
    connection: &mut PgConnection,
    changes: &[&LiveChange],
) -> Result<Vec<FeedEvent>, Error> {
    let ids: Vec<Uuid> = changes.iter().map(|change| change.session_id.uuid()).collect();
    let versions: Vec<i64> = changes.iter().map(|change| change.version.get()).collect();
    let statement = sqlx::query_as!(
        ContentRow,
        r#"
        select event.operator as "operator!", event.reason as "reason?",
               event.changes as "changes!: Json<StoredChanges<'static>>",
               event.attributes as "attributes?: Json<Map<String, Value>>",
               event.created_at as "created_at!"
        from unnest($1::uuid[], $2::bigint[])
             with ordinality as change (session_id, version, number)
        cross join lateral (
            select operator, reason, changes, attributes, created_at
            from session_event
            where session_event.session_id = change.session_id
              and session_event.version = change.version
            offset 0
        ) as event
        order by change.number
        "#,
        &ids,
        &versions,
    );
    let rows = connection.fetch_all(Persistent(statement)).await?;
    let events = rows.into_iter().zip(changes).map(|(row, change)| {
        let row = ContentRow::from_row(&row)?;
        let content = StoredContent {
            operator: &row.operator,
            reason: row.reason.as_deref(),
            changes: row.changes.0,
            attributes: row.attributes.map(|patch| patch.0),
            created_at: row.created_at,
        };
        let event = content.into_event(change.version, change.kind, change.app.clone())?;
        Ok(FeedEvent { seq: change.seq, session_id: change.session_id, event })
    });
    events.collect()
}
