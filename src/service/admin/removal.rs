//! The end of apps: deleted if no history names them, else archived.

use super::apps::{self, RegisteredApp};
use super::{AdminContext, Error, propagation};
use crate::domain::{AppId, Buin};
use crate::repository::apps as repository;
use crate::repository::apps::StoredApp;
use crate::wire::AesKey;

/// Deletes an app that no history of a session names, with its keys and callbacks. An enabled app is
/// disabled first, so that no server accepts a change of it meanwhile.
///
/// # Errors
/// [`Error::AppNotFound`]; [`Error::AppArchived`], if a history names the archived app;
/// [`Error::AppInHistory`]: the app is unchanged, or disabled if it changed a
/// session at the last moment; or the database fails.
pub async fn delete(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
) -> Result<RegisteredApp, Error> {
    let found = apps::find(admin, buin, app_id).await?;
    if repository::is_in_history(&admin.pool, buin, app_id).await? {
        Error::if_archived(found.archived, &found.app)?;
        return Err(Error::AppInHistory { buin, app_id: app_id.clone() });
    }
    if !found.app.disabled {
        apps::set_disabled(admin, buin, app_id, true).await?;
    }
    repository::delete(&admin.pool, &found.app, admin.audit_context()).await?;
    propagation::announce(admin).await;
    Ok(found)
}

/// Takes an app out of use for ever: it is disabled, its keys are revoked, its AES key, callback and
/// waiting callbacks end. The history still names it.
///
/// # Errors
/// [`Error::AppNotFound`], [`Error::AppArchived`], or the database fails.
pub async fn archive(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
) -> Result<RegisteredApp, Error> {
    let (pool, keyring, audit) = (&admin.pool, &admin.keyring, admin.audit_context());
    let end = |stored: &mut StoredApp| {
        stored.archived = true;
        stored.app.disabled = true;
        stored.app.callback = None;
        // No client has this new key, so the old one is useless.
        stored.aes_key = AesKey::generate();
        stored.previous = None;
    };
    let (archived, mut transaction) =
        repository::begin_update_with(pool, keyring, buin, app_id, audit, end).await?;
    repository::archive_rest(&mut transaction, &archived, audit.at).await?;
    transaction.commit().await.map_err(crate::repository::Error::from)?;
    propagation::announce(admin).await;
    Ok(archived.into())
}
