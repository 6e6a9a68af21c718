//! `muster app`.

mod printed;

use clap::{Args, Subcommand};

use self::printed::{Secrets, list, show};
use super::args::{Output, Which, one_line};
use super::database::Store;
use super::explain::explain;
use super::{first_app, test_callback};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::{App, AppId, Buin, Callback, Permission};
use crate::service::admin::apps::{self, AppChanges, CallbackChange, RegisteredApp};
use crate::wire::AesKey;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Create an app and show its credentials
    Create(Create),
    /// List all apps
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Show an app; its secrets only with --show-secrets
    Show {
        #[command(flatten)]
        which: Which,
        /// Its AES key and callback token too
        #[arg(long)]
        show_secrets: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Change an app's name, permissions or callback; what is not named stays
    Update(Update),
    /// Disable an app: its tokens and keys are refused at once
    Disable {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        output: Output,
    },
    /// Enable a disabled app
    Enable {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        output: Output,
    },
    /// Keep an app's callbacks instead of sending them
    PauseCallbacks {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        output: Output,
    },
    /// Send an app's callbacks again, those that were kept first
    ResumeCallbacks {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        output: Output,
    },
    /// Send an app a signed test callback now, past the queue, and print what happened
    ///
    /// Its message has the msgType "muster_test", version 0 and a session id of zeros. Exits with 1
    /// unless the receiver acknowledges it.
    TestCallback {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        output: Output,
    },
    /// Give an app another AES key and show it; all its access tokens end
    RotateKey {
        #[command(flatten)]
        which: Which,
        /// The new key: base64 of 32 bytes; made at random if absent
        #[arg(long, value_name = "BASE64", value_parser = AesKey::from_base64)]
        aes_key: Option<AesKey>,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
pub(super) struct Create {
    /// The number of the enterprise
    #[arg(long, value_name = "N")]
    buin: Buin,
    /// The id of the app: 1 to 64 of A-Z a-z 0-9 . _ -; made at random if absent
    #[arg(long, value_name = "ID")]
    app_id: Option<AppId>,
    /// The AES key (EncodingAESKey): base64 of 32 bytes; made at random if absent
    #[arg(long, value_name = "BASE64", value_parser = AesKey::from_base64)]
    aes_key: Option<AesKey>,
    /// What people call the app
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = one_line)]
    name: String,
    /// What it may do: sessions:read, sessions:write, sessions:admin, callbacks
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "sessions:read,sessions:write,callbacks"
    )]
    permissions: Vec<Permission>,
    /// Where its callbacks go: an http or https URL; needs --callback-token
    #[arg(long, value_name = "URL", requires = "callback_token", value_parser = callback_url)]
    callback_url: Option<String>,
    /// The secret that signs its callbacks; needs --callback-url
    #[arg(long, value_name = "TEXT", requires = "callback_url", value_parser = secret)]
    callback_token: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct Update {
    #[command(flatten)]
    which: Which,
    /// What people call the app
    #[arg(long, value_name = "TEXT", value_parser = one_line)]
    name: Option<String>,
    /// What it may do, all of it: sessions:read, sessions:write, sessions:admin, callbacks
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    permissions: Option<Vec<Permission>>,
    /// Where its callbacks go: an http or https URL
    #[arg(long, value_name = "URL", value_parser = callback_url)]
    callback_url: Option<String>,
    /// The secret that signs its callbacks
    #[arg(long, value_name = "TEXT", value_parser = secret)]
    callback_token: Option<String>,
    /// Send it no callbacks any more
    #[arg(long, conflicts_with_all = ["callback_url", "callback_token"])]
    no_callback: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(
    settings: &Settings,
    command: Command,
    clock: &Clock,
) -> anyhow::Result<()> {
    let store = match &command {
        // Every other command is about apps that there are.
        Command::Create(_) => Store::open(settings).await?,
        _ => Store::open_existing(settings).await?,
    };
    let store = store.current(settings, clock).await?;
    let done = dispatch(settings, &store, command, clock).await;
    store.close().await;
    done
}

async fn dispatch(
    settings: &Settings,
    store: &Store,
    command: Command,
    clock: &Clock,
) -> anyhow::Result<()> {
    let admin = &store.admin(clock);
    let hidden = Secrets::Hidden;
    let (changed, output) = match command {
        Command::Create(create) => {
            let output = create.output;
            let created = apps::create(admin, create.into_app()).await.map_err(explain)?;
            return show(&created, Secrets::Shown, output);
        }
        Command::List { output } => {
            return list(&apps::list(admin).await.map_err(explain)?, output);
        }
        Command::Show { which: Which { buin, app_id }, show_secrets, output } => {
            let secrets = if show_secrets { Secrets::Shown } else { hidden };
            return show(
                &apps::find(admin, buin, &app_id).await.map_err(explain)?,
                secrets,
                output,
            );
        }
        Command::TestCallback { which: Which { buin, app_id }, output } => {
            let app = apps::find(admin, buin, &app_id).await.map_err(explain)?;
            return test_callback::run(settings, app, clock, output).await;
        }
        Command::RotateKey { which: Which { buin, app_id }, aes_key, output } => {
            let aes_key = aes_key.unwrap_or_else(AesKey::generate);
            let app = apps::rotate_key(admin, buin, &app_id, aes_key).await.map_err(explain)?;
            if store.is_embedded() {
                first_app::rekey(&settings.data_dir, &app)?;
            }
            return show(&app, Secrets::AesKey, output);
        }
        Command::Update(update) => {
            let output = update.output;
            let (Which { buin, app_id }, changes) = update.into_changes();
            (apps::update(admin, buin, &app_id, changes).await, output)
        }
        Command::Disable { which: Which { buin, app_id }, output } => {
            (apps::set_disabled(admin, buin, &app_id, true).await, output)
        }
        Command::Enable { which: Which { buin, app_id }, output } => {
            (apps::set_disabled(admin, buin, &app_id, false).await, output)
        }
        Command::PauseCallbacks { which: Which { buin, app_id }, output } => {
            (apps::pause_callbacks(admin, buin, &app_id).await, output)
        }
        Command::ResumeCallbacks { which: Which { buin, app_id }, output } => {
            (apps::resume_callbacks(admin, buin, &app_id).await, output)
        }
    };
    show(&changed.map_err(explain)?, hidden, output)
}

impl Create {
    fn into_app(self) -> RegisteredApp {
        RegisteredApp {
            app: App {
                buin: self.buin,
                app_id: self.app_id.unwrap_or_else(AppId::generate),
                name: self.name,
                permissions: self.permissions.into_iter().collect(),
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

impl Update {
    fn into_changes(self) -> (Which, AppChanges) {
        let callback = match (self.no_callback, self.callback_url, self.callback_token) {
            (true, ..) => Some(CallbackChange::Remove),
            (false, None, None) => None,
            (false, url, token) => Some(CallbackChange::Set { url, token }),
        };
        let permissions = self.permissions.map(|list| list.into_iter().collect());
        (self.which, AppChanges { name: self.name, permissions, callback })
    }
}

fn secret(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("must not be empty: anybody could sign".to_owned());
    }
    Ok(text.to_owned())
}

fn callback_url(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
    match (url.scheme(), url.host_str()) {
        ("http" | "https", Some(_)) => Ok(text.to_owned()),
        _ => Err("must be an http or https URL".to_owned()),
    }
}
