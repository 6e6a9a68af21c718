//! Printing apps. Secrets are printed only if the operator asked for them or has just made them.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;

use super::super::args::Output;
use super::super::output::{self, OutputError};
use crate::domain::{App, Permission};
use crate::service::admin::apps::RegisteredApp;

/// The secrets to print. By default no secret is printed, because the history of a terminal or the
/// log of a pipeline would store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecretVisibility {
    /// No secret: the command is about something else.
    Hidden,
    /// The AES key: it was just generated.
    AesKey,
    /// All secrets: the app was just created, or the operator asked for them.
    Shown,
}

/// An app in the output. A hidden secret is absent, not null.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AppOutput<'a> {
    buin: i64,
    app_id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aes_key: Option<String>,
    permissions: Vec<&'static str>,
    forms: &'static str,
    callback_url: Option<Cow<'a, str>>,
    /// The inner `None` is an app without a callback.
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_token: Option<Option<&'a str>>,
    callbacks_paused: bool,
    disabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_key_until: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "is_false")]
    archived: bool,
}

/// An app in use has no such field.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_false(archived: &bool) -> bool {
    !archived
}

impl<'a> AppOutput<'a> {
    fn new(registered: &'a RegisteredApp, secrets: SecretVisibility) -> Self {
        let RegisteredApp { app, aes_key, previous_key_until, archived } = registered;
        let callback = app.callback.as_ref();
        Self {
            buin: app.buin.get(),
            app_id: app.app_id.as_str(),
            name: &app.name,
            aes_key: (secrets != SecretVisibility::Hidden).then(|| aes_key.to_base64()),
            permissions: app.permissions.iter().map(Permission::name).collect(),
            forms: app.forms.name(),
            callback_url: callback.map(|callback| match secrets {
                SecretVisibility::Shown => callback.url.as_str().into(),
                SecretVisibility::Hidden | SecretVisibility::AesKey => callback.public_url().into(),
            }),
            callback_token: (secrets == SecretVisibility::Shown)
                .then(|| callback.map(|callback| callback.token.as_str())),
            callbacks_paused: app.callbacks_paused,
            disabled: app.disabled,
            previous_key_until: *previous_key_until,
            archived: *archived,
        }
    }
}

/// Prints one app.
pub(super) fn show(
    stored: &RegisteredApp,
    secrets: SecretVisibility,
    output: Output,
) -> Result<(), OutputError> {
    output::text(&describe(stored, secrets, output)?)
}

/// Prints an app with secrets that were not shown yet.
pub(super) fn show_new(
    stored: &RegisteredApp,
    secrets: SecretVisibility,
    output: Output,
) -> Result<(), OutputError> {
    output::secret(&describe(stored, secrets, output)?)
}

fn describe(
    stored: &RegisteredApp,
    secrets: SecretVisibility,
    output: Output,
) -> Result<String, OutputError> {
    let printed = AppOutput::new(stored, secrets);
    if output.json {
        return output::to_json(&printed);
    }
    let mut lines = vec![
        format!("buin            {}", printed.buin),
        format!("app id          {}", printed.app_id),
        format!("name            {}", printed.name),
    ];
    lines.extend(printed.aes_key.map(|key| format!("AES key         {key}")));
    lines.extend(
        printed
            .previous_key_until
            .map(|until| format!("previous key    accepted until {}", until.format("%F %T UTC"))),
    );
    lines.push(format!("permissions     {}", printed.permissions.join(",")));
    lines.push(format!("forms           {}", printed.forms));
    if let Some(url) = &printed.callback_url {
        lines.push(format!("callback URL    {url}"));
        let token = printed.callback_token.flatten();
        lines.extend(token.map(|token| format!("callback token  {token}")));
        lines.push(format!(
            "callbacks       {}",
            if printed.callbacks_paused { "paused" } else { "sent" }
        ));
    }
    lines.push(format!("disabled        {}", if printed.disabled { "yes" } else { "no" }));
    lines.extend(printed.archived.then(|| "archived        yes".to_owned()));
    Ok(lines.join("\n"))
}

/// Prints that an app was deleted.
pub(super) fn show_deleted(app: &App, output: Output) -> Result<(), OutputError> {
    if output.json {
        return output::json(&json!({
            "buin": app.buin.get(), "appId": app.app_id.as_str(), "deleted": true,
        }));
    }
    output::text("deleted")
}

/// Prints a table of apps.
pub(super) fn list(apps: &[RegisteredApp], output: Output) -> Result<(), OutputError> {
    let printed: Vec<AppOutput<'_>> =
        apps.iter().map(|stored| AppOutput::new(stored, SecretVisibility::Hidden)).collect();
    if output.json {
        return output::json(&printed);
    }
    let rows: Vec<[String; 5]> = printed
        .iter()
        .map(|app| {
            [
                app.buin.to_string(),
                app.app_id.to_owned(),
                app.permissions.join(","),
                match (app.archived, app.disabled) {
                    (true, _) => "archived",
                    (false, true) => "disabled",
                    (false, false) => "enabled",
                }
                .to_owned(),
                app.name.to_owned(),
            ]
        })
        .collect();
    output::text(&output::table(["BUIN", "APP ID", "PERMISSIONS", "STATE", "NAME"], &rows))
}
