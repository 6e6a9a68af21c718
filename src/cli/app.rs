//! `muster app`.

mod arguments;
mod callback_url;
mod printed;

use clap::Subcommand;

use self::arguments::{CreateArgs, UpdateArgs};
use self::printed::{SecretVisibility, list, show, show_new};
use super::args::{AppSelector, Output};
use super::database::Database;
use super::explain::{explain, not_shown};
use super::secret_args::{AesKeyArgs, SecretReader};
use super::{first_app, test_callback};
use crate::clock::Clock;
use crate::config::Settings;
use crate::service::admin::apps;
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
        #[command(flatten)]
        aes_key: AesKeyArgs,
        #[command(flatten)]
        output: Output,
    },
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
        AppCommand::List { output } => {
            return Ok(list(&apps::list(admin).await.map_err(explain)?, output)?);
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
            return test_callback::run(settings, app, clock, output).await;
        }
        AppCommand::RotateKey { which: AppSelector { buin, app_id }, aes_key, output } => {
            let aes_key = aes_key.into_key().unwrap_or_else(AesKey::generate);
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
    /// Reads the secrets that are in files or on standard input, before anything is changed.
    fn read_secrets(&mut self) -> anyhow::Result<()> {
        let mut reader = SecretReader::default();
        match self {
            Self::Create(create) => create.read_secrets(&mut reader),
            Self::Update(update) => update.read_secrets(&mut reader),
            Self::RotateKey { aes_key, .. } => aes_key.read(&mut reader),
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
