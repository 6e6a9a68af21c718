//! The names of the metrics and their help texts. Durations are in seconds and sizes in bytes;
//! counters end in `_total`.
//!
//! The dashboard and the alerts in `config/` use these names; a test compares them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::page::{self, Page, Write};
use super::process::Process;
use super::{Cache, Callbacks, Connections, Format, Metrics, Pool, Statements, Vitals};

/// All that was counted, and how the service stands, as Prometheus reads it.
///
/// # Errors
/// Writing to memory does not fail, so no error occurs in practice.
pub fn text(metrics: Arc<Metrics>, vitals: Vitals, format: Format) -> Result<String, fmt::Error> {
    page::text(Scrape { metrics, vitals }, format)
}

struct Scrape {
    metrics: Arc<Metrics>,
    vitals: Vitals,
}

impl Write for Scrape {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let Self { metrics, vitals } = self;
        requests(page, metrics, vitals.running)?;
        connections(page, &metrics.connections)?;
        statements(page, metrics)?;
        pool(page, &vitals.pool)?;
        cache(page, metrics, vitals.cache)?;
        callbacks(page, &metrics.callbacks)?;
        database(page, vitals)?;
        program(page)?;
        Process::this().map_or(Ok(()), |this| process(page, &this))
    }
}

/// A label of one of few.
fn one<'a>(
    name: &'static str,
    value: impl Into<Cow<'a, str>>,
) -> [(&'static str, Cow<'a, str>); 1] {
    [(name, value.into())]
}

fn requests(page: &mut Page<'_>, metrics: &Metrics, running: usize) -> fmt::Result {
    let routes = metrics.requests.routes();
    let answers = routes.iter().flat_map(|route| {
        route.answers().map(|(method, class, count)| {
            let labels = [
                ("route", Cow::Borrowed(route.pattern())),
                ("method", method.into()),
                ("status", class.into()),
            ];
            (labels, count)
        })
    });
    page.counters("http_requests", "Requests that were answered.", answers)?;
    let durations = routes.iter().flat_map(|route| {
        route.durations().map(|(method, durations)| {
            ([("route", Cow::Borrowed(route.pattern())), ("method", method.into())], durations)
        })
    });
    let help = "Time from the arrival of the whole request to its response.";
    page.histograms("http_request_duration_seconds", help, durations)?;
    page.gauge("http_requests_in_flight", "Requests that are being processed.", running)?;
    let errcodes = metrics.requests.errcodes.all();
    let errcodes = errcodes.map(|(answered, count)| {
        let (code, status) =
            answered.map_or(("other".into(), "other"), |(code, status)| (code.to_string(), status));
        ([("errcode", Cow::Owned(code)), ("status", status.into())], count)
    });
    page.counters(
        "muster_cgi_errors",
        "Responses of /cgi with an errcode other than 0.",
        errcodes,
    )?;
    let codes = metrics.requests.codes.all();
    let codes = codes.map(|(code, count)| (one("code", code.unwrap_or("other")), count));
    page.counters("muster_v1_problems", "Responses of /v1 with a problem code.", codes)
}

fn connections(page: &mut Page<'_>, connections: &Connections) -> fmt::Result {
    page.gauge("muster_connections", "Open connections.", connections.open.value())?;
    let help = "Maximum number of open connections; further ones wait.";
    page.gauge("muster_connections_max", help, connections.max())?;
    let help = "When the TLS certificate expires, as a Unix time; 0 without TLS.";
    let ends = connections.certificate_ends();
    page.gauge("muster_tls_certificate_not_after_timestamp_seconds", help, ends)?;
    let cuts = connections.cuts().map(|(reason, count)| (one("reason", reason), count));
    let help = "Connections that were closed because the client was too slow, by phase.";
    page.counters("muster_connections_closed", help, cuts)
}

fn statements(page: &mut Page<'_>, metrics: &Metrics) -> fmt::Result {
    let kinds =
        [("read", &metrics.reads), ("create", &metrics.creates), ("update", &metrics.updates)];
    let numbers = |value: fn(&Statements) -> u64| {
        kinds.map(|(kind, statements)| (one("kind", kind), value(statements)))
    };
    let items = kinds.map(|(kind, statements)| (one("kind", kind), &statements.items));
    let help = "Requests that shared a statement; the count is the number of statements.";
    page.histograms("muster_statement_items", help, items)?;
    let durations = kinds.map(|(kind, statements)| (one("kind", kind), &statements.durations));
    let help = "Duration of shared statements, with their transactions.";
    page.histograms("muster_statement_duration_seconds", help, durations)?;
    let help = "Shared statements that failed.";
    page.counters("muster_statement_failures", help, numbers(|all| all.failures.value()))?;
    let queued = numbers(|all| all.queued.value().unsigned_abs());
    page.gauges("muster_queue_length", "Requests that wait for the next statement.", queued)?;
    let help = "Requests that found the queue full or waited too long in it.";
    page.counters("muster_queue_rejected", help, numbers(|all| all.turned_away.value()))?;
    let help = "Database connections opened outside the pool, first and again.";
    page.counter("muster_dedicated_connections_opened", help, metrics.connects.value())?;
    let help = "Database connections outside the pool that could not be opened.";
    page.counter("muster_dedicated_connection_failures", help, metrics.connect_failures.value())?;
    let help = "Updates that were decided again because another server was faster.";
    page.counter("muster_version_conflicts", help, metrics.version_conflicts.value())?;
    let help = "Updates that were decided again because PostgreSQL resolved a deadlock.";
    page.counter("muster_deadlocks", help, metrics.deadlocks.value())
}

fn pool(page: &mut Page<'_>, pool: &Pool) -> fmt::Result {
    let states = [("idle", pool.idle), ("used", pool.used)];
    let states = states.map(|(state, count)| (one("state", state), count as u64));
    page.gauges("muster_pool_connections", "Connections of the pool.", states)?;
    page.gauge(
        "muster_pool_connections_max",
        "Maximum number of connections of the pool.",
        pool.max,
    )?;
    let help = "Time spent waiting for a connection of the pool, successful or not.";
    page.histogram("muster_pool_wait_seconds", help, &pool.acquires.waits)?;
    let help = "Connections that the pool could not provide in time, or at all.";
    page.counter("muster_pool_acquire_failures", help, pool.acquires.failures.value())
}

fn cache(page: &mut Page<'_>, metrics: &Metrics, cache: Option<Cache>) -> fmt::Result {
    let Some(cache) = cache else { return Ok(()) };
    page.counter("muster_cache_hits", "Sessions found in memory.", metrics.cache_hits.value())?;
    let help = "Sessions not found in memory, or not current enough to be used.";
    page.counter("muster_cache_misses", help, metrics.cache_misses.value())?;
    let help = "Sessions that were removed to free memory.";
    page.counter("muster_cache_evictions", help, metrics.cache_evictions.value())?;
    page.gauge("muster_cache_entries", "Sessions in memory.", cache.entries)?;
    page.gauge("muster_cache_bytes", "Estimated size of the sessions in memory.", cache.bytes)?;
    page.gauge(
        "muster_cache_max_bytes",
        "Maximum size of the sessions in memory.",
        cache.max_bytes,
    )?;
    let help = "1 if the server knows what other servers changed, so that it may use the cache.";
    page.gauge("muster_cache_fresh", help, u32::from(cache.fresh))?;
    let help = "Time since the server last learned what other servers changed.";
    let age = cache.followed.map(|age| age.as_secs_f64());
    page.known("muster_cache_sync_age_seconds", help, age)
}

fn callbacks(page: &mut Page<'_>, callbacks: &Callbacks) -> fmt::Result {
    let results = [
        ("acknowledged", &callbacks.acknowledged),
        ("rejected", &callbacks.rejected),
        ("no_response", &callbacks.no_response),
    ];
    let results = results.map(|(result, count)| (one("result", result), count.value()));
    page.counters("muster_delivery_attempts", "Attempts to send a callback.", results)?;
    let help = "Callbacks that this server gave up.";
    page.counter("muster_deliveries_failed", help, callbacks.given_up.value())?;
    let help = "Duration of attempts to send a callback.";
    page.histogram("muster_delivery_duration_seconds", help, &callbacks.durations)?;
    let under_way = callbacks.under_way.load(Ordering::Relaxed);
    page.gauge(
        "muster_deliveries_in_flight",
        "Attempts of this server that are running.",
        under_way,
    )?;
    let help = "Apps that get fewer attempts because their receiver keeps failing.";
    page.gauge("muster_circuit_breakers_open", help, callbacks.slowed.load(Ordering::Relaxed))
}

fn database(page: &mut Page<'_>, vitals: &Vitals) -> fmt::Result {
    let database = &vitals.database;
    page.gauge(
        "muster_database_up",
        "1 if the database answers within a second.",
        u32::from(database.up),
    )?;
    if database.up {
        let help = "1 if the tables are those of this program.";
        page.gauge("muster_schema_current", help, u32::from(database.current))?;
        let help = "Migrations that have not been applied.";
        page.gauge("muster_migrations_pending", help, database.pending_migrations)?;
    }
    page.known("muster_database_size_bytes", "The size of the database.", database.size)?;
    if let Some(told) = &database.deliveries {
        let states = [("pending", told.pending), ("leased", told.leased), ("failed", told.failed)];
        let states = states.map(|(state, count)| (one("state", state), count));
        let help =
            "Callbacks in the database, of all servers; at most 10000 of a kind are counted.";
        page.gauges("muster_deliveries", help, states)?;
        let help = "Age of the oldest undelivered callback, without those of paused and disabled apps; 0 without one.";
        let oldest = told.oldest.map_or(0.0, |age| age.as_secs_f64());
        page.gauge("muster_oldest_delivery_age_seconds", help, oldest)?;
    }
    let disk = vitals.data_dir;
    let help = "Free space in the file system of data_dir.";
    page.known("muster_data_dir_free_bytes", help, disk.map(|disk| disk.free))?;
    let help = "The size of the file system of data_dir.";
    page.known("muster_data_dir_size_bytes", help, disk.map(|disk| disk.size))
}

fn program(page: &mut Page<'_>) -> fmt::Result {
    let labels = [
        ("version", Cow::Borrowed(env!("CARGO_PKG_VERSION"))),
        ("commit", option_env!("MUSTER_COMMIT").unwrap_or("unknown").into()),
        ("rustc", env!("MUSTER_RUSTC").into()),
    ];
    page.gauges(
        "muster_build_info",
        "The version, the commit and the compiler of this program.",
        [(labels, 1)],
    )
}

fn process(page: &mut Page<'_>, this: &Process) -> fmt::Result {
    page.gauge("process_resident_memory_bytes", "Memory in use.", this.resident_bytes)?;
    page.counter("process_cpu_seconds", "Processor time.", this.cpu_seconds)?;
    page.gauge("process_threads", "Threads.", this.threads)?;
    page.gauge("process_open_fds", "Open file descriptors.", this.open_fds)?;
    page.known("process_max_fds", "Maximum number of open file descriptors.", this.max_fds)?;
    let help = "Start of the process, as a Unix time.";
    page.gauge("process_start_time_seconds", help, this.started_at_seconds)
}
