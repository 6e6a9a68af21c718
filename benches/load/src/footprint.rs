//! The size of the program, its start time and its memory, as absolute figures and not as ratios.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::generator;
use crate::http;
use crate::rows::{CONNECTIONS, THREADS};
use crate::scripts::Gets;
use crate::seed::sets;
use crate::server;
use crate::stage::Stage;
use crate::usage;

/// The name of this measurement among the rows.
pub const NAME: &str = "footprint";

/// The number of starts.
const STARTS: usize = 3;
/// The idle time before the memory is measured.
const IDLE: Duration = Duration::from_secs(2);
/// Long enough for the reads that fill the cache. Their rate is not measured.
const FILLING: Duration = Duration::from_secs(20);

/// Measures, and describes the results.
///
/// # Errors
/// If a server does not get ready, or an answer is wrong.
pub fn look(stage: &mut Stage) -> anyhow::Result<Vec<String>> {
    let program = std::fs::metadata(&stage.muster)?.len();
    let mut notes = vec![format!("The program has {} MiB, stripped.", program / 1024 / 1024)];
    let (ready, idle) = started(stage)?;
    let times: Vec<String> =
        ready.iter().map(|elapsed| format!("{:.2}", elapsed.as_secs_f64())).collect();
    notes.push(format!(
        "Started with an embedded database that is there and stopped, it is ready after {} s; idle for {} s, \
         it has {idle:.0} MiB resident.",
        times.join(", "),
        IDLE.as_secs(),
    ));
    notes.push(filled(stage)?);
    Ok(notes)
}

/// The time until a server with an existing database is ready, and its resident memory then.
fn started(stage: &Stage) -> anyhow::Result<(Vec<Duration>, f64)> {
    let work = stage.work.join(NAME);
    std::fs::create_dir(&work)?;
    drop(server::serve(&stage.muster, &work, "muster", &[])?);
    let mut ready = Vec::new();
    let mut resident: f64 = 0.0;
    for _ in 0..STARTS {
        let began = Instant::now();
        let server = server::serve(&stage.muster, &work, "muster", &[])?;
        ready.push(began.elapsed());
        std::thread::sleep(IDLE);
        resident = resident.max(usage::resident(server.running.id()));
    }
    Ok((ready, resident))
}

/// The resident memory of a server with the default cache, when the cache is full.
fn filled(stage: &mut Stage) -> anyhow::Result<String> {
    let (number, count) = sets::MANY;
    let set = stage.set(number, count)?;
    let port = server::free_port()?;
    let server = stage.another(&[("MUSTER__METRICS__BIND", &format!("127.0.0.1:{port}"))])?;
    let mut asking = Gets::of(&stage.app, &set, set.count, THREADS);
    let connections = CONNECTIONS / THREADS;
    let seen =
        generator::load(server.port, &stage.app.envelope, &mut asking, connections, FILLING)?;
    ensure!(seen.failed == 0, "{} wrong, such as {}", seen.failed, seen.failures.join("; "));
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
