//! `muster app`.

mod arguments;
mod callback_url;
mod printed;

use std::time::Duration;

use clap::Subcommand;

use self::arguments::{CreateArgs, UpdateArgs};
use self::printed::{SecretVisibility, list, show, show_deleted, show_new};
use super::args::{AppSelector, Output};
use super::database::Database;
use super::explain::{explain, not_shown};
use super::secret_args::AesKeyArgs;
use super::{first_app, test_callback};
use crate::clock::Clock;
use crate::config::Settings;
use crate::service::admin::{Error, apps, removal};
use crate::wire::AesKey;

#[derive(Subcommand)]
pub(super) enum AppCommand {
    /// Create an app and show its credentials
    Create(CreateArgs),
    /// List all apps, without archived ones unless --archived is given
    List {
        /// List archived apps too
        #[arg(long)]
        archived: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Show an app, without its secrets unless --show-secrets is given
    Show {
        #[command(flatten)]
        which: AppSelector,
        /// Show the AES key, the callback token and the whole callback URL too
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
    /// Replace an app's AES key and print the new one; all its access tokens end, unless --overlap is
    /// given
    RotateKey {
        #[command(flatten)]
        which: AppSelector,
        #[command(flatten)]
        aes_key: AesKeyArgs,
        /// Accept the old key and its access tokens for this time too, such as 7d: 1 minute to 365 days
        ///
        /// Responses are sealed with the key that the request used. Callbacks are sealed with the old
        /// key at the first attempt, and with the two keys in turn at the next ones. Run the command
        /// again without --overlap to end an old key before its time.
        #[arg(long, value_name = "DURATION", value_parser = overlap)]
        overlap: Option<Duration>,
        #[command(flatten)]
        output: Output,
    },
    /// Delete an app that no history of a session names, with its API keys and callbacks
    ///
    /// The history keeps which app made each change. Archive an app that has changed a session.
    Delete {
        #[command(flatten)]
        which: AppSelector,
        #[command(flatten)]
        output: Output,
    },
    /// Take an app out of use for ever: revoke its keys, end its callbacks, hide it from lists
    ///
    /// This cannot be undone. The history of sessions still names the app, and its id stays taken.
    Archive {
        #[command(flatten)]
        which: AppSelector,
        #[command(flatten)]
        output: Output,
    },
}

/// Parses the time for which an old key is accepted.
fn overlap(text: &str) -> Result<Duration, String> {
    const MIN: Duration = Duration::from_secs(60);
    const MAX: Duration = Duration::from_secs(365 * 86_400);
    match humantime::parse_duration(text) {
        Ok(duration) if (MIN..=MAX).contains(&duration) => Ok(duration),
        Ok(_) => Err("must be from 1 minute to 365 days".to_owned()),
        Err(error) => Err(format!("must be a duration such as 7d: {error}")),
    }
}

pub(super) async fn run(
    settings: &Settings,
    mut command: AppCommand,
    clock: &Clock,
) -> anyhow::Result<()> {
    command.read_secrets()?;
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
        AppCommand::List { archived, output } => {
            let mut apps = apps::list(admin).await.map_err(explain)?;
            apps.retain(|registered| archived || !registered.archived);
            return Ok(list(&apps, output)?);
        }
        AppCommand::Show { which: AppSelector { buin, app_id }, show_secrets, output } => {
            let (found, secrets) = match show_secrets {
                true => {
                    let found = apps::reveal(admin, buin, &app_id).await;
                    (found, SecretVisibility::Shown)
                }
                false => (apps::find(admin, buin, &app_id).await, hidden),
            };
            return Ok(show(&found.map_err(explain)?, secrets, output)?);
        }
        AppCommand::TestCallback { which: AppSelector { buin, app_id }, output } => {
            let app = apps::find(admin, buin, &app_id).await.map_err(explain)?;
            Error::if_archived(app.archived, &app.app).map_err(explain)?;
            return test_callback::run(settings, app, clock, output).await;
        }
        AppCommand::RotateKey { which, aes_key, overlap, output } => {
            let AppSelector { buin, app_id } = which;
            let aes_key = aes_key.into_key().unwrap_or_else(AesKey::generate);
            let rotated = apps::rotate_key(admin, buin, &app_id, aes_key, overlap).await;
            let rotated = rotated.map_err(explain)?;
            show_new(rotated.value(), SecretVisibility::AesKey, output)
                .map_err(|error| not_shown(error, "the old key stays valid"))?;
            let app = rotated.commit(admin).await.map_err(explain)?;
            if database.is_embedded() {
                first_app::rekey(&settings.data_dir, &app)?;
            }
            return Ok(());
        }
        AppCommand::Delete { which: AppSelector { buin, app_id }, output } => {
            let deleted = removal::delete(admin, buin, &app_id).await.map_err(explain)?;
            if database.is_embedded() {
                first_app::delete_credentials(&settings.data_dir, &deleted)?;
            }
            show_deleted(&deleted.app, output)?;
            return Ok(());
        }
        AppCommand::Archive { which: AppSelector { buin, app_id }, output } => {
            let archived = removal::archive(admin, buin, &app_id).await.map_err(explain)?;
            if database.is_embedded() {
                first_app::delete_credentials(&settings.data_dir, &archived)?;
            }
            (Ok(archived), output)
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
    /// Reads the secrets that are in files or on standard input, before anything is changed.
    fn read_secrets(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => create.read_secrets(),
            Self::Update(update) => update.read_secrets(),
            Self::RotateKey { aes_key, .. } => aes_key.read(),
            _ => Ok(()),
        }
    }

    /// The callback URL that the command sets.
    fn callback_url(&self) -> Option<&str> {
        match self {
            Self::Create(create) => create.callback_url.as_deref(),
            Self::Update(update) => update.callback_url.as_deref(),
            _ => None,
        }
    }
}
