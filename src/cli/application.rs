//! The service as one value: `serve` and the tests build and run it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::actor;
use super::certificate::Certificate;
use super::crypto::install_crypto_provider;
use super::listeners::Listeners;
use super::options::{auth_options, server_options};
use super::shutdown_signal::ShutdownSignal;
use crate::clock::Clock;
use crate::config::Settings;
use crate::delivery::Worker;
use crate::http::{
    self, MetricsListener, MetricsServer, RequestAuth, ResponseBudget, Server, Services,
    ShutdownHandle,
};
use crate::keyring::Keyring;
use crate::metrics::Metrics;
use crate::repository::Pool;
use crate::repository::app_notifications::AppListener;
use crate::repository::migrations::MigrationList;
use crate::service::{
    AppDirectory, AuditRetention, Authenticator, BackgroundThreads, ChangeNotifier, MetricsInputs,
    MetricsSource, Readiness, SessionOptions, Sessions, TokenOptions,
};
use crate::telemetry::Traces;

/// The time limit for each of the last steps of a stop: traces, the last use of keys, the pool.
const FINAL_STEP_TIMEOUT: Duration = Duration::from_secs(1);

/// A service that listens on its address and is ready to run.
pub struct Application {
    server: Server,
    shutdown: ShutdownHandle,
    shutdown_signal: ShutdownSignal,
    pool: Pool,
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    metrics: Option<MetricsServer>,
    directory: Arc<AppDirectory>,
    app_listener: AppListener,
    sessions: Sessions,
    worker: Option<Worker>,
    change_notifier: Arc<ChangeNotifier>,
    audit_retention: AuditRetention,
    certificate: Option<Certificate>,
    registry: Arc<Metrics>,
    /// The interval between two checks of the certificate files.
    tls_reload_interval: Duration,
    clock: Clock,
    traces: Traces,
    drain_timeout: Duration,
    shutdown_timeout: Duration,
}

impl Application {
    /// Builds the service on a database whose schema it can use. `shutdown_signal` stops it later.
    ///
    /// # Errors
    /// The database fails, or the system refuses the socket.
    pub async fn build(
        settings: &Settings,
        listeners: Listeners,
        pool: Pool,
        keyring: Arc<Keyring>,
        clock: Clock,
        shutdown_signal: ShutdownSignal,
    ) -> anyhow::Result<Self> {
        let migrations = MigrationList::own();
        Self::build_with(settings, listeners, pool, keyring, clock, shutdown_signal, migrations)
            .await
    }

    /// The same as a program that has these migrations: another release.
    ///
    /// # Errors
    /// Those of [`Self::build`].
    pub async fn build_with(
        settings: &Settings,
        listeners: Listeners,
        pool: Pool,
        keyring: Arc<Keyring>,
        clock: Clock,
        shutdown_signal: ShutdownSignal,
        migrations: MigrationList,
    ) -> anyhow::Result<Self> {
        let Listeners { api: listener, metrics: metrics_listener, certificate } = listeners;
        let address = listener.address()?;
        let registry = Arc::new(Metrics::default());
        let metrics = &registry;
        // Opened before the apps are read, so that no change between the two is missed.
        let app_listener =
            AppListener::listen(&pool).await.context("cannot listen for changes of apps")?;
        install_crypto_provider();
        let traces = Traces::open(&settings.tracing)?;
        let directory = AppDirectory::open(pool.clone(), keyring, clock.clone()).await;
        let directory = Arc::new(directory.context("cannot read the apps")?);
        let tokens = TokenOptions {
            expire_in: settings.token.expire_in,
            max_clock_skew: settings.token.max_clock_skew,
        };
        let services = Services {
            authenticator: Authenticator::new(directory.clone(), tokens, clock.clone()),
            sessions: Sessions::new(
                pool.clone(),
                clock.clone(),
                SessionOptions::from_settings(settings),
                metrics.clone(),
                BackgroundThreads::start().context("cannot start the threads of large reads")?,
            ),
            auth: Arc::new(RequestAuth::new(
                auth_options(settings),
                clock.clone(),
                metrics.clone(),
            )),
            readiness: Arc::new(Readiness::open(pool.clone(), migrations).await?),
            responses: Arc::new(ResponseBudget::new(
                settings.limits.max_response_bytes_in_flight,
                metrics.clone(),
            )),
            metrics: metrics.clone(),
            traces: traces.clone(),
        };
        let (sessions, readiness) = (services.sessions.clone(), services.readiness.clone());
        let change_notifier = sessions.change_notifier();
        let audit_retention = AuditRetention {
            pool: pool.clone(),
            clock: clock.clone(),
            max_age: settings.audit.retention,
            actor: actor::current(),
        };
        let worker = match settings.delivery.enabled {
            true => {
                let (pool, directory) = (pool.clone(), directory.clone());
                let (clock, metrics) = (clock.clone(), metrics.clone());
                let worker = Worker::from_settings(settings, pool, directory, clock, metrics)
                    .context("cannot send callbacks")?;
                Some(worker.with_traces(traces.clone()))
            }
            false => None,
        };
        let options = server_options(settings);
        let tls = certificate.as_ref().map(Certificate::tls);
        let (server, shutdown) = http::serve(listener, services, options, tls)?;
        let metrics_source = Arc::new(MetricsSource::new(MetricsInputs {
            metrics: registry.clone(),
            pool: pool.clone(),
            directory: directory.clone(),
            sessions: sessions.clone(),
            readiness: readiness.clone(),
            clock: clock.clone(),
            data_dir: settings.data_dir.clone(),
            in_flight_requests: shutdown.in_flight_counter(),
        }));
        let metrics_address =
            metrics_listener.as_ref().map(MetricsListener::address).transpose()?;
        let metrics = metrics_listener
            .map(|listener| {
                http::serve_metrics(listener, metrics_source, readiness, &shutdown, options)
            })
            .transpose()?;
        Ok(Self {
            server,
            shutdown,
            shutdown_signal,
            pool,
            address,
            metrics_address,
            metrics,
            directory,
            app_listener,
            sessions,
            worker,
            change_notifier,
            audit_retention,
            certificate,
            registry,
            tls_reload_interval: settings.server.tls_reload_interval,
            clock,
            traces,
            drain_timeout: settings.server.drain_timeout,
            shutdown_timeout: settings.server.shutdown_timeout,
        })
    }

    /// The address of the API.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the metrics, if they are served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Serves until the shutdown signal, then closes the pool.
    ///
    /// # Errors
    /// The server fails.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self {
            server,
            shutdown,
            directory,
            app_listener,
            sessions,
            worker,
            change_notifier,
            ..
        } = self;
        let Self {
            drain_timeout,
            shutdown_timeout: remaining,
            pool,
            shutdown_signal,
            metrics,
            audit_retention,
            traces,
            ..
        } = self;
        let Self { certificate, registry, tls_reload_interval, clock, .. } = self;
        let metrics_task =
            metrics.map(|server| (server.shutdown_handle(), tokio::spawn(server.run())));
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let directory = directory.clone();
            async move { directory.run(app_listener).await }
        });
        tasks.spawn({
            let sessions = sessions.clone();
            async move { sessions.run_pruner().await }
        });
        tasks.spawn(audit_retention.run());
        tasks.spawn({
            let sessions = sessions.clone();
            async move { sessions.run_sequencer().await }
        });
        tasks.spawn({
            let sessions = sessions.clone();
            async move { sessions.run_feed_hub().await }
        });
        tasks.spawn(async move { sessions.follow_changes().await });
        if let Some(certificate) = certificate {
            tasks.spawn(certificate.watch(tls_reload_interval, clock, registry));
        }
        let (stop_worker, worker_stopped) = oneshot::channel::<()>();
        let worker_task = worker.map(|worker| {
            let worker_stopped = async move { drop(worker_stopped.await) };
            tokio::spawn(worker.run(change_notifier, worker_stopped))
        });
        let mut server_task = tokio::spawn(server.run());
        tokio::select! {
            result = &mut server_task => return Ok(result??),
            () = shutdown_signal.requested() => {}
        }

        shutdown.drain();
        shutdown_signal.drain(drain_timeout).await;
        drop(stop_worker);
        let deadline = Instant::now() + remaining;
        if !shutdown_signal.unless_forced(remaining, shutdown.close()).await {
            tracing::warn!("stopping with requests still running");
        }
        let remaining = deadline.saturating_duration_since(Instant::now());
        if let Some(mut worker_task) = worker_task
            && !shutdown_signal
                .unless_forced(remaining, async { drop((&mut worker_task).await) })
                .await
        {
            // The next server sends these callbacks again when their leases end.
            tracing::warn!("stopping with callbacks still in flight");
            worker_task.abort();
        }
        tasks.shutdown().await;
        if let Some((shutdown, metrics_task)) = metrics_task {
            shutdown_signal.unless_forced(FINAL_STEP_TIMEOUT, shutdown.stop()).await;
            metrics_task.abort();
        }
        shutdown_signal
            .unless_forced(FINAL_STEP_TIMEOUT, traces.shut_down(FINAL_STEP_TIMEOUT))
            .await;
        // The pool closes before the server threads end, because the connections that they opened
        // end with them. The time limit keeps a silent database from delaying the stop.
        shutdown_signal.unless_forced(FINAL_STEP_TIMEOUT, directory.flush_key_usage()).await;
        shutdown_signal.unless_forced(FINAL_STEP_TIMEOUT, pool.close()).await;
        shutdown.stop().await;
        Ok(server_task.await??)
    }
}
