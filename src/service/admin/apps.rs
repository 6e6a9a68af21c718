//! Apps: create, list, change, disable, pause their callbacks, replace their AES key.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::uncommitted::{AfterCommit, Uncommitted};
use super::{AdminContext, Error};
use crate::domain::{AllowedForms, App, AppId, Buin, Callback, Permissions};
use crate::repository::PoolTransaction;
use crate::repository::apps::{self, PreviousAesKey, StoredApp};
use crate::service::AppContext;
use crate::wire::AesKey;

/// An app and the AES key that it shares with Muster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredApp {
    /// The app.
    pub app: App,
    /// Its AES key.
    pub aes_key: AesKey,
    /// The time until which the key before the last rotation is accepted.
    pub previous_key_until: Option<DateTime<Utc>>,
    /// Whether the app is out of use for ever.
    pub archived: bool,
}

impl RegisteredApp {
    /// An app in use, with one key.
    #[must_use]
    pub fn new(app: App, aes_key: AesKey) -> Self {
        Self { app, aes_key, previous_key_until: None, archived: false }
    }
}

/// Changes of an app. A field that is `None` stays unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppChanges {
    /// The name.
    pub name: Option<String>,
    /// All permissions. Permissions that are not in the set are removed.
    pub permissions: Option<Permissions>,
    /// The forms of messages that the app may use.
    pub forms: Option<AllowedForms>,
    /// The callback.
    pub callback: Option<CallbackChange>,
}

/// A change of an app's callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallbackChange {
    /// Removes the callback.
    Remove,
    /// Sets the URL, the token, or both. An app without a callback needs both.
    Set {
        /// The URL.
        url: Option<String>,
        /// The token, which signs the callbacks.
        token: Option<String>,
    },
}

/// Creates an app. It exists after the commit.
///
/// # Errors
/// [`Error::AppExists`], or the database fails.
pub async fn create(
    admin: &AdminContext,
    new: RegisteredApp,
) -> Result<Uncommitted<RegisteredApp>, Error> {
    let stored = StoredApp::from(new);
    let (pool, keyring) = (&admin.pool, &admin.keyring);
    let change = apps::begin_insert(pool, keyring, &stored, admin.audit_context()).await?;
    Ok(Uncommitted::new(stored.into(), change, AfterCommit::Nothing))
}

/// Lists all apps, by enterprise and id.
///
/// # Errors
/// A secret cannot be opened, or the database fails.
pub async fn list(admin: &AdminContext) -> Result<Vec<RegisteredApp>, Error> {
    let apps = apps::list(&admin.pool, &admin.keyring).await?;
    Ok(apps.into_iter().map(RegisteredApp::from).collect())
}

/// Finds an app.
///
/// # Errors
/// [`Error::AppNotFound`], a secret cannot be opened, or the database fails.
pub async fn find(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
) -> Result<RegisteredApp, Error> {
    Ok(apps::find(&admin.pool, &admin.keyring, buin, app_id).await?.into())
}

/// Finds an app whose secrets are shown. The audit has the act before the caller gets them.
///
/// # Errors
/// [`Error::AppNotFound`], a secret cannot be opened, or the database fails.
pub async fn reveal(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
) -> Result<RegisteredApp, Error> {
    let found = find(admin, buin, app_id).await?;
    apps::record_shown_secrets(&admin.pool, &found.app, admin.audit_context()).await?;
    Ok(found)
}

/// Changes the name, the permissions, the forms or the callback of an app. Pending callbacks start
/// at the beginning of their retry schedule if the receiver changes: they may have failed because of
/// it.
///
/// # Errors
/// Those of [`find`], [`Error::AppArchived`] or [`Error::IncompleteCallback`].
pub async fn update(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
    changes: AppChanges,
) -> Result<RegisteredApp, Error> {
    let current = find(admin, buin, app_id).await?;
    Error::if_archived(current.archived, &current.app)?;
    if !changes.are_complete_for(&current.app) {
        return Err(Error::IncompleteCallback);
    }
    change(admin, buin, app_id, |stored| changes.apply(&mut stored.app)).await
}

/// Disables or enables an app. When this returns, the servers refuse the tokens and keys of a
/// disabled app.
///
/// # Errors
/// [`Error::AppNotFound`], or the database fails.
pub async fn set_disabled(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
    disabled: bool,
) -> Result<RegisteredApp, Error> {
    change(admin, buin, app_id, |stored| stored.app.disabled = disabled).await
}

/// Stores the callbacks of an app instead of sending them.
///
/// # Errors
/// [`Error::AppNotFound`], or the database fails.
pub async fn pause_callbacks(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
) -> Result<RegisteredApp, Error> {
    change(admin, buin, app_id, |stored| stored.app.callbacks_paused = true).await
}

/// Resumes the callbacks of an app. Pending callbacks start at the beginning of their retry
/// schedule, even if attempts failed before the pause.
///
/// # Errors
/// [`Error::AppNotFound`], or the database fails.
pub async fn resume_callbacks(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
) -> Result<RegisteredApp, Error> {
    let (_, resumed, change) =
        begin(admin, buin, app_id, |stored| stored.app.callbacks_paused = false).await?;
    let next = AfterCommit::AnnounceAndWake(resumed.app.clone());
    Uncommitted::new(resumed.into(), change, next).commit(admin).await
}

/// Replaces the AES key of an app. With `overlap`, the old key and its access tokens are accepted for
/// this time, else they become invalid with the commit. A key before the old one becomes invalid in
/// any case.
///
/// # Errors
/// [`Error::AppNotFound`] or [`Error::AppArchived`], or the database fails.
pub async fn rotate_key(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
    aes_key: AesKey,
    overlap: Option<Duration>,
) -> Result<Uncommitted<RegisteredApp>, Error> {
    let until = overlap.map(|overlap| admin.audit_context().at + overlap);
    begin_change(admin, buin, app_id, |stored| {
        if stored.aes_key == aes_key {
            return;
        }
        let old = std::mem::replace(&mut stored.aes_key, aes_key);
        stored.previous = until.map(|until| PreviousAesKey { key: old, until });
    })
    .await
}

async fn change(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
    change: impl FnOnce(&mut StoredApp),
) -> Result<RegisteredApp, Error> {
    begin_change(admin, buin, app_id, change).await?.commit(admin).await
}

async fn begin_change(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
    change: impl FnOnce(&mut StoredApp),
) -> Result<Uncommitted<RegisteredApp>, Error> {
    let (before, after, transaction) = begin(admin, buin, app_id, change).await?;
    let next = match before.is_some_and(|before| may_revive_callbacks(&before, &after)) {
        true => AfterCommit::AnnounceAndWake(after.app.clone()),
        false => AfterCommit::Announce,
    };
    Ok(Uncommitted::new(after.into(), transaction, next))
}

/// Changes an app. Returns it as it was before and as it is after the commit, and the transaction.
async fn begin(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
    change: impl FnOnce(&mut StoredApp),
) -> Result<(Option<StoredApp>, StoredApp, PoolTransaction), Error> {
    let mut before = None;
    let change = |stored: &mut StoredApp| {
        before = Some(stored.clone());
        change(stored);
    };
    let (pool, keyring, audit) = (&admin.pool, &admin.keyring, admin.audit_context());
    let (after, transaction) =
        apps::begin_update_with(pool, keyring, buin, app_id, audit, change).await?;
    Ok((before, after, transaction))
}

/// Whether callbacks that failed or waited before a change may arrive after it.
fn may_revive_callbacks(before: &StoredApp, after: &StoredApp) -> bool {
    let was_blocked = before.app.callbacks_blocked().is_some();
    let differs = before.app.callback != after.app.callback || before.aes_key != after.aes_key;
    after.app.callbacks_blocked().is_none() && (was_blocked || differs)
}

impl AppChanges {
    /// Whether the app has a complete callback after the change, or the change sets no callback.
    fn are_complete_for(&self, app: &App) -> bool {
        match &self.callback {
            Some(CallbackChange::Set { url, token }) => {
                app.callback.is_some() || url.is_some() == token.is_some()
            }
            Some(CallbackChange::Remove) | None => true,
        }
    }

    fn apply(self, app: &mut App) {
        if let Some(name) = self.name {
            app.name = name;
        }
        if let Some(permissions) = self.permissions {
            app.permissions = permissions;
        }
        if let Some(forms) = self.forms {
            app.forms = forms;
        }
        match self.callback {
            None => {}
            Some(CallbackChange::Remove) => app.callback = None,
            Some(CallbackChange::Set { url, token }) => match &mut app.callback {
                Some(callback) => {
                    callback.url = url.unwrap_or_else(|| callback.url.clone());
                    callback.token = token.unwrap_or_else(|| callback.token.clone());
                }
                None => app.callback = url.zip(token).map(|(url, token)| Callback { url, token }),
            },
        }
    }
}

impl From<StoredApp> for RegisteredApp {
    fn from(StoredApp { app, aes_key, previous, archived }: StoredApp) -> Self {
        let previous_key_until = previous.map(|previous| previous.until);
        Self { app, aes_key, previous_key_until, archived }
    }
}

/// The app with its current key only.
impl From<RegisteredApp> for StoredApp {
    fn from(RegisteredApp { app, aes_key, archived, .. }: RegisteredApp) -> Self {
        Self { archived, ..Self::new(app, aes_key) }
    }
}

impl From<RegisteredApp> for AppContext {
    fn from(registered: RegisteredApp) -> Self {
        StoredApp::from(registered).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(callback: Option<(&str, &str)>) -> App {
        App {
            buin: Buin::new(7).unwrap(),
            app_id: "mine".parse().unwrap(),
            name: "Mine".to_owned(),
            permissions: Permissions::for_new_app(),
            forms: AllowedForms::Both,
            callback: callback
                .map(|(url, token)| Callback { url: url.to_owned(), token: token.to_owned() }),
            callbacks_paused: false,
            disabled: false,
        }
    }

    fn set(url: Option<&str>, token: Option<&str>) -> AppChanges {
        let (url, token) = (url.map(str::to_owned), token.map(str::to_owned));
        AppChanges { callback: Some(CallbackChange::Set { url, token }), ..AppChanges::default() }
    }

    #[test]
    fn absent_changes_keep_the_current_values() {
        let before = app(Some(("http://a", "secret")));
        let mut after = before.clone();
        AppChanges::default().apply(&mut after);
        assert_eq!(after, before);

        let name = Some("Ours".to_owned());
        AppChanges { name, ..AppChanges::default() }.apply(&mut after);
        assert_eq!(after, App { name: "Ours".to_owned(), ..before });

        let forms = Some(AllowedForms::Plain);
        AppChanges { forms, ..AppChanges::default() }.apply(&mut after);
        assert_eq!(after.forms, AllowedForms::Plain);

        set(Some("http://b"), None).apply(&mut after);
        assert_eq!(after.callback, app(Some(("http://b", "secret"))).callback);
        set(None, Some("other")).apply(&mut after);
        assert_eq!(after.callback, app(Some(("http://b", "other"))).callback);
    }

    #[test]
    fn a_first_callback_needs_url_and_token() {
        let mut without = app(None);
        assert!(!set(Some("http://a"), None).are_complete_for(&without));
        assert!(!set(None, Some("secret")).are_complete_for(&without));
        assert!(set(Some("http://a"), None).are_complete_for(&app(Some(("http://b", "s")))));
        let both = set(Some("http://a"), Some("secret"));
        assert!(both.are_complete_for(&without));
        both.apply(&mut without);
        assert_eq!(without, app(Some(("http://a", "secret"))));
        let remove = Some(CallbackChange::Remove);
        AppChanges { callback: remove, ..AppChanges::default() }.apply(&mut without);
        assert_eq!(without, app(None));
    }
}
