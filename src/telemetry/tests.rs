use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::LogFilter;

/// Collects the written bytes.
#[derive(Clone, Default)]
struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log(level: &str, format: LogFormat) -> LogConfig {
    LogConfig { level: LogFilter::parse(level).unwrap(), format }
}

/// The lines that `write` logs with the settings `log`.
fn written(log: &LogConfig, write: impl FnOnce()) -> String {
    let buffer = LogBuffer::default();
    let writer = buffer.clone();
    let lines = format_layer(log, false, move || writer.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), write);
    let bytes = buffer.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn pretty_is_one_line_without_colours() {
    let text = written(&log("info,muster::quiet=error", LogFormat::Pretty), || {
        tracing::info!(status = 200, "answered");
        tracing::debug!("not this");
        tracing::info!(target: "muster::quiet", "nor this");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("INFO") && text.contains("answered") && text.contains("status=200"));
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn json_is_one_flat_object_a_line() {
    let text = written(&log("info", LogFormat::Json), || {
        tracing::info!(status = 200, path = "/cgi/\n\"x\"", "answered");
        tracing::warn!("slow");
    });
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["status"], 200);
    assert_eq!(lines[0]["path"], "/cgi/\n\"x\"");
    assert_eq!(lines[0]["message"], "answered");
    assert_eq!(lines[0]["level"], "INFO");
    assert_eq!(lines[1]["message"], "slow");
}

/// Run by [`child`], because a process can set up logging only once.
#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn logging_is_set_up_once_in_a_process() {
    let format =
        if std::env::var_os("JSON").is_some() { LogFormat::Json } else { LogFormat::Pretty };
    let log = log(&std::env::var("LEVEL").unwrap(), format);
    init(&log).unwrap();
    assert!(matches!(init(&log), Err(Error::AlreadyInitialized(_))));
    let thread = std::thread::Builder::new().name("worker".to_owned());
    let panicking = thread.spawn(|| panic!("the sky {}", "falls")).unwrap();
    assert!(panicking.join().is_err());
}

fn child(level: &str, json: bool) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "telemetry::tests::logging_is_set_up_once_in_a_process", "--ignored"]);
    command.args(["--nocapture", "--quiet"]).env("LEVEL", level).env_remove("JSON");
    command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
    if json {
        command.env("JSON", "1");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_panic_is_logged_in_the_chosen_form() {
    let pretty = child("info", false);
    let line = pretty.lines().find(|line| line.contains("panicked: the sky falls")).unwrap();
    assert!(line.contains("ERROR") && line.contains("tests.rs:"), "{pretty}");

    let json = child("info", true);
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{json}");
    assert_eq!(lines[0]["message"], "panicked: the sky falls");
    assert_eq!(lines[0]["thread"], "worker");
    assert!(lines[0]["location"].as_str().unwrap().contains("tests.rs:"));
}

#[test]
fn panic_is_printed_with_logging_off() {
    let text = child("off", true);
    assert!(text.contains("panicked at") && text.contains("the sky falls"), "{text}");
}

#[test]
fn framework_errors_are_logged_only_if_named() {
    let write = || {
        tracing::error!(target: "actix_http::h1::dispatcher", "stream error");
        tracing::error!(target: "actix_server::accept", "too many open files");
    };
    for level in ["info", "trace", "info,sqlx=warn", "actix_server=error"] {
        let text = written(&log(level, LogFormat::Pretty), write);
        assert!(!text.contains("stream error") && text.contains("too many"), "{level}: {text}");
    }
    for level in [
        "actix_http=error",
        "off,actix_http=error",
        "actix_http::h1=trace",
        "[{a}]=trace,actix_http=warn",
    ] {
        let text = written(&log(level, LogFormat::Pretty), write);
        assert!(text.contains("stream error"), "{level}: {text}");
    }
}
