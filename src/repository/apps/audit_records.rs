//! Audit records of acts on an app. They name the secrets that changed, never their values.

use serde_json::{Map, Value, json};

use super::stored::{StoredApp, names};
use crate::domain::{App, Callback};
use crate::repository::audit::{Action, Line};

pub(super) fn created(app: &App) -> Line<'_> {
    let details = json!({
        "name": app.name,
        "permissions": names(app.permissions),
        "callback": receiver(app.callback.as_ref()),
    });
    Line::of_app(Action::AppCreate, app.buin, &app.app_id, details)
}

/// The record of a change; `None` if nothing changed.
pub(super) fn changed<'a>(before: &StoredApp, after: &'a StoredApp) -> Option<Line<'a>> {
    let (old, new) = (&before.app, &after.app);
    let mut details = Map::new();
    let mut note = |what: &str, from: Value, to: Value| {
        if from != to {
            details.insert(what.to_owned(), json!({ "from": from, "to": to }));
        }
    };
    note("name", json!(old.name), json!(new.name));
    note("permissions", json!(names(old.permissions)), json!(names(new.permissions)));
    note("disabled", json!(old.disabled), json!(new.disabled));
    note("callbacksPaused", json!(old.callbacks_paused), json!(new.callbacks_paused));
    let (from, to) = (receiver(old.callback.as_ref()), receiver(new.callback.as_ref()));
    note("callback", from, to);
    for (what, is_other) in [
        ("aesKey", before.aes_key != after.aes_key),
        ("callbackUrl", url(old) != url(new)),
        ("callbackToken", token(old) != token(new)),
    ] {
        if is_other {
            details.insert(what.to_owned(), json!("changed"));
        }
    }
    let action = match details.keys().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => return None,
        ["disabled"] if new.disabled => Action::AppDisable,
        ["disabled"] => Action::AppEnable,
        ["callbacksPaused"] if new.callbacks_paused => Action::AppPauseCallbacks,
        ["callbacksPaused"] => Action::AppResumeCallbacks,
        ["aesKey"] => Action::AppRotateKey,
        _ => Action::AppUpdate,
    };
    Some(Line::of_app(action, new.buin, &new.app_id, Value::Object(details)))
}

fn url(app: &App) -> Option<&str> {
    app.callback.as_ref().map(|callback| callback.url.as_str())
}

fn token(app: &App) -> Option<&str> {
    app.callback.as_ref().map(|callback| callback.token.as_str())
}

/// Scheme, host and port of a receiver: users, paths and queries of URLs may be secrets.
fn receiver(callback: Option<&Callback>) -> Value {
    let Some((scheme, rest)) = callback.and_then(|callback| callback.url.split_once("://")) else {
        return Value::Null;
    };
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    json!(format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_only_the_receiver_is_told() {
        for (url, told) in [
            ("https://u:p@ss@a.example:8443/hook/s3cret?key=s3cret#x", "https://a.example:8443"),
            ("http://[::1]:80?s3cret", "http://[::1]:80"),
            ("http://a.example\\s3cret@b", "http://a.example"),
        ] {
            let callback = Callback { url: url.to_owned(), token: "t".to_owned() };
            assert_eq!(receiver(Some(&callback)), json!(told), "{url}");
        }
        assert_eq!(receiver(None), Value::Null);
    }
}
