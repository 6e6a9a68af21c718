//! The arguments of the commands that create and change apps.

use clap::Args;

use super::super::args::{AppSelector, CreateDatabase, Output, one_line};
use super::super::misconfigured::Misconfigured;
use super::super::secret_args::{AesKeyArgs, CallbackTokenArgs};
use super::callback_url;
use crate::domain::{AllowedForms, App, AppId, Buin, Callback, Permission};
use crate::service::admin::apps::{AppChanges, CallbackChange, RegisteredApp};
use crate::wire::AesKey;

#[derive(Args)]
pub(in crate::cli) struct CreateArgs {
    /// The number of the enterprise (buin)
    #[arg(long, value_name = "N")]
    buin: Buin,
    /// The id of the app: 1 to 64 characters of A-Z a-z 0-9 . _ -; random by default
    #[arg(long, value_name = "ID")]
    app_id: Option<AppId>,
    #[command(flatten)]
    aes_key: AesKeyArgs,
    /// A name for people
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = one_line)]
    name: String,
    /// The permissions: sessions:read, sessions:write, sessions:admin, callbacks
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "sessions:read,sessions:write,callbacks"
    )]
    permissions: Vec<Permission>,
    /// The forms of messages that the app may use: sealed, plain or both
    ///
    /// sealed: only /cgi with access tokens or sealed bodies. plain: only API keys and bare JSON, under
    /// /cgi and /v1; choose this if no client of the app seals messages.
    #[arg(long, value_name = "FORMS", default_value = "both")]
    forms: AllowedForms,
    /// The URL that receives callbacks: http or https; needs a callback token
    #[arg(
        long,
        value_name = "URL",
        requires = "callback_token_source",
        value_parser = callback_url::parse
    )]
    pub(super) callback_url: Option<String>,
    #[command(flatten)]
    callback_token: CallbackTokenArgs,
    #[command(flatten)]
    pub(super) create_database: CreateDatabase,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Args)]
pub(in crate::cli) struct UpdateArgs {
    #[command(flatten)]
    which: AppSelector,
    /// A name for people
    #[arg(long, value_name = "TEXT", value_parser = one_line)]
    name: Option<String>,
    /// All permissions of the app from now on: sessions:read, sessions:write, sessions:admin,
    /// callbacks
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    permissions: Option<Vec<Permission>>,
    /// The forms of messages that the app may use from now on: sealed, plain or both
    #[arg(long, value_name = "FORMS")]
    forms: Option<AllowedForms>,
    /// The URL that receives callbacks: http or https
    #[arg(long, value_name = "URL", value_parser = callback_url::parse)]
    pub(super) callback_url: Option<String>,
    #[command(flatten)]
    callback_token: CallbackTokenArgs,
    /// Remove the callback URL and token: the app gets no more callbacks
    #[arg(long, conflicts_with_all = ["callback_url", "callback_token_source"])]
    no_callback: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

impl CreateArgs {
    /// Reads the secrets that are in files or on standard input.
    pub(super) fn read_secrets(&mut self) -> anyhow::Result<()> {
        if self.callback_token.is_given() && self.callback_url.is_none() {
            let text = "--callback-token, --callback-token-file: need --callback-url".to_owned();
            return Err(Misconfigured(text).into());
        }
        if self.aes_key.is_standard_input() && self.callback_token.is_standard_input() {
            let text =
                "--aes-key, --callback-token: only one secret can be read from standard input";
            return Err(Misconfigured(text.to_owned()).into());
        }
        self.aes_key.read()?;
        self.callback_token.read()
    }

    /// The new app, after [`Self::read_secrets`].
    pub(super) fn into_app(self) -> RegisteredApp {
        let token = self.callback_token.into_token();
        RegisteredApp::new(
            App {
                buin: self.buin,
                app_id: self.app_id.unwrap_or_else(AppId::generate),
                name: self.name,
                permissions: self.permissions.into_iter().collect(),
                forms: self.forms,
                callback: self.callback_url.zip(token).map(|(url, token)| Callback { url, token }),
                callbacks_paused: false,
                disabled: false,
            },
            self.aes_key.into_key().unwrap_or_else(AesKey::generate),
        )
    }
}

impl UpdateArgs {
    /// Reads the secrets that are in files or on standard input.
    pub(super) fn read_secrets(&mut self) -> anyhow::Result<()> {
        self.callback_token.read()
    }

    /// The app and its changes, after [`Self::read_secrets`].
    pub(super) fn into_changes(self) -> (AppSelector, AppChanges) {
        let token = self.callback_token.into_token();
        let callback = match (self.no_callback, self.callback_url, token) {
            (true, ..) => Some(CallbackChange::Remove),
            (false, None, None) => None,
            (false, url, token) => Some(CallbackChange::Set { url, token }),
        };
        let permissions = self.permissions.map(|list| list.into_iter().collect());
        (self.which, AppChanges { name: self.name, permissions, forms: self.forms, callback })
    }
}
