//! The real binary, on a temporary data directory.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use muster::clock::Clock;
use muster::wire::AesKey;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::receiver::Receiver;
use super::{TOKEN, subscriber};
use crate::harness::client::Client;
use crate::harness::process::WAIT_TIMEOUT;
use crate::harness::store::StoredApp;

/// A data directory. Dropping the value stops its PostgreSQL, even after a failed test.
pub struct Home {
    parent: TempDir,
    environment: Vec<(&'static str, String)>,
}

/// The output of a command that has ended.
pub struct CommandOutput {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl CommandOutput {
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

impl Home {
    /// A new data directory whose servers retry callbacks after a short time.
    pub fn new() -> Self {
        let environment = vec![
            ("MUSTER__SERVER__BIND", "127.0.0.1:0".to_owned()),
            ("MUSTER__METRICS__BIND", "127.0.0.1:0".to_owned()),
            ("MUSTER__SERVER__WORKERS", "2".to_owned()),
            ("MUSTER__DELIVERY__RETRY_SCHEDULE", "100ms,200ms".to_owned()),
            ("MUSTER__DELIVERY__CONNECT_TIMEOUT", "1s".to_owned()),
            ("MUSTER__DELIVERY__ATTEMPT_TIMEOUT", "1s".to_owned()),
        ];
        Self { parent: tempfile::tempdir().unwrap(), environment }
    }

    fn data_dir(&self) -> PathBuf {
        self.parent.path().join("data")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command
            .args(args)
            .env("MUSTER__DATA_DIR", self.data_dir())
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub async fn run(&self, args: &[&str]) -> CommandOutput {
        let output = self.command(args).stderr(Stdio::piped()).output().await.unwrap();
        CommandOutput {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts a server, and waits until it listens.
    pub async fn serve(&self) -> Server {
        let access_log = self.parent.path().join("log");
        let access_log =
            std::fs::OpenOptions::new().create(true).append(true).open(access_log).unwrap();
        let mut child = self.command(&["serve"]).stderr(access_log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("the server ended: {}", self.log()));
            if let Some((_, url)) = line.split_once("listens on ") {
                break url.to_owned();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Server { url, child }
    }

    /// The log of all servers.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.parent.path().join("log")).unwrap_or_default()
    }

    /// Creates an app whose callback URL is that of `receiver`.
    pub async fn subscribe(&self, receiver: &Receiver) -> StoredApp {
        let stored = subscriber(&receiver.url("/"));
        let output = self
            .run(&[
                "app",
                "create",
                "--buin",
                &stored.app.buin.to_string(),
                "--app-id",
                stored.app.app_id.as_str(),
                "--aes-key",
                &AesKey::to_base64(&stored.aes_key),
                "--permissions",
                "callbacks",
                "--callback-url",
                &receiver.url("/"),
                "--callback-token",
                TOKEN,
                "--json",
            ])
            .await;
        assert_eq!(output.json()["callbackUrl"], receiver.url("/"));
        receiver.add_app(Client::new(receiver.address, &stored, Clock::system()), TOKEN);
        stored
    }

    /// The API key of the first app.
    pub fn api_key(&self) -> String {
        let file = std::fs::read(self.data_dir().join("first-app.json")).unwrap();
        let file: Value = serde_json::from_slice(&file).unwrap();
        file["apiKey"].as_str().unwrap().to_owned()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let file = self.data_dir().join("postgres/postmaster.pid");
        let Ok(text) = std::fs::read_to_string(file) else { return };
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::QUIT);
        }
    }
}

/// A running server.
pub struct Server {
    pub url: String,
    child: Child,
}

impl Server {
    /// Kills the server without warning, like a power cut.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Stops the server with SIGTERM, and expects success.
    pub async fn stop(mut self) {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let ended = tokio::time::timeout(WAIT_TIMEOUT, self.child.wait()).await;
        assert!(ended.unwrap().unwrap().success());
    }
}

/// Waits until `condition` holds. Fails after `timeout`.
pub async fn wait_for(subject: &str, timeout: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let started_at = Instant::now();
    while !condition().await {
        assert!(started_at.elapsed() < timeout, "not within {timeout:?}: {subject}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
