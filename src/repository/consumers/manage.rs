//! Consumers are made, changed and reset. Their removal is in [`super::removal`].
//!
//! A reset and a removal lock the row of the consumer first, so that no selection runs beside them. A
//! reset gives the consumer another identity: a member that fetched before cannot acknowledge events of
//! the same numbers afterwards.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::row::{ConsumerPosition, FilterColumns, lease_column};
use crate::domain::{App, AppId, Buin, ConsumerLease, ConsumerLimits, ConsumerName, FeedFilter};
use crate::repository::audit::{self, AuditAction, AuditContext, AuditRecord};
use crate::repository::{Error, Pool};

/// A consumer to create.
#[derive(Clone, Debug)]
pub struct NewConsumer<'a> {
    /// The name.
    pub name: &'a ConsumerName,
    /// Selects the changes.
    pub filter: &'a FeedFilter,
    /// The lease of its events.
    pub lease: ConsumerLease,
    /// Its position.
    pub position: &'a ConsumerPosition,
}

/// Creates a consumer. Returns `false` if the app has the largest number of consumers. A consumer that
/// exists stays as it is.
///
/// # Errors
/// When the database fails.
pub async fn create(pool: &Pool, app: &App, new: NewConsumer<'_>) -> Result<bool, Error> {
    let NewConsumer { name, filter, lease, position } = new;
    let filter = FilterColumns::from(filter);
    let mut transaction = pool.begin().await?;
    // Two requests that create consumers of one app follow one another, so their number is exact.
    sqlx::query!(
        "select app_id from app where buin = $1 and app_id = $2 for no key update",
        app.buin.get(),
        app.app_id.as_str(),
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let is_full = sqlx::query_scalar!(
        r#"
        select count(*) >= $4 and not coalesce(bool_or(name = $3), false) as "is_full!"
        from consumer
        where buin = $1 and app_id = $2
        "#,
        app.buin.get(),
        app.app_id.as_str(),
        name.as_str(),
        i64::try_from(ConsumerLimits::MAX_PER_APP).unwrap_or(i64::MAX),
    )
    .fetch_one(&mut *transaction)
    .await?;
    if is_full {
        return Ok(false);
    }
    let consumer_id = sqlx::query_scalar!(
        r#"
        insert into consumer (
            buin, app_id, name, epoch, filter_member, filter_owner, filter_session_id,
            filter_kind, filter_app_id, lease_seconds, created_at, used_at
        )
        select $1, $2, $3, epoch, $4, $5, $6, $7, $8, $9, clock_timestamp(), clock_timestamp()
        from feed_state
        on conflict on constraint consumer_pkey do nothing
        returning consumer_id
        "#,
        app.buin.get(),
        app.app_id.as_str(),
        name.as_str(),
        filter.member,
        filter.owner,
        filter.session_id,
        filter.kind,
        filter.app_id,
        lease_column(lease),
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if let Some(consumer_id) = consumer_id {
        begin(&mut transaction, consumer_id, position).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// Gives a consumer another filter and another lease. Its position and its events stay. Returns whether the
/// app has such a consumer.
///
/// # Errors
/// When the database fails.
pub async fn update(
    pool: &Pool,
    app: &App,
    name: &ConsumerName,
    filter: &FeedFilter,
    lease: ConsumerLease,
) -> Result<bool, Error> {
    let filter = FilterColumns::from(filter);
    let updated = sqlx::query!(
        r#"
        update consumer
        set filter_member = $4, filter_owner = $5, filter_session_id = $6, filter_kind = $7,
            filter_app_id = $8, lease_seconds = $9, used_at = clock_timestamp()
        where buin = $1 and app_id = $2 and name = $3
        "#,
        app.buin.get(),
        app.app_id.as_str(),
        name.as_str(),
        filter.member,
        filter.owner,
        filter.session_id,
        filter.kind,
        filter.app_id,
        lease_column(lease),
    )
    .execute(pool)
    .await?;
    Ok(updated.rows_affected() > 0)
}

/// Moves a consumer to another position, in the present line of history. All its events are forgotten.
/// Returns whether the app has such a consumer. The act of an operator is recorded with its context.
///
/// # Errors
/// When the database fails.
pub async fn reset(
    pool: &Pool,
    (buin, app_id): (Buin, &AppId),
    name: &ConsumerName,
    position: &ConsumerPosition,
    context: Option<AuditContext<'_>>,
) -> Result<bool, Error> {
    let mut transaction = pool.begin().await?;
    let connection = &mut *transaction;
    let Some(consumer_id) = lock(connection, buin, app_id, name).await? else { return Ok(false) };
    delete_contents(connection, &[consumer_id]).await?;
    let consumer_id = sqlx::query_scalar!(
        r#"
        update consumer
        set consumer_id = gen_random_uuid(), epoch = feed_state.epoch, used_at = clock_timestamp()
        from feed_state
        where consumer_id = $1
        returning consumer_id
        "#,
        consumer_id,
    )
    .fetch_one(&mut *connection)
    .await?;
    begin(connection, consumer_id, position).await?;
    if let Some(context) = context {
        let details = json!({ "consumer": name.as_str(), "position": position.seq.get() });
        let action = AuditAction::ConsumerReset;
        let record = AuditRecord::for_app(action, buin, app_id, details);
        audit::write(connection, context, record).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// Locks a consumer, and returns its identity.
pub(super) async fn lock(
    connection: &mut PgConnection,
    buin: Buin,
    app_id: &AppId,
    name: &ConsumerName,
) -> Result<Option<Uuid>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select consumer_id from consumer
        where buin = $1 and app_id = $2 and name = $3
        for update
        "#,
        buin.get(),
        app_id.as_str(),
        name.as_str(),
    )
    .fetch_optional(connection)
    .await?)
}

/// Writes the first position of a consumer.
async fn begin(
    connection: &mut PgConnection,
    consumer_id: Uuid,
    position: &ConsumerPosition,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into consumer_position (consumer_id, position, cursor, ready_after, held_back)
        values ($1, $2, $3, $2, 0)
        "#,
        consumer_id,
        position.seq.get(),
        position.cursor,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes the positions and the events of locked consumers. The order is that of a claim, which locks events
/// before it counts those that it holds back.
pub(super) async fn delete_contents(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        with locked as materialized (
            select consumer_id, seq
            from consumer_event
            where consumer_id = any($1)
            order by consumer_id, seq
            for update
        )
        delete from consumer_event using locked
        where consumer_event.consumer_id = locked.consumer_id and consumer_event.seq = locked.seq
        "#,
        ids,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("delete from consumer_held_event where consumer_id = any($1)", ids)
        .execute(&mut *connection)
        .await?;
    sqlx::query!("delete from consumer_position where consumer_id = any($1)", ids)
        .execute(connection)
        .await?;
    Ok(())
}
