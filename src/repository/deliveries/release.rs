//! Undoes a claim, even one whose outcome is unknown.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::ClaimedDelivery;
use crate::domain::DeliveryId;
use crate::repository::Error;

/// A delivery that was claimed but not attempted.
#[derive(Clone, Debug)]
pub struct ReleasedDelivery {
    /// The id of the delivery.
    pub id: DeliveryId,
    /// The lease of the claim.
    pub lease: Uuid,
}

impl From<ClaimedDelivery> for ReleasedDelivery {
    fn from(ClaimedDelivery { id, lease, .. }: ClaimedDelivery) -> Self {
        Self { id, lease }
    }
}

/// Makes deliveries due again at `now`, as if they had not been claimed. A delivery that another
/// worker has claimed since is not changed.
///
/// # Errors
/// When the database fails.
pub async fn release(
    connection: &mut PgConnection,
    released: &[ReleasedDelivery],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if released.is_empty() {
        return Ok(());
    }
    let session_ids: Vec<Uuid> =
        released.iter().map(|delivery| delivery.id.session_id.uuid()).collect();
    let app_ids: Vec<&str> = released.iter().map(|delivery| delivery.id.app_id.as_str()).collect();
    let versions: Vec<i64> = released.iter().map(|delivery| delivery.id.version.get()).collect();
    let leases: Vec<Uuid> = released.iter().map(|delivery| delivery.lease).collect();
    retry_on_deadlock!({
        sqlx::query!(
            r#"
        with locked as (
            select item.session_id, item.app_id, item.version, item.lease
            from unnest($1::uuid[], $2::text[], $3::bigint[], $4::uuid[])
                as item (session_id, app_id, version, lease)
            join delivery on delivery.session_id = item.session_id
                         and delivery.app_id = item.app_id and delivery.version = item.version
                         and delivery.lease = item.lease
            order by delivery.session_id, delivery.app_id, delivery.version
            for no key update of delivery
        )
        update delivery
        set state = 'pending', lease = null, due_at = $5,
            attempts = attempts - 1, tries = tries - 1,
            first_tried_at = case when tries > 1 then first_tried_at end
        from locked
        where delivery.session_id = locked.session_id and delivery.app_id = locked.app_id
          and delivery.version = locked.version and delivery.lease = locked.lease
        "#,
            &session_ids,
            &app_ids as &[&str],
            &versions,
            &leases,
            now,
        )
        .execute(&mut *connection)
        .await
    })?;
    Ok(())
}

/// The lease of one claim, for any number of deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The id, unique to one claim.
    pub id: Uuid,
    /// The end of the lease.
    pub expires_at: DateTime<Utc>,
}

impl Lease {
    /// A lease with a new id.
    #[must_use]
    pub fn new(expires_at: DateTime<Utc>) -> Self {
        Self { id: Uuid::from_u128(rand::random()), expires_at }
    }
}

/// Makes the deliveries under `leases` due again at `now`. The claims of these leases may have
/// succeeded without a response.
///
/// # Errors
/// When the database fails.
pub async fn release_lost_leases(
    connection: &mut PgConnection,
    leases: &[Lease],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if leases.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = leases.iter().map(|lease| lease.id).collect();
    let expirations: Vec<DateTime<Utc>> = leases.iter().map(|lease| lease.expires_at).collect();
    retry_on_deadlock!({
        sqlx::query!(
            r#"
        with lost as (
            select delivery.session_id, delivery.app_id, delivery.version, delivery.lease
            from app
            cross join unnest($1::uuid[], $2::timestamptz[]) as item (lease, expires_at)
            -- The join on `due_at` uses the index `delivery_due`. Few leases end at the same time.
            join delivery on delivery.buin = app.buin and delivery.app_id = app.app_id
                         and delivery.due_at = item.expires_at and delivery.lease = item.lease
                         and delivery.state in ('pending', 'leased')
            order by delivery.session_id, delivery.app_id, delivery.version
            for no key update of delivery
        )
        update delivery
        set state = 'pending', lease = null, due_at = $3,
            attempts = attempts - 1, tries = tries - 1,
            first_tried_at = case when tries > 1 then first_tried_at end
        from lost
        where delivery.session_id = lost.session_id
          and delivery.app_id = lost.app_id
          and delivery.version = lost.version and delivery.lease = lost.lease
        "#,
            &ids,
            &expirations,
            now,
        )
        .execute(&mut *connection)
        .await
    })?;
    Ok(())
}
