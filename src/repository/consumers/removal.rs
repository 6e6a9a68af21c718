//! Consumers are removed: by their app, with their app, or because they were not used for long.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::manage::{delete_contents, lock};
use crate::domain::{App, AppId, Buin, ConsumerName};
use crate::repository::{Error, Pool};

/// Removes a consumer with its events. Returns whether the app had it.
///
/// # Errors
/// When the database fails.
pub async fn remove(pool: &Pool, app: &App, name: &ConsumerName) -> Result<bool, Error> {
    let mut transaction = pool.begin().await?;
    let Some(consumer_id) = lock(&mut transaction, app.buin, &app.app_id, name).await? else {
        return Ok(false);
    };
    remove_locked(&mut transaction, &[consumer_id]).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Removes all consumers of an app.
///
/// # Errors
/// When the database fails.
pub(in crate::repository) async fn remove_of_app(
    connection: &mut PgConnection,
    buin: Buin,
    app_id: &AppId,
) -> Result<(), Error> {
    let ids = sqlx::query_scalar!(
        r#"
        select consumer_id from consumer
        where buin = $1 and app_id = $2
        order by buin, app_id, name
        for update
        "#,
        buin.get(),
        app_id.as_str(),
    )
    .fetch_all(&mut *connection)
    .await?;
    remove_locked(connection, &ids).await
}

/// Removes up to `limit` consumers that were not used since `before`. Returns their names.
///
/// # Errors
/// When the database fails.
pub async fn prune(
    pool: &Pool,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(Buin, String, String)>, Error> {
    let mut transaction = pool.begin().await?;
    let rows = sqlx::query!(
        r#"
        select consumer_id, buin, app_id, name
        from consumer
        where used_at < $1
        order by used_at
        limit $2
        -- Consumers that another server removes are skipped.
        for update skip locked
        "#,
        before,
        limit,
    )
    .fetch_all(&mut *transaction)
    .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.consumer_id).collect();
    remove_locked(&mut transaction, &ids).await?;
    transaction.commit().await?;
    let removed =
        rows.into_iter().filter_map(|row| Some((Buin::new(row.buin).ok()?, row.app_id, row.name)));
    Ok(removed.collect())
}

/// Removes locked consumers with their events.
async fn remove_locked(connection: &mut PgConnection, ids: &[Uuid]) -> Result<(), Error> {
    delete_contents(connection, ids).await?;
    sqlx::query!("delete from consumer where consumer_id = any($1)", ids)
        .execute(connection)
        .await?;
    Ok(())
}
