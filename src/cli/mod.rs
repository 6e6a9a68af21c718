//! The `muster` command. This file parses the command line and dispatches; each command has a file.
//!
//! Exit codes: 0 success, 1 failure, 2 a wrong command line or configuration. Results go to
//! standard output, everything else to standard error. A command works whether or not a server runs
//! on the same data directory.

mod actor;
mod app;
mod application;
mod args;
mod audit;
mod backup;
mod certificate;
mod config;
mod crypto;
mod database;
mod delivery;
mod doctor;
mod explain;
mod external_database;
mod feed;
mod feed_consumers;
mod feed_tail;
mod first_app;
mod health;
mod key;
mod listeners;
mod manual;
mod master_keys;
mod migrate;
mod misconfigured;
mod move_to;
mod open_files;
mod openapi;
mod options;
mod output;
mod passed_sockets;
mod plaintext_link;
mod postgres_supervisor;
mod restore;
mod secret_args;
mod secrets;
mod serve;
mod server_record;
mod service_manager;
mod shutdown_signal;
mod test_callback;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

pub use application::Application;
pub use listeners::Listeners;
pub use shutdown_signal::{STOP_ALLOWANCE, ShutdownSignal};

use self::args::Output;
use self::certificate::CertificateError;
use self::crypto::install_crypto_provider;
use self::misconfigured::Misconfigured;
use crate::clock::Clock;
use crate::config::{ConfigError, LogConfig, LogFilter, LogFormat, Settings, environment, file};
use crate::postgres::embedded::EmbeddedError;
use crate::postgres::environment::restart_without_ignored;
use crate::telemetry;

/// A persistent session service for internal apps.
///
/// Without a command, Muster serves. Without a configuration, it starts its own PostgreSQL below
/// ./data, creates a first app and listens on 127.0.0.1:7080.
#[derive(Parser)]
#[command(name = "muster", version, about, max_term_width = 100)]
struct Cli {
    /// The configuration file (TOML). Default: the file that MUSTER_CONFIG names, else built-in
    /// values
    ///
    /// `muster config` prints every key with its default and its meaning. An environment variable
    /// overrides a key: MUSTER__SERVER__BIND overrides `server.bind`.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until Ctrl-C or SIGTERM (the default command). A second signal ends the drain, if there
    /// is one; the next stops without waiting for requests
    Serve,
    /// Apply pending migrations to the database, or show their status
    Migrate {
        #[command(subcommand)]
        command: Option<migrate::MigrateCommand>,
        #[command(flatten)]
        args: migrate::MigrateArgs,
    },
    /// Manage apps, the callers of the API: create, list, change, disable
    #[command(subcommand)]
    App(app::AppCommand),
    /// Manage API keys, for calls without an envelope: create, list, revoke
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Manage callbacks: list, show, replay
    #[command(subcommand)]
    Delivery(delivery::DeliveryCommand),
    /// Show the audit: the operator, action, time and machine of each administrative act
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Manage the master key, which seals the secrets in the database: generate, status, rotate
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// Write a backup of the whole database into a directory, while servers run
    Backup(backup::BackupArgs),
    /// Restore a backup into a new data directory or an empty database
    Restore(restore::RestoreArgs),
    /// Copy everything into another PostgreSQL and print the next steps; the servers must be
    /// stopped
    MoveTo(move_to::MoveToArgs),
    /// Manage the feed of changes and its consumers: list, show, reset, release, tail, new-epoch
    #[command(subcommand)]
    Feed(feed::FeedCommand),
    /// Check configuration, database, disk, clock, secrets, certificate and ports, and print a
    /// remedy for each problem
    Doctor {
        #[command(flatten)]
        output: Output,
    },
    /// Check whether the server of this configuration is ready: exits with 0 if it is, else with 1
    Health {
        /// Check only whether the server runs, not whether its database answers
        #[arg(long)]
        live: bool,
    },
    /// Print every configuration key with its default and its meaning, as TOML; or show the settings
    /// in force
    Config {
        #[command(subcommand)]
        command: Option<config::ConfigCommand>,
    },
    /// Print the OpenAPI description of the REST API, as JSON
    Openapi(openapi::OpenapiArgs),
    /// Print a completion script for a shell
    Completions { shell: Shell },
    /// Write manual pages into a directory, one for each command
    Man {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Runs the command of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return explain_usage(&usage),
    };
    if let Err(error) = restart_without_ignored() {
        let error = anyhow::Error::from(error);
        output::error(
            &error.context("cannot start this program again without PGOPTIONS and alike"),
        );
        return ExitCode::FAILURE;
    }
    install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the async runtime");
    let done = runtime.and_then(|runtime| runtime.block_on(run(cli)));
    match done {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            ExitCode::from(if is_misconfiguration(&error) { 2 } else { 1 })
        }
    }
}

/// Prints the help, the version, or the mistake in the command line.
fn explain_usage(usage: &clap::Error) -> ExitCode {
    match output::usage(usage) {
        // A message on standard error that cannot be written has no other place.
        Err(error) if !usage.use_stderr() => {
            output::error(&error.into());
            ExitCode::FAILURE
        }
        _ => ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(1)),
    }
}

/// Whether a value of the configuration is the cause, wherever this was found.
fn is_misconfiguration(error: &anyhow::Error) -> bool {
    error.is::<ConfigError>()
        || error.is::<CertificateError>()
        || error.is::<Misconfigured>()
        || error.downcast_ref().is_some_and(EmbeddedError::is_misconfiguration)
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let command = cli.command.unwrap_or(Command::Serve);
    if let Some(done) = unconfigured(&command) {
        return done.map(|()| ExitCode::SUCCESS);
    }
    let is_argument = cli.config.is_some();
    let file = file(cli.config, std::env::var_os("MUSTER_CONFIG"));
    let loaded = Settings::load_explained(file.as_deref(), environment());
    if let (Command::Doctor { output }, Err(error)) = (&command, &loaded) {
        return Ok(doctor::unconfigured(error, *output)?);
    }
    let (settings, effective) = loaded?;
    if let Command::Config { command: Some(config::ConfigCommand::Show { output }) } = command {
        let file = config::ConfigFile { path: file.as_deref(), is_argument };
        config::show(&effective, &file, output)?;
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::init(&log_settings(&settings, &command))?;
    // A report names the mistake itself, and a probe needs no key.
    if !matches!(command, Command::Doctor { .. } | Command::Health { .. }) {
        master_keys::check_file(&settings)?;
    }
    let clock = Clock::system();
    match command {
        Command::Serve => serve::run(&settings, clock).await?,
        Command::Migrate { command, args } => {
            migrate::run(&settings, command, args, &clock).await?;
        }
        Command::App(command) => app::run(&settings, command, &clock).await?,
        Command::Key(command) => key::run(&settings, command, &clock).await?,
        Command::Delivery(command) => delivery::run(&settings, command, &clock).await?,
        Command::Audit(command) => audit::run(&settings, command, &clock).await?,
        Command::Secrets(command) => secrets::run(&settings, command, &clock).await?,
        Command::Backup(args) => backup::run(&settings, args, &clock).await?,
        Command::Restore(args) => restore::run(&settings, args, &clock).await?,
        Command::MoveTo(args) => move_to::run(&settings, args, &clock).await?,
        Command::Feed(command) => feed::run(&settings, command, &clock).await?,
        Command::Doctor { output } => return Ok(doctor::run(&settings, &clock, output).await?),
        Command::Health { live } => health::run(&settings, live).await?,
        Command::Config { .. }
        | Command::Openapi(_)
        | Command::Completions { .. }
        | Command::Man { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that needs no configuration; `None` if the command needs one.
fn unconfigured(command: &Command) -> Option<anyhow::Result<()>> {
    let printed = match command {
        Command::Config { command: None } => config::defaults(),
        Command::Openapi(args) => openapi::run(args),
        Command::Completions { shell } => manual::completions(Cli::command(), *shell),
        Command::Man { directory } => return Some(manual::pages(Cli::command(), directory)),
        Command::Secrets(secrets::SecretsCommand::Generate) => secrets::generate(),
        _ => return None,
    };
    Some(printed.map_err(anyhow::Error::from))
}

/// The log settings of a command. A server logs its events. Any other command prints its result, so
/// it logs only warnings unless the configuration asks for more. A move and a download of
/// PostgreSQL take minutes, so they also log their progress.
fn log_settings(settings: &Settings, command: &Command) -> LogConfig {
    let mut log = settings.log.clone();
    let quiet = match command {
        Command::Serve => return log,
        Command::MoveTo(_) => {
            "warn,muster::postgres::embedded::download=info,muster::postgres::backup=info"
        }
        _ => "warn,muster::postgres::embedded::download=info",
    };
    if log.level.as_str() == "info"
        && log.format == LogFormat::Pretty
        && let Ok(quiet) = LogFilter::parse(quiet)
    {
        log.level = quiet;
    }
    log
}
