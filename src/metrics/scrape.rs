//! The names of the metrics and their help texts. Durations are in seconds and sizes in bytes;
//! counters end in `_total`.
//!
//! The dashboard and the alerts in `config/` use these names; a test compares them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::page::{self, MetricsWriter, WriteMetrics};
use super::process::Process;
use super::{
    CacheStats, Callbacks, Connections, Format, Metrics, MetricsSnapshot, PoolStats,
    SealedRejections, StatementStats,
};
use crate::telemetry;

/// The metrics and the state of the service, as text for Prometheus.
///
/// # Errors
/// Writing to memory does not fail, so no error occurs in practice.
pub fn text(
    metrics: Arc<Metrics>,
    snapshot: MetricsSnapshot,
    format: Format,
) -> Result<String, fmt::Error> {
    page::text(Scrape { metrics, snapshot }, format)
}

struct Scrape {
    metrics: Arc<Metrics>,
    snapshot: MetricsSnapshot,
}

impl WriteMetrics for Scrape {
    fn write(&self, page: &mut MetricsWriter<'_>) -> fmt::Result {
        let Self { metrics, snapshot } = self;
        requests(page, metrics, snapshot.in_flight_requests)?;
        connections(page, &metrics.connections)?;
        let help = "When the next API key expires, as a Unix time; 0 if none expires.";
        let expiry = snapshot.next_key_expiry;
        page.gauge("muster_api_key_not_after_timestamp_seconds", help, expiry)?;
        statements(page, metrics)?;
        metrics.history.write(page)?;
        metrics.responses.write(page)?;
        pool(page, &snapshot.pool)?;
        cache(page, metrics, snapshot.cache)?;
        metrics.feed.write(page)?;
        callbacks(page, &metrics.callbacks)?;
        database(page, snapshot)?;
        program(page)?;
        Process::current().map_or(Ok(()), |process| process.write(page))
    }
}

/// A single label, which has few values.
fn label<'a>(
    name: &'static str,
    value: impl Into<Cow<'a, str>>,
) -> [(&'static str, Cow<'a, str>); 1] {
    [(name, value.into())]
}

fn requests(writer: &mut MetricsWriter<'_>, metrics: &Metrics, in_flight: usize) -> fmt::Result {
    let routes = metrics.requests.routes();
    let answers = routes.iter().flat_map(|route| {
        route.counts().map(|(method, class, count)| {
            let labels = [
                ("route", Cow::Borrowed(route.pattern())),
                ("method", method.into()),
                ("status", class.into()),
            ];
            (labels, count)
        })
    });
    writer.counters("http_requests", "Requests that were answered.", answers)?;
    let durations = routes.iter().flat_map(|route| {
        route.durations().map(|(method, durations)| {
            ([("route", Cow::Borrowed(route.pattern())), ("method", method.into())], durations)
        })
    });
    let help = "Time from the arrival of the whole request to its response.";
    writer.histograms("http_request_duration_seconds", help, durations)?;
    writer.gauge(
        "http_requests_in_flight",
        "Requests whose response has not been written yet.",
        in_flight,
    )?;
    let errcodes = metrics.requests.errcodes.all();
    let errcodes = errcodes.map(|(key, count)| {
        let (code, status) =
            key.map_or(("other".into(), "other"), |(code, status)| (code.to_string(), status));
        ([("errcode", Cow::Owned(code)), ("status", status.into())], count)
    });
    writer.counters(
        "muster_cgi_errors",
        "Responses of /cgi with an errcode other than 0.",
        errcodes,
    )?;
    let codes = metrics.requests.codes.all();
    let codes = codes.map(|(code, count)| (label("code", code.unwrap_or("other")), count));
    writer.counters("muster_v1_problems", "Responses of /v1 with a problem code.", codes)?;
    metrics.request_bodies.write(writer)?;
    sealed_texts(writer, &metrics.sealed_rejections)
}

fn sealed_texts(writer: &mut MetricsWriter<'_>, rejections: &SealedRejections) -> fmt::Result {
    let reasons = [
        ("unopened", &rejections.unopened),
        ("throttled", &rejections.throttled),
        ("replayed", &rejections.replayed),
        ("token_request", &rejections.token_requests),
    ];
    let reasons = reasons.map(|(reason, count)| (label("reason", reason), count.value()));
    writer.counters(
        "muster_sealed_texts_rejected",
        "Sealed texts of /cgi that were rejected.",
        reasons,
    )
}

fn connections(writer: &mut MetricsWriter<'_>, connections: &Connections) -> fmt::Result {
    writer.gauge("muster_connections", "Open connections.", connections.open.value())?;
    let help = "Maximum number of open connections; further ones wait.";
    writer.gauge("muster_max_connections", help, connections.max())?;
    let help = "When the TLS certificate expires, as a Unix time; 0 without TLS.";
    let not_after = connections.certificate_not_after();
    writer.gauge("muster_tls_certificate_not_after_timestamp_seconds", help, not_after)?;
    let closed = connections.closed().map(|(reason, count)| (label("reason", reason), count));
    let help = "Connections that were closed early: by the phase in which the client was too slow, or because there were too many.";
    writer.counters("muster_connections_closed", help, closed)?;
    let help = "HTTP/2 requests that did not fit into the memory for open requests.";
    writer.counter("muster_http2_requests_rejected", help, connections.rejected_streams.value())
}

fn statements(writer: &mut MetricsWriter<'_>, metrics: &Metrics) -> fmt::Result {
    let kinds =
        [("read", &metrics.reads), ("create", &metrics.creates), ("update", &metrics.updates)];
    let numbers = |value: fn(&StatementStats) -> u64| {
        kinds.map(|(kind, statements)| (label("kind", kind), value(statements)))
    };
    let items = kinds.map(|(kind, statements)| (label("kind", kind), &statements.items));
    let help = "Requests that shared a statement; the count is the number of statements.";
    writer.histograms("muster_statement_items", help, items)?;
    let durations = kinds.map(|(kind, statements)| (label("kind", kind), &statements.durations));
    let help = "Duration of shared statements, with their transactions.";
    writer.histograms("muster_statement_duration_seconds", help, durations)?;
    let help = "Shared statements that failed.";
    writer.counters("muster_statement_failures", help, numbers(|all| all.failures.value()))?;
    let queued = numbers(|all| all.queued.value().unsigned_abs());
    writer.gauges("muster_queue_length", "Requests that wait for the next statement.", queued)?;
    let help = "Requests that found the queue full or waited too long in it.";
    writer.counters("muster_queue_rejected", help, numbers(|all| all.rejected.value()))?;
    let help = "Database connections opened outside the pool, first and again.";
    writer.counter(
        "muster_dedicated_connections_opened",
        help,
        metrics.dedicated_connections_opened.value(),
    )?;
    let help = "Database connections outside the pool that could not be opened.";
    writer.counter(
        "muster_dedicated_connection_failures",
        help,
        metrics.dedicated_connection_failures.value(),
    )?;
    let help = "Updates that were decided again because another server was faster.";
    writer.counter("muster_version_conflicts", help, metrics.version_conflicts.value())?;
    let help = "Updates that were decided again because PostgreSQL resolved a deadlock.";
    writer.counter("muster_deadlocks", help, metrics.deadlocks.value())
}

fn pool(writer: &mut MetricsWriter<'_>, pool: &PoolStats) -> fmt::Result {
    let states = [("idle", pool.idle), ("used", pool.used)];
    let states = states.map(|(state, count)| (label("state", state), count as u64));
    writer.gauges("muster_pool_connections", "Connections of the pool.", states)?;
    writer.gauge(
        "muster_pool_max_connections",
        "Maximum number of connections of the pool.",
        pool.max,
    )?;
    let help = "Time spent waiting for a connection of the pool, successful or not.";
    writer.histogram("muster_pool_wait_seconds", help, &pool.wait_stats.waits)?;
    let help = "Connections that the pool could not provide in time, or at all.";
    writer.counter("muster_pool_acquire_failures", help, pool.wait_stats.failures.value())?;
    let help = "Statements without an answer in time.";
    writer.counter("muster_statements_given_up", help, pool.given_up.given_up.value())?;
    let results = [("ended", &pool.given_up.ended), ("left", &pool.given_up.left)];
    let results = results.map(|(result, count)| (label("result", result), count.value()));
    let help = "Connections of statements that were given up, ended at the server or left there.";
    writer.counters("muster_database_connections_given_up", help, results)
}

fn cache(
    writer: &mut MetricsWriter<'_>,
    metrics: &Metrics,
    cache: Option<CacheStats>,
) -> fmt::Result {
    let Some(cache) = cache else { return Ok(()) };
    writer.counter("muster_cache_hits", "Sessions found in memory.", metrics.cache_hits.value())?;
    let help = "Sessions not found in memory, or not current enough to be used.";
    writer.counter("muster_cache_misses", help, metrics.cache_misses.value())?;
    let help = "Sessions that were removed to free memory.";
    writer.counter("muster_cache_evictions", help, metrics.cache_evictions.value())?;
    writer.gauge("muster_cache_entries", "Sessions in memory.", cache.entries)?;
    writer.gauge("muster_cache_bytes", "Estimated size of the sessions in memory.", cache.bytes)?;
    writer.gauge(
        "muster_cache_max_bytes",
        "Maximum size of the sessions in memory.",
        cache.max_bytes,
    )?;
    let help = "1 if the server knows what other servers changed, so that it may use the cache.";
    writer.gauge("muster_cache_fresh", help, u32::from(cache.fresh))?;
    let help = "Time since the server last learned what other servers changed.";
    let age = cache.sync_age.map(|age| age.as_secs_f64());
    writer.gauge_if_known("muster_cache_sync_age_seconds", help, age)
}

fn callbacks(writer: &mut MetricsWriter<'_>, callbacks: &Callbacks) -> fmt::Result {
    let results = [
        ("acknowledged", &callbacks.acknowledged),
        ("rejected", &callbacks.rejected),
        ("no_response", &callbacks.no_response),
    ];
    let results = results.map(|(result, count)| (label("result", result), count.value()));
    writer.counters("muster_delivery_attempts", "Attempts to send a callback.", results)?;
    let help = "Callbacks that this server gave up.";
    writer.counter("muster_deliveries_failed", help, callbacks.failed.value())?;
    let help = "Duration of attempts to send a callback.";
    writer.histogram("muster_delivery_duration_seconds", help, &callbacks.durations)?;
    let in_flight = callbacks.in_flight.load(Ordering::Relaxed);
    writer.gauge(
        "muster_deliveries_in_flight",
        "Attempts of this server that are running.",
        in_flight,
    )?;
    let help = "Apps that get fewer attempts because their receiver keeps failing.";
    writer.gauge(
        "muster_circuit_breakers_open",
        help,
        callbacks.open_circuit_breakers.load(Ordering::Relaxed),
    )
}

fn database(writer: &mut MetricsWriter<'_>, snapshot: &MetricsSnapshot) -> fmt::Result {
    let database = &snapshot.database;
    writer.gauge(
        "muster_database_up",
        "1 if the database answers within a second.",
        u32::from(database.up),
    )?;
    if database.up {
        let help = "1 if the tables are those of this program.";
        writer.gauge("muster_schema_current", help, u32::from(database.schema_current))?;
        let help = "Migrations that have not been applied.";
        writer.gauge("muster_migrations_pending", help, database.pending_migrations)?;
    }
    writer.gauge_if_known(
        "muster_database_size_bytes",
        "The size of the database.",
        database.size,
    )?;
    if let Some(deliveries) = &database.deliveries {
        let states = [
            ("pending", deliveries.pending),
            ("leased", deliveries.leased),
            ("failed", deliveries.failed),
        ];
        let states = states.map(|(state, count)| (label("state", state), count));
        let help =
            "Callbacks in the database, of all servers; at most 10000 of a kind are counted.";
        writer.gauges("muster_deliveries", help, states)?;
        let help = "Age of the oldest undelivered callback, without those of paused and disabled apps; 0 without one.";
        let oldest = deliveries.oldest_age.map_or(0.0, |age| age.as_secs_f64());
        writer.gauge("muster_oldest_delivery_age_seconds", help, oldest)?;
    }
    if let Some(consumers) = &database.consumers {
        consumers.write(writer)?;
    }
    let disk = snapshot.data_dir;
    let help = "Free space in the file system of data_dir.";
    writer.gauge_if_known("muster_data_dir_free_bytes", help, disk.map(|disk| disk.free))?;
    let help = "The size of the file system of data_dir.";
    writer.gauge_if_known("muster_data_dir_size_bytes", help, disk.map(|disk| disk.size))
}

fn program(writer: &mut MetricsWriter<'_>) -> fmt::Result {
    let labels = [
        ("version", Cow::Borrowed(env!("CARGO_PKG_VERSION"))),
        ("commit", option_env!("MUSTER_COMMIT").unwrap_or("unknown").into()),
        ("rustc", env!("MUSTER_RUSTC").into()),
    ];
    writer.gauges(
        "muster_build_info",
        "The version, the commit and the compiler of this program.",
        [(labels, 1)],
    )?;
    let help = "Lines of the log that could not be written.";
    writer.counter("muster_log_lines_dropped", help, telemetry::dropped_log_lines())
}
