//! Audit records of acts on an app. They name the changed secrets, but never contain their values.

use serde_json::{Map, Value, json};

use super::stored::{StoredApp, permission_names};
use crate::domain::{App, Callback};
use crate::repository::audit::{AuditAction, AuditRecord};

pub(super) fn created_record(app: &App) -> AuditRecord<'_> {
    let details = json!({
        "name": app.name,
        "permissions": permission_names(app.permissions),
        "forms": app.forms.name(),
        "callback": callback_origin(app.callback.as_ref()),
    });
    AuditRecord::for_app(AuditAction::AppCreate, app.buin, &app.app_id, details)
}

pub(super) fn deleted_record(app: &App) -> AuditRecord<'_> {
    let details = json!({ "name": app.name });
    AuditRecord::for_app(AuditAction::AppDelete, app.buin, &app.app_id, details)
}

pub(super) fn secrets_shown_record(app: &App) -> AuditRecord<'_> {
    let mut secrets = vec!["aesKey"];
    secrets.extend(app.callback.is_some().then_some("callbackToken"));
    let details = json!({ "secrets": secrets });
    AuditRecord::for_app(AuditAction::AppShowSecrets, app.buin, &app.app_id, details)
}

/// The record of a change; `None` if nothing changed.
pub(super) fn changed_record<'a>(
    before: &StoredApp,
    after: &'a StoredApp,
) -> Option<AuditRecord<'a>> {
    let (old, new) = (&before.app, &after.app);
    let mut details = Map::new();
    let mut note_change = |field: &str, from: Value, to: Value| {
        if from != to {
            details.insert(field.to_owned(), json!({ "from": from, "to": to }));
        }
    };
    note_change("name", json!(old.name), json!(new.name));
    note_change(
        "permissions",
        json!(permission_names(old.permissions)),
        json!(permission_names(new.permissions)),
    );
    note_change("forms", json!(old.forms.name()), json!(new.forms.name()));
    note_change("disabled", json!(old.disabled), json!(new.disabled));
    note_change("callbacksPaused", json!(old.callbacks_paused), json!(new.callbacks_paused));
    note_change("archived", json!(before.archived), json!(after.archived));
    let until = |stored: &StoredApp| json!(stored.previous.as_ref().map(|old| old.until));
    note_change("previousAesKeyUntil", until(before), until(after));
    let (from, to) =
        (callback_origin(old.callback.as_ref()), callback_origin(new.callback.as_ref()));
    note_change("callback", from, to);
    for (field, differs) in [
        ("aesKey", before.aes_key != after.aes_key),
        ("callbackUrl", url(old) != url(new)),
        ("callbackToken", token(old) != token(new)),
    ] {
        if differs {
            details.insert(field.to_owned(), json!("changed"));
        }
    }
    let action = match details.keys().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => return None,
        _ if after.archived => AuditAction::AppArchive,
        ["disabled"] if new.disabled => AuditAction::AppDisable,
        ["disabled"] => AuditAction::AppEnable,
        ["callbacksPaused"] if new.callbacks_paused => AuditAction::AppPauseCallbacks,
        ["callbacksPaused"] => AuditAction::AppResumeCallbacks,
        ["aesKey"] | ["aesKey", "previousAesKeyUntil"] => AuditAction::AppRotateKey,
        _ => AuditAction::AppUpdate,
    };
    Some(AuditRecord::for_app(action, new.buin, &new.app_id, Value::Object(details)))
}

fn url(app: &App) -> Option<&str> {
    app.callback.as_ref().map(|callback| callback.url.as_str())
}

fn token(app: &App) -> Option<&str> {
    app.callback.as_ref().map(|callback| callback.token.as_str())
}

fn callback_origin(callback: Option<&Callback>) -> Value {
    json!(callback.and_then(Callback::origin))
}
