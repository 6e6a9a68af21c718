//! The identity of a line of history.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::repository::audit::{self, AuditAction, AuditContext, AuditRecord};
use crate::repository::{Error, Pool};

/// Begins another line of history, in which the numbers of the feed may stand for other changes than
/// before. Returns its identity.
///
/// # Errors
/// When the database fails.
pub async fn renew_epoch(connection: &mut PgConnection) -> Result<Uuid, Error> {
    Ok(sqlx::query_scalar!(
        "insert into feed_state (epoch) values (gen_random_uuid())
         on conflict (only_one) do update set epoch = excluded.epoch
         returning epoch"
    )
    .fetch_one(connection)
    .await?)
}

/// Does the same as an administrative act.
///
/// # Errors
/// When the database fails.
pub async fn renew_epoch_with_record(
    pool: &Pool,
    context: AuditContext<'_>,
) -> Result<Uuid, Error> {
    let mut transaction = pool.begin().await?;
    let epoch = renew_epoch(&mut transaction).await?;
    let record = AuditRecord {
        action: AuditAction::DatabaseNewEpoch,
        buin: None,
        app_id: None,
        details: json!({ "epoch": epoch.to_string() }),
    };
    audit::write(&mut transaction, context, record).await?;
    transaction.commit().await?;
    Ok(epoch)
}
