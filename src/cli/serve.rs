//! `muster serve`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::application::Application;
use super::database::Database;
use super::explain::explain;
use super::listeners::Listeners;
use super::plaintext_link::PlaintextLink;
use super::server_record::ServerRecord;
use super::shutdown_signal::{STOP_ALLOWANCE, ShutdownSignal};
use super::{doctor, first_app, open_files, output, service_manager};
use crate::clock::Clock;
use crate::config::Settings;
use crate::service::admin;
use crate::service::admin::schema::{self, SchemaState};
use crate::service::admin::secrets;
use crate::telemetry::cause_chain;

/// A signal within this time after another one counts as the same signal.
const DUPLICATE_SIGNAL_WINDOW: Duration = Duration::from_secs(1);
/// The time limit of a stop after the second signal.
const FORCED_EXIT_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) async fn run(settings: &Settings, clock: Clock) -> anyhow::Result<()> {
    // Signals are handled before the start of anything that must stop in order.
    let shutdown_signal = ShutdownSignal::default();
    stop_on_signals(shutdown_signal.clone(), settings.server.drain_timeout)
        .and_then(|()| service_manager::survive_hangups())
        .context("cannot handle signals")?;
    open_files::raise_limit(settings.server.max_connections);
    let listeners = Listeners::open(settings)?;
    let url = url(settings.server.scheme(), listeners.api.address()?);
    if settings.database.url.is_none() {
        doctor::warn_about_space(&settings.data_dir);
    }
    for (key, url) in settings.database.used_urls() {
        if let Some(link) = PlaintextLink::find(url) {
            tracing::warn!("{}: {}", link.finding(key), PlaintextLink::REMEDY);
        }
    }
    let Some(database) = Database::open_for_server(settings, &shutdown_signal).await? else {
        return Ok(());
    };
    database.warn_if_accessible(settings);
    let database = database.supervise(shutdown_signal.clone());
    let _record = record(&settings.data_dir, &listeners);
    let starting = start(settings, clock, listeners, &url, &database, &shutdown_signal);
    let application = tokio::select! {
        application = starting => application,
        // The database may not answer, so the wait for its end is limited.
        () = shutdown_signal.requested() => {
            // No request was taken, so there is nothing to drain.
            shutdown_signal.end_drain();
            let time = shutdown_signal.database_time(settings.server.shutdown_timeout);
            shutdown_signal.unless_forced(time + STOP_ALLOWANCE, database.close_within(time)).await;
            return Ok(());
        }
    };
    let result = match application {
        Ok(application) => application.run().await,
        Err(error) => Err(error),
    };
    let time = shutdown_signal.database_time(settings.server.shutdown_timeout);
    database.close_within(time).await;
    result
}

/// Records the addresses for `muster doctor`. With an external database, the directory may be
/// missing.
fn record(data_dir: &Path, listeners: &Listeners) -> Option<ServerRecord> {
    if !data_dir.is_dir() {
        return None;
    }
    let record =
        listeners.addresses().and_then(|addresses| ServerRecord::write(data_dir, &addresses));
    record
        .inspect_err(|error| tracing::warn!(%error, "`muster doctor` will not know this server"))
        .ok()
}

/// Prepares the database, and announces the service.
async fn start(
    settings: &Settings,
    clock: Clock,
    listeners: Listeners,
    url: &str,
    database: &Database,
    shutdown_signal: &ShutdownSignal,
) -> anyhow::Result<Application> {
    let admin = database.admin(&clock);
    if settings.database.migrate {
        schema::migrate(&admin, false).await.map_err(explain)?;
    }
    match schema::state(&admin).await.map_err(explain)? {
        SchemaState::Current => {}
        SchemaState::ContractsPending(pending) => tracing::info!(
            pending,
            "migrations of the kind contract wait for `muster migrate --contract`, to be run after the \
             last server of the previous release has stopped"
        ),
        SchemaState::Extended(migrations) => tracing::warn!(
            ?migrations,
            "a newer Muster has extended the database: this program uses it without the additions"
        ),
        SchemaState::Pending(_) => anyhow::bail!(
            "migrations are pending and database.migrate is false: run `muster migrate` first"
        ),
        SchemaState::Newer(_) | SchemaState::Broken(_) => {
            return Err(explain(admin::Error::ForeignSchema));
        }
    }
    secrets::verify(&admin).await.map_err(explain)?;
    let credentials = match database.is_embedded() {
        true => first_app::ensure(&admin, &settings.data_dir, url).await?,
        false => None,
    };
    let (pool, keyring) = (database.pool.clone(), database.keyring.clone());
    let application =
        Application::build(settings, listeners, pool, keyring, clock, shutdown_signal.clone())
            .await?;
    let metrics = application.metrics_address().map(tracing::field::display);
    tracing::info!(address = %application.address(), metrics, "listening");
    if let Err(error) = output::text(&welcome(url, credentials.as_deref())) {
        let error = cause_chain(&error);
        tracing::warn!(%error, "the welcome was not printed; the server runs without it");
    }
    service_manager::ready();
    Ok(application)
}

/// Stops the service on signals. After the first signal, the service drains: it answers everything,
/// and then running requests may finish. The next signal ends the drain, if there is one. The next stops
/// without waiting for requests. One more signal, or a timeout of three seconds, ends the process at
/// once. The next start recovers.
fn stop_on_signals(shutdown_signal: ShutdownSignal, drain_timeout: Duration) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut duplicates_until = None;
        let mut next_signal = async || loop {
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            // A terminal and a parent process may both pass on the same Ctrl-C.
            let now = Instant::now();
            if duplicates_until.is_none_or(|until| now > until) {
                duplicates_until = Some(now + DUPLICATE_SIGNAL_WINDOW);
                break name;
            }
        };
        let name = next_signal().await;
        if drain_timeout.is_zero() {
            tracing::info!(
                signal = name,
                "stopping when the running requests are finished; a second signal stops without waiting"
            );
        } else {
            tracing::info!(
                signal = name,
                drain_timeout_ms = drain_timeout.as_millis(),
                "draining: /readyz answers 503, and requests are still answered; then stopping; a second \
                 signal ends the drain"
            );
        }
        service_manager::stopping();
        shutdown_signal.stop();
        if drain_timeout.is_zero() {
            shutdown_signal.end_drain();
        } else {
            tokio::select! {
                name = next_signal() => tracing::info!(signal = name, "the drain ends early"),
                () = shutdown_signal.drained() => {}
            }
            shutdown_signal.end_drain();
            tracing::info!(
                "stopping when the running requests are finished; a further signal stops without waiting"
            );
        }
        let name = next_signal().await;
        tracing::warn!(signal = name, "another signal: stopping without waiting for requests");
        shutdown_signal.force();
        let _ = tokio::time::timeout(FORCED_EXIT_TIMEOUT, next_signal()).await;
        tracing::warn!("exiting at once");
        std::process::exit(1);
    });
    Ok(())
}

/// The URL of the server for clients on this machine.
fn url(scheme: &str, address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

fn welcome(url: &str, credentials: Option<&Path>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let head = format!(
        "Muster {version} listens on {url}\n\
         The API, to read and to try: {url}/v1/docs"
    );
    match credentials {
        Some(file) => {
            let file = quoted(&file.display().to_string());
            let key = format!(r#"$(sed -n 's/.*"apiKey": *"\([^"]*\)".*/\1/p' {file})"#);
            format!(
                "{head}\n\
                 The first app's credentials are in {file}\n\
                 Create a session:\n\n  \
                 curl -s {url}/v1/sessions -H \"Authorization: Bearer {key}\" \
                 -H 'Content-Type: application/json' \
                 -d '{{\"operator\": \"alice\", \"title\": \"Hello\", \"member\": [\"bob\", \"carol\"]}}'\n\n\
                 The same in the protocol of existing clients:\n\n  \
                 curl -s \"{url}/cgi/session/create?accessToken={key}\" \
                 -d '{{\"title\": \"Hello\", \"creator\": \"alice\", \"member\": [\"bob\", \"carol\"]}}'\n"
            )
        }
        None => format!(
            "{head}\n\
             List the apps: `muster app list`; create an app: `muster app create --buin N`; \
             create a key for it: `muster key create --buin N --app-id ID`"
        ),
    }
}

/// A path, quoted for a shell if necessary.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_can_be_used_on_this_machine() {
        assert_eq!(url("http", "0.0.0.0:7080".parse().unwrap()), "http://127.0.0.1:7080");
        assert_eq!(url("https", "[::]:80".parse().unwrap()), "https://[::1]:80");
        assert_eq!(url("http", "10.0.0.7:1".parse().unwrap()), "http://10.0.0.7:1");
    }

    #[test]
    fn paths_are_quoted_if_necessary() {
        assert_eq!(quoted("data/first-app.json"), "data/first-app.json");
        assert_eq!(quoted("/it's here"), r"'/it'\''s here'");
    }
}
