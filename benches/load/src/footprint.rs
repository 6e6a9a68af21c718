//! How small the server is, and how soon it serves: no ratio, but what an operator asks first.

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

/// What this is called among the rows.
pub const NAME: &str = "footprint";

/// How often it is started.
const STARTS: usize = 3;
/// How long a server has been idle when its memory is looked at.
const IDLE: Duration = Duration::from_secs(2);
/// Long enough for the reads that fill the cache, which nobody measures.
const FILLING: Duration = Duration::from_secs(20);

/// Measures, and says what was seen.
///
/// # Errors
/// When a server does not get ready, or an answer was wrong.
pub fn look(stage: &mut Stage) -> anyhow::Result<Vec<String>> {
    let program = std::fs::metadata(&stage.muster)?.len();
    let mut said = vec![format!("The program has {} MiB, stripped.", program / 1024 / 1024)];
    let (ready, idle) = started(stage)?;
    let times: Vec<String> =
        ready.iter().map(|took| format!("{:.2}", took.as_secs_f64())).collect();
    said.push(format!(
        "Started with an embedded database that is there and stopped, it is ready after {} s; idle for {} s, \
         it has {idle:.0} MiB resident.",
        times.join(", "),
        IDLE.as_secs(),
    ));
    said.push(filled(stage)?);
    Ok(said)
}

/// How soon a server is ready whose database exists, and what it has resident then.
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

/// What a server has resident when its cache, as by default, has become full.
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
