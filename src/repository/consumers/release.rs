//! The end of parking: a parked change is handed out again, or counts as done.

use serde_json::json;

use super::manage::lock;
use crate::domain::{AppId, Buin, ConsumerName, FeedSeq};
use crate::repository::audit::{self, AuditAction, AuditContext, AuditRecord};
use crate::repository::{Error, Pool};

/// Makes parked changes of a consumer ready for their members again, as if they had never failed; or, with
/// `discard`, removes them. The later changes of their sessions follow. `seqs` selects the changes; `None`
/// stands for all. Returns the number of parked changes that were released, or `None` if the app has no
/// such consumer. The act of an operator is recorded with its context.
///
/// # Errors
/// When the database fails.
pub async fn release(
    pool: &Pool,
    (buin, app_id): (Buin, &AppId),
    name: &ConsumerName,
    seqs: Option<&[FeedSeq]>,
    discard: bool,
    context: Option<AuditContext<'_>>,
) -> Result<Option<u64>, Error> {
    let mut transaction = pool.begin().await?;
    let connection = &mut *transaction;
    let Some(consumer_id) = lock(connection, buin, app_id, name).await? else { return Ok(None) };
    let seqs: Option<Vec<i64>> = seqs.map(|seqs| seqs.iter().map(|seq| seq.get()).collect());
    let released = sqlx::query_scalar!(
        r#"
        with parked as materialized (
            select seq, session_id
            from consumer_held_event
            where consumer_id = $1 and parked_at is not null
              and ($2::bigint[] is null or seq = any($2))
        ), removed as (
            -- The consumer is locked, so no other statement changes or deletes these rows.
            delete from consumer_held_event
            where consumer_id = $1
              and (
                  parked_at is null and session_id in (select session_id from parked)
                  or parked_at is not null and seq in (select seq from parked)
              )
            returning seq, session_id, version, prev_seq, bytes, parked_at
        ), new_event as (
            insert into consumer_event (consumer_id, seq, session_id, version, prev_seq, bytes)
            select $1, seq, session_id, version, prev_seq, bytes
            from removed
            where parked_at is null or not $3::bool
            returning seq
        ), updated_position as (
            update consumer_position
            set ready_after = least(ready_after, (select min(seq) - 1 from new_event)),
                held_back = held_back - (select count(*) from removed)
            where consumer_id = $1
        )
        select count(*) as "released!" from parked
        "#,
        consumer_id,
        seqs.as_deref(),
        discard,
    )
    .fetch_one(&mut *connection)
    .await?;
    if let Some(context) = context {
        let details = json!({
            "consumer": name.as_str(), "released": released, "discarded": discard,
        });
        let action = AuditAction::ConsumerRelease;
        let record = AuditRecord::for_app(action, buin, app_id, details);
        audit::write(connection, context, record).await?;
    }
    transaction.commit().await?;
    Ok(Some(u64::try_from(released).unwrap_or_default()))
}
