//! The size of the program, its start time and its memory, as absolute figures and not as ratios.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::comparison::Comparison;
use crate::environment::Environment;
use crate::generator;
use crate::http;
use crate::rows::{CONNECTIONS, THREADS};
use crate::scripts::Gets;
use crate::seed::sets;
use crate::server;
use crate::usage;

/// The name of this measurement among the rows.
pub const NAME: &str = "footprint";

/// The number of starts.
const STARTS: usize = 3;
/// The number of comparisons.
const COMPARISONS: usize = 3;
/// The idle time before the memory is measured.
const IDLE_TIME: Duration = Duration::from_secs(2);
/// Long enough for the reads that fill the cache. Their rate is not measured.
const FILL_TIME: Duration = Duration::from_secs(20);

/// Measures, and describes the results.
///
/// # Errors
/// If a server does not get ready, or an answer is wrong.
pub fn measure(env: &mut Environment) -> anyhow::Result<Vec<String>> {
    let program = std::fs::metadata(&env.muster)?.len();
    let mut notes = vec![format!("The program has {} MiB, stripped.", program / 1024 / 1024)];
    let (start_times, idle) = measure_starts(env)?;
    let times: Vec<String> =
        start_times.iter().map(|elapsed| format!("{:.2}", elapsed.as_secs_f64())).collect();
    notes.push(format!(
        "Started with an existing embedded database that is stopped, it is ready after {} s; idle for {} s, \
         it has {idle:.0} MiB resident.",
        times.join(", "),
        IDLE_TIME.as_secs(),
    ));
    notes.push(measure_full_cache(env)?);
    notes.push(measure_comparison(env)?);
    Ok(notes)
}

/// The time until a server with an existing database is ready, and its resident memory then.
fn measure_starts(env: &Environment) -> anyhow::Result<(Vec<Duration>, f64)> {
    let work = env.work.join(NAME);
    std::fs::create_dir(&work)?;
    drop(server::start_muster(&env.muster, &work, "muster", &[])?);
    let mut start_times = Vec::new();
    let mut resident: f64 = 0.0;
    for _ in 0..STARTS {
        let started_at = Instant::now();
        let server = server::start_muster(&env.muster, &work, "muster", &[])?;
        start_times.push(started_at.elapsed());
        std::thread::sleep(IDLE_TIME);
        resident = resident.max(usage::resident(server.running.id()));
    }
    Ok((start_times, resident))
}

/// The resident memory of a server with the default cache, when the cache is full.
fn measure_full_cache(env: &mut Environment) -> anyhow::Result<String> {
    let (number, count) = sets::LARGER_THAN_CACHE;
    let set = env.set(number, count)?;
    let port = server::free_port()?;
    let metrics_address = format!("127.0.0.1:{port}");
    let server = env.start_another_server(&[("MUSTER__METRICS__BIND", &metrics_address)])?;
    let mut scripts = Gets::for_set(&env.app, &set, set.count, THREADS);
    let connections = CONNECTIONS / THREADS;
    let result =
        generator::load(server.port, &env.app.envelope, &mut scripts, connections, FILL_TIME)?;
    ensure!(result.failed == 0, "{} wrong, such as {}", result.failed, result.failures.join("; "));
    let metrics = String::from_utf8(http::call(port, &http::get("/metrics"))?)?;
    let metric = |name: &str| {
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse::<f64>().ok()).with_context(|| format!("no {name}"))
    };
    const MIB: f64 = 1024.0 * 1024.0;
    let evicted = metric("muster_cache_evictions_total")?;
    ensure!(evicted > 0.0, "the cache did not become full");
    Ok(format!(
        "With {} sessions in the database and a cache full of {} of them, by its own estimate {:.0} of {:.0} \
         MiB, it has {:.0} MiB resident.",
        set.count,
        metric("muster_cache_entries")?,
        metric("muster_cache_bytes")? / MIB,
        metric("muster_cache_max_bytes")? / MIB,
        usage::resident(server.running.id()),
    ))
}

/// The time and the memory of a comparison with a million sessions, on a server of its own.
fn measure_comparison(env: &mut Environment) -> anyhow::Result<String> {
    let (number, count) = sets::LARGER_THAN_CACHE;
    let set = env.set(number, count)?;
    let comparison = Comparison::new(env, &set, 1)?;
    let server = env.start_another_server(&[])?;
    let process = server.running.id();
    let before = usage::resident(process);
    let mut times = Vec::new();
    for _ in 0..COMPARISONS {
        let started_at = Instant::now();
        let failure = comparison.send(server.port)?;
        times.push(format!("{:.1}", started_at.elapsed().as_secs_f64()));
        ensure!(failure.is_none(), "a comparison ended with {}", failure.unwrap_or_default());
    }
    Ok(format!(
        "`/v1/sessions/compare` of {} pairs, {} of which differ, took {} s. A new server had {before:.0} MiB \
         resident before, and at most {:.0} MiB.",
        comparison.pairs.len(),
        comparison.differing,
        times.join(", "),
        usage::largest_resident(process),
    ))
}
