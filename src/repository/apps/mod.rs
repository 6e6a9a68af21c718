//! Apps and their secrets.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::Error;
use super::error::corrupt;
use crate::domain::{App, AppId, Buin, Callback, Permission, Permissions, UnknownPermission};
use crate::wire::AesKey;

/// An app with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredApp {
    /// What the app is.
    pub app: App,
    /// The key that it shares with Muster.
    pub aes_key: AesKey,
}

/// Every app, by enterprise and id.
///
/// # Errors
/// When the database fails, or holds what cannot be.
pub async fn list(pool: &PgPool) -> Result<Vec<StoredApp>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select buin, app_id, name, aes_key, permissions, callback_url, callback_token,
               callbacks_paused_at is not null as "callbacks_paused!",
               disabled_at is not null as "disabled!"
        from app
        order by buin, app_id
        "#
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(StoredApp::try_from).collect()
}

/// One app.
///
/// # Errors
/// [`Error::AppUnknown`], or when the database fails.
pub async fn find(pool: &PgPool, buin: Buin, app_id: &AppId) -> Result<StoredApp, Error> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select buin, app_id, name, aes_key, permissions, callback_url, callback_token,
               callbacks_paused_at is not null as "callbacks_paused!",
               disabled_at is not null as "disabled!"
        from app
        where buin = $1 and app_id = $2
        "#,
        buin.get(),
        app_id.as_str()
    )
    .fetch_optional(pool)
    .await?;
    found(row, buin, app_id)
}

/// Writes a new app.
///
/// # Errors
/// [`Error::AppExists`], or when the database fails.
pub async fn insert(pool: &PgPool, stored: &StoredApp, at: DateTime<Utc>) -> Result<(), Error> {
    let StoredApp { app, aes_key } = stored;
    sqlx::query!(
        r#"
        insert into app (
            buin, app_id, name, aes_key, permissions, callback_url, callback_token,
            created_at, disabled_at, callbacks_paused_at
        )
        values (
            $1, $2, $3, $4, $5, $6, $7, $8,
            case when $9 then $8::timestamptz end, case when $10 then $8::timestamptz end
        )
        "#,
        app.buin.get(),
        app.app_id.as_str(),
        app.name,
        aes_key.bytes().as_slice(),
        &names(app.permissions) as &[&str],
        app.callback.as_ref().map(|callback| callback.url.as_str()),
        app.callback.as_ref().map(|callback| callback.token.as_str()),
        at,
        app.disabled,
        app.callbacks_paused,
    )
    .execute(pool)
    .await
    .map_err(|error| match error.as_database_error().and_then(|error| error.constraint()) {
        Some("app_pkey") => Error::AppExists { buin: app.buin, app_id: app.app_id.clone() },
        _ => error.into(),
    })?;
    Ok(())
}

/// Changes an app: `change` gets it as it is and leaves it as it shall be. Others who change it
/// wait. An app that was disabled, or paused, stays so since then.
///
/// # Errors
/// [`Error::AppUnknown`], or when the database fails.
pub async fn change(
    pool: &PgPool,
    buin: Buin,
    app_id: &AppId,
    at: DateTime<Utc>,
    change: impl FnOnce(&mut StoredApp),
) -> Result<StoredApp, Error> {
    let mut transaction = pool.begin().await?;
    let row = sqlx::query_as!(
        Row,
        r#"
        select buin, app_id, name, aes_key, permissions, callback_url, callback_token,
               callbacks_paused_at is not null as "callbacks_paused!",
               disabled_at is not null as "disabled!"
        from app
        where buin = $1 and app_id = $2
        for update
        "#,
        buin.get(),
        app_id.as_str()
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let mut stored = found(row, buin, app_id)?;
    change(&mut stored);
    let StoredApp { app, aes_key } = &stored;
    sqlx::query!(
        r#"
        update app
        set name = $3, aes_key = $4, permissions = $5, callback_url = $6, callback_token = $7,
            disabled_at = case when $9 then coalesce(disabled_at, $8) end,
            callbacks_paused_at = case when $10 then coalesce(callbacks_paused_at, $8) end
        where buin = $1 and app_id = $2
        "#,
        buin.get(),
        app_id.as_str(),
        app.name,
        aes_key.bytes().as_slice(),
        &names(app.permissions) as &[&str],
        app.callback.as_ref().map(|callback| callback.url.as_str()),
        app.callback.as_ref().map(|callback| callback.token.as_str()),
        at,
        app.disabled,
        app.callbacks_paused,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(stored)
}

fn found(row: Option<Row>, buin: Buin, app_id: &AppId) -> Result<StoredApp, Error> {
    row.ok_or_else(|| Error::AppUnknown { buin, app_id: app_id.clone() })?.try_into()
}

struct Row {
    buin: i64,
    app_id: String,
    name: String,
    aes_key: Vec<u8>,
    permissions: Vec<String>,
    callback_url: Option<String>,
    callback_token: Option<String>,
    callbacks_paused: bool,
    disabled: bool,
}

impl TryFrom<Row> for StoredApp {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let permissions: Result<Permissions, UnknownPermission> =
            row.permissions.iter().map(|name| name.parse::<Permission>()).collect();
        let key = <[u8; 32]>::try_from(row.aes_key.as_slice());
        Ok(Self {
            app: App {
                buin: Buin::new(row.buin).map_err(corrupt("app", "buin", row.buin))?,
                app_id: row.app_id.parse().map_err(corrupt("app", "app_id", &row.app_id))?,
                name: row.name,
                permissions: permissions.map_err(corrupt(
                    "app",
                    "permissions",
                    row.permissions.join(","),
                ))?,
                callback: row
                    .callback_url
                    .zip(row.callback_token)
                    .map(|(url, token)| Callback { url, token }),
                callbacks_paused: row.callbacks_paused,
                disabled: row.disabled,
            },
            aes_key: AesKey::new(key.map_err(corrupt("app", "aes_key", "…"))?),
        })
    }
}

fn names(permissions: Permissions) -> Vec<&'static str> {
    permissions.iter().map(Permission::name).collect()
}
