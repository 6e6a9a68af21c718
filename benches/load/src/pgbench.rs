//! Runs pgbench, on the socket of the server that Muster uses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::process;

/// The amount of work.
#[derive(Clone, Copy, Debug)]
pub enum Clients {
    /// This many clients for this long.
    For {
        /// Clients.
        number: u64,
        /// Whole seconds.
        time: Duration,
    },
    /// This many clients with this many transactions each, to prepare data without waiting for the
    /// disk.
    Each {
        /// Clients.
        number: u64,
        /// Transactions of each client.
        transactions: u64,
    },
}

/// The result of pgbench.
#[derive(Clone, Copy, Debug)]
pub struct PgbenchResult {
    /// Transactions per second, without the time to connect.
    pub rate: f64,
    /// The number of transactions.
    pub transactions: u64,
}

/// The program, and the location of the database.
#[derive(Clone, Debug)]
pub struct Pgbench {
    /// The program.
    pub program: PathBuf,
    /// The directory of the database's socket.
    pub socket: PathBuf,
    /// The directory for scripts.
    pub work: PathBuf,
}

impl Pgbench {
    /// Runs a script with prepared statements and two threads. `:clients` is the number of clients.
    /// `:i` is -1 at first in scripts that test for that, else 0.
    ///
    /// # Errors
    /// If pgbench fails, or one of its transactions does.
    pub fn run(
        &self,
        script: &str,
        clients: Clients,
        values: &[(&str, String)],
    ) -> anyhow::Result<PgbenchResult> {
        let file = self.work.join("pgbench.sql");
        std::fs::write(&file, script)?;
        let (number, amount) = match clients {
            Clients::For { number, time } => (number, format!("-T{}", time.as_secs().max(1))),
            Clients::Each { number, transactions } => (number, format!("-t{transactions}")),
        };
        let mut command = process::command(&self.program);
        if let Clients::Each { .. } = clients {
            // Prepared data need not survive a crash.
            command.env("PGOPTIONS", "-c synchronous_commit=off");
        }
        let start = if script.contains("\\if :i < 0") { -1 } else { 0 };
        command.args(["-n", "-M", "prepared", "-U", "muster", "-h"]).arg(&self.socket);
        command.arg(format!("-c{number}")).arg(format!("-j{}", number.min(2))).arg(amount);
        command.arg(format!("-Di={start}")).arg(format!("-Dclients={number}"));
        command.args(values.iter().map(|(name, value)| format!("-D{name}={value}")));
        command.arg("-f").arg(&file).arg("muster");
        let finished = command.output().context("cannot run pgbench")?;
        let stdout = String::from_utf8_lossy(&finished.stdout);
        let stderr = String::from_utf8_lossy(&finished.stderr);
        ensure!(finished.status.success(), "pgbench: {stderr}");
        let failed = number_after(&stdout, "number of failed transactions: ").unwrap_or(0.0);
        ensure!(failed == 0.0, "pgbench: {failed} transactions failed");
        let rate = number_after(&stdout, "tps = ").context("pgbench printed no tps")?;
        let transactions = number_after(&stdout, "actually processed: ")
            .context("pgbench printed no number of transactions")?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        Ok(PgbenchResult { rate, transactions: transactions as u64 })
    }
}

/// The newest pgbench of an installed PostgreSQL, else the one in `PATH`.
pub fn find() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = installed
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin/pgbench")))
        })
        .filter(|(_, program)| program.is_file())
        .collect();
    found.sort();
    found.pop().map_or_else(|| Path::new("pgbench").to_owned(), |(_, program)| program)
}

fn number_after(text: &str, before: &str) -> Option<f64> {
    let (_, after) = text.split_once(before)?;
    let end = after.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(after.len());
    after[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_parsed_from_the_output() {
        let output =
            "number of transactions actually processed: 71\ntps = 35.5 (without initial)\n";
        assert_eq!(number_after(output, "actually processed: "), Some(71.0));
        assert_eq!(number_after(output, "tps = "), Some(35.5));
        assert_eq!(number_after(output, "failed: "), None);
    }
}
