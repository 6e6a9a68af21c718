//! The memory of a server under all loads together: of an enterprise, and of anonymous callers.
//!
//! The server is alone in a group of processes with the limit of the compose file. On a machine that
//! cannot make such a group, its largest resident memory is reported instead.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;

use super::held::{Behavior, HeldConnections, raise_file_limit};
use super::memory_group::MemoryGroup;
use super::neighbors;
use super::probe::ProbeAnswers;
use crate::environment::{Environment, EnvironmentOptions};
use crate::report::{self, number};
use crate::server::Server;
use crate::{http, results, usage};

/// The limit of the compose file.
const LIMIT: u64 = 1 << 30;
/// Bytes of a MiB.
const MIB: f64 = 1_048_576.0;
/// The floods of the enterprise, and their clients.
const FLOODS: [(&str, usize); 8] = [
    ("batch_get", 24),
    ("history", 24),
    ("large_list", 12),
    ("large_get", 24),
    ("title", 8),
    ("create", 8),
    ("update", 16),
    ("refused", 16),
];
/// The time between two reports.
const INTERVAL: Duration = Duration::from_secs(5);

/// The duration, and the file of the results.
#[derive(Args)]
pub struct Options {
    /// Write the results into this file, as a chapter in Markdown
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Seconds of all loads together
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: u64,
    /// Changes of the session with the long history
    #[arg(long, value_name = "N", default_value_t = 600)]
    changes: usize,
    #[command(flatten)]
    environment: EnvironmentOptions,
}

/// Measures and reports. Fails if the server ended, took more than the limit, or refused the neighbor.
///
/// # Errors
/// See above; or if nothing can be measured.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let started_at = Instant::now();
    let files = raise_file_limit();
    let mut env = Environment::start(&options.environment, Duration::from_secs(1))?;
    let (data, probe) = neighbors::prepare(&env, options.changes)?;
    // The group ends after its process.
    let group = MemoryGroup::create(LIMIT);
    let mut server = match &group {
        Ok(group) => env.start_with_command(group.command(&options.environment.muster), &[])?,
        Err(error) => {
            eprintln!("no limit, because this machine cannot make a group of processes: {error:#}");
            env.start_another_server(&[])?
        }
    };
    let mut probe = probe.at(server.port);
    let data = data.at(server.port);
    let mut loads = Vec::new();
    for (name, clients) in FLOODS {
        loads.push((name, data.start(name, clients)?));
    }
    let held = data.held_clients().into_iter().chain(anonymous());
    let held: Vec<_> = held.map(|behavior| HeldConnections::start(server.port, behavior)).collect();
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let (mut answers, mut has_ended) = (ProbeAnswers::default(), false);
    while Instant::now() < end && !has_ended {
        // A server that was killed is reported below.
        match probe.measure(INTERVAL) {
            Ok(more) => answers.extend(more),
            Err(_) => std::thread::sleep(INTERVAL),
        }
        has_ended = server.running.has_ended();
        eprintln!("{:.0} MiB resident", usage::resident(server.running.id()));
    }
    let memory = Memory::read(group.as_ref().ok(), &server);
    let mut notes: Vec<String> = held.iter().map(HeldConnections::describe).collect();
    held.into_iter().for_each(HeldConnections::stop);
    for (name, load) in loads {
        match load.stop() {
            Ok((answers, _)) => notes.push(format!("`{name}`: {answers}")),
            // The clients of a server that has ended cannot connect again.
            Err(error) => notes.push(format!("`{name}`: {error:#}")),
        }
    }
    notes.push(format!("neighbor: get {}; list {}", answers.gets, answers.lists));
    let is_ready = http::call(server.port, &http::get("/readyz")).is_ok();
    has_ended = has_ended || server.running.has_ended();
    let command = format!("benches/run memory --seconds {}", options.seconds);
    let load = format!("at most {files} connections");
    let postgres = env.database.text("show server_version")?;
    let conditions = report::conditions(&command, &postgres, &load, started_at.elapsed());
    let text = markdown(&memory, has_ended, &notes, &conditions);
    println!("{text}");
    if let Some(file) = &options.results {
        results::write_chapter(file, &text)?;
    }
    drop(server);
    drop(group);
    ensure!(!has_ended, "the server has ended: see another.log");
    ensure!(is_ready, "the server is not ready after the loads");
    ensure!(memory.largest() < float(LIMIT) / MIB, "the server took more than the limit");
    let failed = answers.gets.statuses.keys().chain(answers.lists.statuses.keys());
    ensure!(failed.copied().all(|status| status == 200), "the neighbor was refused: see above");
    Ok(())
}

/// Callers without a credential.
fn anonymous() -> [Behavior; 3] {
    let body = "x".repeat(1_000_000);
    let header = "POST /v1/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\n";
    let base = Behavior {
        name: "bodies without a key",
        count: 1_800,
        address: Ipv4Addr::new(127, 0, 0, 3),
        first: format!("{header}Content-Length: 1000000\r\n\r\n{body}").into_bytes(),
        then: None,
        reads: true,
    };
    [
        Behavior {
            name: "headers without an end",
            count: 4_000,
            address: Ipv4Addr::new(127, 0, 0, 4),
            first: format!("{header}X-Long: {}", &body[..120_000]).into_bytes(),
            then: Some(b'x'),
            ..base.clone()
        },
        Behavior {
            name: "idle connections without a key",
            count: 5_000,
            address: Ipv4Addr::new(127, 0, 0, 5),
            first: http::get("/healthz"),
            ..base.clone()
        },
        base,
    ]
}

/// The memory and the time that the server took.
struct Memory {
    /// The most of the group, in MiB.
    group: Option<f64>,
    /// The largest resident memory of the process, in MiB.
    resident: f64,
    /// Processes that the kernel has killed.
    killed: Option<u64>,
}

impl Memory {
    fn read(group: Option<&MemoryGroup>, server: &Server) -> Self {
        Self {
            group: group.and_then(MemoryGroup::peak).map(|bytes| float(bytes) / MIB),
            resident: usage::largest_resident(server.running.id()),
            killed: group.and_then(MemoryGroup::killed),
        }
    }

    fn largest(&self) -> f64 {
        self.group.unwrap_or(self.resident)
    }
}

/// The bytes are far below the limit of exact floats.
#[expect(clippy::cast_precision_loss, reason = "bytes of one process")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

fn markdown(memory: &Memory, has_ended: bool, notes: &[String], conditions: &str) -> String {
    let mut out = format!("# Memory\n\n{conditions}\n");
    let limit = float(LIMIT) / MIB;
    let killed = memory.killed.map_or("–".to_owned(), |killed| killed.to_string());
    out.push_str(
        "| ratio to the limit | goal | group MiB | resident MiB | killed by the kernel | ended |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    report::line(
        &mut out,
        &[
            &number(memory.largest() / limit, 2),
            &format!("< 1: {}", if memory.largest() < limit && !has_ended { "yes" } else { "no" }),
            &number(memory.group.unwrap_or(f64::NAN), 0),
            &number(memory.resident, 0),
            &killed,
            if has_ended { "yes" } else { "no" },
        ],
    );
    let _ = writeln!(out, "\nThe largest values of the run; the limit is {limit:.0} MiB.\n");
    for note in notes {
        let _ = writeln!(out, "- {note}.");
    }
    out
}
