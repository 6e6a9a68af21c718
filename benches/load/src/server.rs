//! Processes that serve HTTP: Muster, and this program in its other roles.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::Value;

use crate::http;
use crate::process::{self, Running};

/// The time that a server gets until it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A process that serves HTTP on a port.
pub struct Server {
    /// The process.
    pub running: Running,
    /// The port on 127.0.0.1.
    pub port: u16,
}

impl Server {
    /// Starts this program again with another role.
    ///
    /// # Errors
    /// If the server does not get ready.
    pub fn start_role(role: &str, work: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = process::command(std::env::current_exe()?);
        command.arg(role).arg("--port").arg(port.to_string()).args(arguments);
        let running = Running::start(command, work, role)?;
        let mut server = Self { running, port };
        server
            .wait_until(|port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), role)?;
        Ok(server)
    }

    fn wait_until(&mut self, ready: impl Fn(u16) -> bool, role: &str) -> anyhow::Result<()> {
        let started_at = Instant::now();
        while !ready(self.port) {
            ensure!(!self.running.has_ended(), "{role} ended during its start: see {role}.log");
            ensure!(started_at.elapsed() < START_TIMEOUT, "{role} does not get ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Starts Muster on a free port.
///
/// # Errors
/// If the server does not get ready.
pub fn start_muster(
    muster: &Path,
    work: &Path,
    name: &str,
    settings: &[(&str, &str)],
) -> anyhow::Result<Server> {
    start_command(process::command(muster), work, name, settings)
}

/// The same for a command that runs Muster with the arguments that are added here.
///
/// # Errors
/// If the server does not get ready.
pub fn start_command(
    mut command: Command,
    work: &Path,
    name: &str,
    settings: &[(&str, &str)],
) -> anyhow::Result<Server> {
    let port = free_port()?;
    command.arg("serve");
    set_environment(&mut command, work)
        .env("MUSTER__SERVER__BIND", format!("127.0.0.1:{port}"))
        .env("MUSTER__METRICS__BIND", "127.0.0.1:0")
        .envs(settings.iter().copied());
    let mut server = Server { running: Running::start(command, work, name)?, port };
    server.wait_until(|port| http::call(port, &http::get("/readyz")).is_ok(), name)?;
    Ok(server)
}

/// Sets the data directory, and a log level without a line for each request: the references write
/// no such lines, so their cost is not measured.
fn set_environment<'a>(command: &'a mut Command, work: &Path) -> &'a mut Command {
    command.env("MUSTER__DATA_DIR", work.join("data")).env("MUSTER__LOG__LEVEL", "warn")
}

/// Runs a command of Muster and returns its JSON.
///
/// # Errors
/// If the command fails.
pub fn run_command(muster: &Path, work: &Path, arguments: &[&str]) -> anyhow::Result<Value> {
    let mut command = process::command(muster);
    set_environment(&mut command, work).args(arguments).arg("--json");
    let output = command.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "muster {}: {stderr}", arguments.join(" "));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A port that was free a moment ago.
///
/// # Errors
/// If no port is free.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
