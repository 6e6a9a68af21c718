//! Apps and their secrets. Secrets are sealed when they are written and opened when they are read.

mod audit_records;
mod removal;
mod row;
mod secrets;
mod stored;

pub use self::removal::{archive_rest, delete, forget_previous_keys, is_in_history};
use self::row::{AppRow, SealedSecrets};
pub(super) use self::secrets::{
    AppSecrets, aes_key_context, callback_token_context, lock_secrets, previous_aes_key_context,
    update_secrets,
};
use self::stored::permission_names;
pub use self::stored::{PreviousAesKey, StoredApp};
use super::audit::{self, AuditContext};
use super::{Error, Pool, PoolTransaction, sealing};
use crate::domain::{App, AppId, Buin};
use crate::keyring::Keyring;

/// Selects apps: all, or those that meet a condition.
macro_rules! select_app {
    ($rest:literal $(, $argument:expr)*) => {
        sqlx::query_as!(
            AppRow,
            r#"
            select buin, app_id, name, aes_key, permissions, forms, callback_url, callback_token,
                   callbacks_paused_at is not null as "callbacks_paused!",
                   disabled_at is not null as "disabled!",
                   previous_aes_key, previous_aes_key_until,
                   archived_at is not null as "archived!"
            from app
            "# + $rest
            $(, $argument)*
        )
    };
}

/// A statement that writes an app: $1 to $14 are its columns, with $8 as the time.
macro_rules! write_app {
    ($statement:literal, $stored:expr, $app:expr, $sealed:expr, $at:expr) => {
        sqlx::query!(
            $statement,
            $app.buin.get(),
            $app.app_id.as_str(),
            $app.name,
            $sealed.aes_key,
            &permission_names($app.permissions) as &[&str],
            $app.callback.as_ref().map(|callback| callback.url.as_str()),
            $sealed.callback_token,
            $at,
            $app.disabled,
            $app.callbacks_paused,
            $app.forms.name(),
            $sealed.previous_aes_key,
            $stored.previous.as_ref().map(|previous| previous.until),
            $stored.archived,
        )
    };
}

/// Every app, ordered by enterprise and id.
///
/// # Errors
/// [`Error::MasterKeyUnknown`], or when the database fails, or holds an invalid value.
pub async fn list(pool: &Pool, keyring: &Keyring) -> Result<Vec<StoredApp>, Error> {
    let rows = select_app!("order by buin, app_id").fetch_all(pool).await?;
    rows.into_iter().map(|row| row.open(keyring)).collect()
}

/// One app.
///
/// # Errors
/// [`Error::AppUnknown`], or when the database fails.
pub async fn find(
    pool: &Pool,
    keyring: &Keyring,
    buin: Buin,
    app_id: &AppId,
) -> Result<StoredApp, Error> {
    let row = select_app!("where buin = $1 and app_id = $2", buin.get(), app_id.as_str())
        .fetch_optional(pool)
        .await?;
    found(row, keyring, buin, app_id)
}

/// Writes the audit record that an operator gets the secrets of an app.
///
/// # Errors
/// When the database fails.
pub async fn record_shown_secrets(
    pool: &Pool,
    app: &App,
    context: AuditContext<'_>,
) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    audit::write(&mut transaction, context, audit_records::secrets_shown_record(app)).await?;
    Ok(transaction.commit().await?)
}

/// Stores a new app and its audit record.
///
/// # Errors
/// [`Error::AppExists`], or when the database fails.
pub async fn insert(
    pool: &Pool,
    keyring: &Keyring,
    stored: &StoredApp,
    context: AuditContext<'_>,
) -> Result<(), Error> {
    Ok(begin_insert(pool, keyring, stored, context).await?.commit().await?)
}

/// Like [`insert`], but leaves the commit to the caller.
///
/// # Errors
/// [`Error::AppExists`], or when the database fails.
pub async fn begin_insert(
    pool: &Pool,
    keyring: &Keyring,
    stored: &StoredApp,
    context: AuditContext<'_>,
) -> Result<PoolTransaction, Error> {
    let app = &stored.app;
    let mut transaction = pool.begin().await?;
    let sealed =
        SealedSecrets::new(&sealing::lock_active_key(&mut transaction, keyring).await?, stored);
    write_app!(
        r#"
        insert into app (
            buin, app_id, name, aes_key, permissions, callback_url, callback_token,
            created_at, disabled_at, callbacks_paused_at, forms,
            previous_aes_key, previous_aes_key_until, archived_at
        )
        values (
            $1, $2, $3, $4, $5, $6, $7, $8,
            case when $9 then $8::timestamptz end, case when $10 then $8::timestamptz end, $11,
            $12, $13, case when $14 then $8::timestamptz end
        )
        "#,
        stored,
        app,
        sealed,
        context.at
    )
    .execute(&mut *transaction)
    .await
    .map_err(|error| match error.as_database_error().and_then(|error| error.constraint()) {
        Some("app_pkey") => Error::AppExists { buin: app.buin, app_id: app.app_id.clone() },
        _ => error.into(),
    })?;
    audit::write(&mut transaction, context, audit_records::created_record(app)).await?;
    Ok(transaction)
}

/// Changes an app: `change` edits the stored app in place. The row is locked until the transaction
/// ends. The time of disabling or pausing stays if the app was already disabled or paused. An
/// audit record is written only if a value changes.
///
/// # Errors
/// [`Error::AppUnknown`], [`Error::AppArchived`], or when the database fails.
pub async fn update_with(
    pool: &Pool,
    keyring: &Keyring,
    buin: Buin,
    app_id: &AppId,
    context: AuditContext<'_>,
    change: impl FnOnce(&mut StoredApp),
) -> Result<StoredApp, Error> {
    let (stored, transaction) =
        begin_update_with(pool, keyring, buin, app_id, context, change).await?;
    transaction.commit().await?;
    Ok(stored)
}

/// Like [`update_with`], but leaves the commit to the caller.
///
/// # Errors
/// [`Error::AppUnknown`], [`Error::AppArchived`], or when the database fails.
pub async fn begin_update_with(
    pool: &Pool,
    keyring: &Keyring,
    buin: Buin,
    app_id: &AppId,
    context: AuditContext<'_>,
    change: impl FnOnce(&mut StoredApp),
) -> Result<(StoredApp, PoolTransaction), Error> {
    let mut transaction = pool.begin().await?;
    let key = sealing::lock_active_key(&mut transaction, keyring).await?;
    let row =
        select_app!("where buin = $1 and app_id = $2 for update", buin.get(), app_id.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
    let before = found(row, keyring, buin, app_id)?;
    if before.archived {
        return Err(Error::AppArchived { buin, app_id: app_id.clone() });
    }
    let mut stored = before.clone();
    change(&mut stored);
    let Some(record) = audit_records::changed_record(&before, &stored) else {
        return Ok((stored, transaction));
    };
    let (app, sealed) = (&stored.app, SealedSecrets::new(&key, &stored));
    write_app!(
        r#"
        update app
        set name = $3, aes_key = $4, permissions = $5, callback_url = $6, callback_token = $7,
            disabled_at = case when $9 then coalesce(disabled_at, $8) end,
            callbacks_paused_at = case when $10 then coalesce(callbacks_paused_at, $8) end,
            forms = $11, previous_aes_key = $12, previous_aes_key_until = $13,
            archived_at = case when $14 then coalesce(archived_at, $8) end
        where buin = $1 and app_id = $2
        "#,
        stored,
        app,
        sealed,
        context.at
    )
    .execute(&mut *transaction)
    .await?;
    audit::write(&mut transaction, context, record).await?;
    Ok((stored, transaction))
}

fn found(
    row: Option<AppRow>,
    keyring: &Keyring,
    buin: Buin,
    app_id: &AppId,
) -> Result<StoredApp, Error> {
    row.ok_or_else(|| Error::AppUnknown { buin, app_id: app_id.clone() })?.open(keyring)
}
