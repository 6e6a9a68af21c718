//! `muster app`.

mod callback_url;
mod printed;

use clap::{Args, Subcommand};

use self::printed::{SecretVisibility, list, show, show_new};
use super::args::{AppSelector, CreateDatabase, Output, one_line};
use super::database::Database;
use super::explain::{explain, not_shown};
use super::{first_app, test_callback};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::{AllowedForms, App, AppId, Buin, Callback, Permission};
use crate::service::admin::apps::{self, AppChanges, CallbackChange, RegisteredApp};
use crate::wire::AesKey;

#[derive(Subcommand)]
pub(super) enum AppCommand {
    /// Create an app and show its credentials
    Create(CreateArgs),
    /// List all apps
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Show an app, without its secrets unless --show-secrets is given
    Show {
        #[command(flatten)]
        which: AppSelector,
        /// Show the AES key and the callback token too
        #[arg(long)]
        show_secrets: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Change an app's name, permissions, forms or callback; a value that is not given stays as it is
    Update(UpdateArgs),
    /// Disable an app; its tokens and keys are refused at once
    Disable {
        #[command(flatten)]
        which: AppSelector,
        #[command(flatten)]
        output: Output,
    },
    /// Enable a disabled app
    Enable {
        #[command(flatten)]
        which: AppSelector,
        #[command(flatten)]
        output: Output,
    },
    /// Pause an app's callbacks; Muster stores them until they are resumed
    PauseCallbacks {
        #[command(flatten)]
        which: AppSelector,
        #[command(flatten)]
        output: Output,
    },
    /// Resume an app's callbacks, the stored ones first
    ResumeCallbacks {
        #[command(flatten)]
        which: AppSelector,
        #[command(flatten)]
        output: Output,
    },
    /// Send a signed test callback to an app at once, outside the queue, and print the result
    ///
    /// The message has the msgType "muster_test", version 0 and a session id of zeros. The command
    /// exits with 1 unless the receiver acknowledges the callback.
    TestCallback {
        #[command(flatten)]
        which: AppSelector,
        #[command(flatten)]
        output: Output,
    },
    /// Replace an app's AES key and print the new one; all its access tokens end
    RotateKey {
        #[command(flatten)]
        which: AppSelector,
        /// The new key: 32 bytes in base64; random by default
        #[arg(long, value_name = "BASE64", value_parser = AesKey::from_base64)]
        aes_key: Option<AesKey>,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
pub(super) struct CreateArgs {
    /// The number of the enterprise (buin)
    #[arg(long, value_name = "N")]
    buin: Buin,
    /// The id of the app: 1 to 64 characters of A-Z a-z 0-9 . _ -; random by default
    #[arg(long, value_name = "ID")]
    app_id: Option<AppId>,
    /// The AES key (EncodingAESKey): 32 bytes in base64; random by default
    #[arg(long, value_name = "BASE64", value_parser = AesKey::from_base64)]
    aes_key: Option<AesKey>,
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
    /// The URL that receives callbacks: http or https; needs --callback-token
    #[arg(long, value_name = "URL", requires = "callback_token", value_parser = callback_url::parse)]
    callback_url: Option<String>,
    /// The secret that signs the callbacks; needs --callback-url
    #[arg(long, value_name = "TEXT", requires = "callback_url", value_parser = secret)]
    callback_token: Option<String>,
    #[command(flatten)]
    create_database: CreateDatabase,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct UpdateArgs {
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
    callback_url: Option<String>,
    /// The secret that signs the callbacks
    #[arg(long, value_name = "TEXT", value_parser = secret)]
    callback_token: Option<String>,
    /// Remove the callback URL and token: the app gets no more callbacks
    #[arg(long, conflicts_with_all = ["callback_url", "callback_token"])]
    no_callback: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(
    settings: &Settings,
    command: AppCommand,
    clock: &Clock,
) -> anyhow::Result<()> {
    let database = match &command {
        AppCommand::Create(create) => Database::open_with(settings, create.create_database).await?,
        _ => Database::open_existing(settings).await?,
    };
    let database = database.ensure_current(settings, clock).await?;
    if let Some(url) = command.callback_url() {
        callback_url::warn_if_denied(settings, url).await;
    }
    let result = dispatch(settings, &database, command, clock).await;
    database.close().await;
    result
}

async fn dispatch(
    settings: &Settings,
    database: &Database,
    command: AppCommand,
    clock: &Clock,
) -> anyhow::Result<()> {
    let admin = &database.admin(clock);
    let hidden = SecretVisibility::Hidden;
    let (changed, output) = match command {
        AppCommand::Create(create) => {
            let output = create.output;
            let created = apps::create(admin, create.into_app()).await.map_err(explain)?;
            show_new(created.value(), SecretVisibility::Shown, output)
                .map_err(|error| not_shown(error, "the app was not created"))?;
            return created.commit(admin).await.map(drop).map_err(explain);
        }
        AppCommand::List { output } => {
            return Ok(list(&apps::list(admin).await.map_err(explain)?, output)?);
        }
        AppCommand::Show { which: AppSelector { buin, app_id }, show_secrets, output } => {
            let secrets = if show_secrets { SecretVisibility::Shown } else { hidden };
            let found = apps::find(admin, buin, &app_id).await.map_err(explain)?;
            return Ok(show(&found, secrets, output)?);
        }
        AppCommand::TestCallback { which: AppSelector { buin, app_id }, output } => {
            let app = apps::find(admin, buin, &app_id).await.map_err(explain)?;
            return test_callback::run(settings, app, clock, output).await;
        }
        AppCommand::RotateKey { which: AppSelector { buin, app_id }, aes_key, output } => {
            let aes_key = aes_key.unwrap_or_else(AesKey::generate);
            let rotated = apps::rotate_key(admin, buin, &app_id, aes_key).await.map_err(explain)?;
            show_new(rotated.value(), SecretVisibility::AesKey, output)
                .map_err(|error| not_shown(error, "the old key stays valid"))?;
            let app = rotated.commit(admin).await.map_err(explain)?;
            if database.is_embedded() {
                first_app::rekey(&settings.data_dir, &app)?;
            }
            return Ok(());
        }
        AppCommand::Update(update) => {
            let output = update.output;
            let (AppSelector { buin, app_id }, changes) = update.into_changes();
            (apps::update(admin, buin, &app_id, changes).await, output)
        }
        AppCommand::Disable { which: AppSelector { buin, app_id }, output } => {
            (apps::set_disabled(admin, buin, &app_id, true).await, output)
        }
        AppCommand::Enable { which: AppSelector { buin, app_id }, output } => {
            (apps::set_disabled(admin, buin, &app_id, false).await, output)
        }
        AppCommand::PauseCallbacks { which: AppSelector { buin, app_id }, output } => {
            (apps::pause_callbacks(admin, buin, &app_id).await, output)
        }
        AppCommand::ResumeCallbacks { which: AppSelector { buin, app_id }, output } => {
            (apps::resume_callbacks(admin, buin, &app_id).await, output)
        }
    };
    Ok(show(&changed.map_err(explain)?, hidden, output)?)
}

impl AppCommand {
    /// The callback URL that the command sets.
    fn callback_url(&self) -> Option<&str> {
        match self {
            Self::Create(create) => create.callback_url.as_deref(),
            Self::Update(update) => update.callback_url.as_deref(),
            _ => None,
        }
    }
}

impl CreateArgs {
    fn into_app(self) -> RegisteredApp {
        RegisteredApp {
            app: App {
                buin: self.buin,
                app_id: self.app_id.unwrap_or_else(AppId::generate),
                name: self.name,
                permissions: self.permissions.into_iter().collect(),
                forms: self.forms,
                callback: self
                    .callback_url
                    .zip(self.callback_token)
                    .map(|(url, token)| Callback { url, token }),
                callbacks_paused: false,
                disabled: false,
            },
            aes_key: self.aes_key.unwrap_or_else(AesKey::generate),
        }
    }
}

impl UpdateArgs {
    fn into_changes(self) -> (AppSelector, AppChanges) {
        let callback = match (self.no_callback, self.callback_url, self.callback_token) {
            (true, ..) => Some(CallbackChange::Remove),
            (false, None, None) => None,
            (false, url, token) => Some(CallbackChange::Set { url, token }),
        };
        let permissions = self.permissions.map(|list| list.into_iter().collect());
        (self.which, AppChanges { name: self.name, permissions, forms: self.forms, callback })
    }
}

fn secret(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err(
            "must not be empty: with an empty token anyone could sign a callback".to_owned()
        );
    }
    Ok(text.to_owned())
}
