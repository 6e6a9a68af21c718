//! `muster app`.

mod printed;

use clap::{Args, Subcommand};

use self::printed::{Secrets, list, show};
use super::args::{Output, Which, one_line};
use super::database::Store;
use super::{first_app, test_callback};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::{App, AppId, Buin, Callback, DeliveryState, Permission, Permissions};
use crate::repository::Error;
use crate::repository::apps::{self, StoredApp};
use crate::repository::deliveries;
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
    let (pool, keyring) = (&store.pool, &*store.keyring);
    let hidden = Secrets::Hidden;
    let change = async |which: Which, change: &mut (dyn FnMut(&mut StoredApp) + Send)| {
        let Which { buin, app_id } = which;
        let stored = apps::change(pool, keyring, buin, &app_id, store.act(clock), change)
            .await
            .map_err(explain)?;
        store.announce().await;
        anyhow::Ok(stored)
    };
    match command {
        Command::Create(create) => {
            let output = create.output;
            let stored = create.into_app();
            apps::insert(pool, keyring, &stored, store.act(clock)).await.map_err(explain)?;
            show(&stored, Secrets::Shown, output)
        }
        Command::List { output } => list(&apps::list(pool, keyring).await?, output),
        Command::Show { which: Which { buin, app_id }, show_secrets, output } => {
            let secrets = if show_secrets { Secrets::Shown } else { hidden };
            let stored = apps::find(pool, keyring, buin, &app_id).await.map_err(explain)?;
            show(&stored, secrets, output)
        }
        Command::Update(update) => {
            let Which { buin, app_id } = update.which.clone();
            let current = apps::find(pool, keyring, buin, &app_id).await.map_err(explain)?;
            anyhow::ensure!(
                current.app.callback.is_some()
                    || update.callback_url.is_some() == update.callback_token.is_some(),
                "the app has no callback yet: give --callback-url and --callback-token together"
            );
            let which = update.which.clone();
            let stored = change(which, &mut |stored| update.apply(&mut stored.app)).await?;
            show(&stored, hidden, update.output)
        }
        Command::Disable { which, output } => {
            show(&change(which, &mut |stored| stored.app.disabled = true).await?, hidden, output)
        }
        Command::Enable { which, output } => {
            show(&change(which, &mut |stored| stored.app.disabled = false).await?, hidden, output)
        }
        Command::PauseCallbacks { which, output } => show(
            &change(which, &mut |stored| stored.app.callbacks_paused = true).await?,
            hidden,
            output,
        ),
        Command::ResumeCallbacks { which, output } => {
            let stored = change(which, &mut |stored| stored.app.callbacks_paused = false).await?;
            // What failed before the pause has its whole schedule before it again.
            let filter = deliveries::Filter {
                buin: Some(stored.app.buin),
                app_id: Some(stored.app.app_id.clone()),
                state: Some(DeliveryState::Pending),
                ..deliveries::Filter::default()
            };
            deliveries::replay(pool, &filter, store.act(clock)).await?;
            show(&stored, hidden, output)
        }
        Command::TestCallback { which: Which { buin, app_id }, output } => {
            let stored = apps::find(pool, keyring, buin, &app_id).await.map_err(explain)?;
            test_callback::run(settings, stored, clock, output).await
        }
        Command::RotateKey { which, aes_key, output } => {
            let aes_key = aes_key.unwrap_or_else(AesKey::generate);
            let stored = change(which, &mut |stored| stored.aes_key = aes_key.clone()).await?;
            if store.is_embedded() {
                first_app::rekey(&settings.data_dir, &stored)?;
            }
            show(&stored, Secrets::AesKey, output)
        }
    }
}

/// An error of the repository, with the remedy where there is one.
pub(super) fn explain(error: Error) -> anyhow::Error {
    match error {
        Error::AppUnknown { .. } => {
            anyhow::anyhow!("{error}: `muster app list` shows those that there are")
        }
        Error::AppExists { .. } => {
            anyhow::anyhow!("{error}: choose another --app-id, or use `muster app update`")
        }
        other => other.into(),
    }
}

impl Create {
    fn into_app(self) -> StoredApp {
        StoredApp {
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
    fn apply(&self, app: &mut App) {
        if let Some(name) = &self.name {
            app.name.clone_from(name);
        }
        if let Some(permissions) = &self.permissions {
            app.permissions = permissions.iter().copied().collect::<Permissions>();
        }
        if self.no_callback {
            app.callback = None;
        }
        let (url, token) = (self.callback_url.as_ref(), self.callback_token.as_ref());
        match &mut app.callback {
            Some(callback) => {
                if let Some(url) = url {
                    callback.url.clone_from(url);
                }
                if let Some(token) = token {
                    callback.token.clone_from(token);
                }
            }
            None => {
                app.callback = url
                    .zip(token)
                    .map(|(url, token)| Callback { url: url.clone(), token: token.clone() });
            }
        }
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
