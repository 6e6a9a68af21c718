//! CPU and memory of processes, from `/proc`.

use std::collections::HashMap;
use std::time::Instant;

/// Ticks of `/proc/*/stat` per second, the same on every Linux.
const TICKS: f64 = 100.0;

/// CPU and memory of the server and of the database.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// The CPU of the server, in cores.
    pub server_cores: f64,
    /// The CPU of all processes of the database, in cores.
    pub database_cores: f64,
    /// Resident memory of the server at the end, in MiB.
    pub server_mib: f64,
    /// Memory of the database at the end, in MiB. Shared memory counts once.
    pub database_mib: f64,
}

/// Measures the usage of a server and a database from `start` to `stop`.
#[derive(Debug)]
pub struct UsageMeter {
    server: Option<u32>,
    database: u32,
    started_at: Instant,
    server_ticks: u64,
    database_ticks: u64,
}

impl UsageMeter {
    /// Starts counting for the process `server`, if one is given, and for the database's first
    /// process and its children.
    pub fn start(server: Option<u32>, database: u32) -> Self {
        let (server_ticks, database_ticks) = ticks(server, database);
        Self { server, database, started_at: Instant::now(), server_ticks, database_ticks }
    }

    /// The usage since the start.
    pub fn stop(&self) -> Usage {
        let seconds = self.started_at.elapsed().as_secs_f64();
        let (server, database) = ticks(self.server, self.database);
        let cores = |now: u64, at_start: u64| {
            crate::generator::float(now.saturating_sub(at_start)) / TICKS / seconds
        };
        Usage {
            server_cores: cores(server, self.server_ticks),
            database_cores: cores(database, self.database_ticks),
            server_mib: self.server.map_or(0.0, resident),
            database_mib: process_and_children(self.database)
                .map(|id| mib(&format!("{id}/smaps_rollup"), "Pss:"))
                .sum(),
        }
    }
}

/// The resident memory of a process, in MiB.
pub fn resident(id: u32) -> f64 {
    mib(&format!("{id}/status"), "VmRSS:")
}

/// The largest resident memory of a process so far, in MiB.
pub fn largest_resident(id: u32) -> f64 {
    mib(&format!("{id}/status"), "VmHWM:")
}

/// CPU time so far. The time of an ended process is added to its parent.
fn ticks(server: Option<u32>, database: u32) -> (u64, u64) {
    let own = |id: u32| fields(id).map_or(0, |fields| sum(&fields, 11..13));
    let ended = |id: u32| fields(id).map_or(0, |fields| sum(&fields, 13..15));
    (server.map_or(0, own), process_and_children(database).map(own).sum::<u64>() + ended(database))
}

fn sum(fields: &[String], indices: std::ops::Range<usize>) -> u64 {
    fields.get(indices).into_iter().flatten().filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// The fields of `/proc/ID/stat` after the name, which may contain any character.
fn fields(id: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, after) = text.rsplit_once(')')?;
    Some(after.split_whitespace().map(str::to_owned).collect())
}

/// A process and its children.
fn process_and_children(id: u32) -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let parents: HashMap<u32, u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|child| Some((child, fields(child)?.get(1)?.parse().ok()?)))
        .collect();
    parents
        .into_iter()
        .filter(move |(child, parent)| *child == id || *parent == id)
        .map(|(child, _)| child)
}

fn mib(file: &str, name: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = value.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1_024.0
}
