//! Output that is closed or full: a command ends in order, a server runs on, and no secret is valid
//! before the operator has seen it.

use std::fs::{File, OpenOptions};
use std::io::pipe;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::process::{Home, Output, Running, http, wait_for};
use crate::harness::server::database;

/// A pipe whose reader has ended.
fn closed() -> Stdio {
    let (_, writer) = pipe().unwrap();
    writer.into()
}

/// A file on a full disk.
fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// Runs a command with this standard output.
#[track_caller]
fn run(home: &Home, arguments: &[&str], stdout: Stdio) -> Output {
    let output = home.command(arguments).stdout(stdout).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { status: output.status, stdout: String::new(), stderr: text(output.stderr) }
}

/// Runs a command in a shell that changes its standard output.
#[track_caller]
fn redirected(home: &Home, arguments: &[&str], redirection: &str) -> Output {
    let program = home.command(arguments);
    let mut command = Command::new("sh");
    command.args(["-c", &format!(r#"exec "$0" "$@" {redirection}"#)]);
    command.arg(program.get_program()).args(program.get_args()).current_dir(&home.parent);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

const WITHOUT_DATABASE: [&[&str]; 10] = [
    &["openapi"],
    &["config"],
    &["--help"],
    &["--version"],
    &["help", "app"],
    &["app", "create", "--help"],
    &["completions", "bash"],
    &["completions", "zsh"],
    &["secrets", "generate"],
    &["doctor", "--json"],
];

const WITH_DATABASE: [&[&str]; 10] = [
    &["app", "list"],
    &["app", "list", "--json"],
    &["app", "show", "--buin", "7", "--app-id", "mine"],
    &["key", "list"],
    &["delivery", "list"],
    &["audit", "list", "--json"],
    &["secrets", "status"],
    &["migrate", "status"],
    &["migrate"],
    &["doctor"],
];

#[test]
fn commands_without_a_database_end_in_order() {
    let home = Home::new();
    for command in WITHOUT_DATABASE {
        let output = run(&home, command, closed());
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), ""), "{command:?}");
        let parts = ["error: cannot write to standard output", "No space left on device"];
        if !command.contains(&"--help") && !["--version", "help"].contains(&command[0]) {
            run(&home, command, full()).fails(1, &parts);
        } else {
            run(&home, command, full()).fails(1, &parts[..1]);
        }
    }
    assert!(!home.data_dir.exists(), "these commands need no database");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_with_a_database_end_in_order() {
    let database = database().await;
    let home = Home::for_database(&database);
    home.json(&["app", "create", "--buin", "7", "--app-id", "mine"]);
    for command in WITH_DATABASE {
        let output = run(&home, command, closed());
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), ""), "{command:?}");
        let parts = ["error: cannot write to standard output", "No space left on device"];
        run(&home, command, full()).fails(1, &parts);
    }
    // The exit code of a failure stays.
    assert_eq!(run(&home, &["app", "list", "--bogus"], closed()).status.code(), Some(2));
    let unknown = ["app", "show", "--buin", "7", "--app-id", "nobody"];
    run(&home, &unknown, closed()).fails(1, &["there is no app nobody"]);
}

#[test]
fn closed_standard_error_changes_no_exit_code() {
    let home = Home::new();
    for (command, code) in [
        (&["app", "list"][..], 1),
        (&["app", "list", "--bogus"], 2),
        (&["serve", "--config", "/nowhere"], 2),
    ] {
        let status = home.command(command).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{command:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_that_was_not_shown_is_not_valid() {
    let database = database().await;
    let home = Home::for_database(&database);
    let mine = ["--buin", "7", "--app-id", "mine"];
    home.json(&[&["app", "create"][..], &mine].concat());
    let state = |home: &Home| {
        let app = home.json(&[&["app", "show", "--show-secrets"][..], &mine].concat());
        let (apps, keys) = (home.json(&["app", "list"]), home.json(&["key", "list"]));
        let audit = home.json(&["audit", "list"]);
        let changes = audit.as_array().unwrap().iter().map(|entry| entry["action"].clone());
        let changes: Vec<Value> = changes.filter(|action| action != "app.show_secrets").collect();
        json!([app, apps, keys, changes])
    };
    let before = state(&home);
    let other = ["--buin", "7", "--app-id", "other"];
    for json in [&[][..], &["--json"]] {
        for (command, outcome) in [
            ([&["app", "create"][..], &other, json].concat(), "the app was not created"),
            ([&["app", "rotate-key"][..], &mine, json].concat(), "the old key stays valid"),
            ([&["key", "create"][..], &mine, json].concat(), "the key was not created"),
        ] {
            let shown = ["error: the secret could not be shown, so ", outcome];
            for stdout in [closed(), full()] {
                run(&home, &command, stdout).fails(1, &shown);
                assert_eq!(state(&home), before, "{command:?}");
            }
            redirected(&home, &command, ">&-").fails(1, &shown);
            assert_eq!(state(&home), before, "{command:?}");
        }
    }
    // Other results are not needed, and a redirection to nothing is a wish.
    for redirection in [">&-", ">/dev/null"] {
        redirected(&home, &["app", "list"], redirection).ok();
    }
    redirected(&home, &[&["key", "create"][..], &mine].concat(), ">/dev/null").ok();
    assert_ne!(state(&home)[2], before[2], "there is a new key");
}

#[test]
fn credentials_file_keeps_the_key_that_was_not_replaced() {
    let home = Home::with_database();
    let before = home.credentials();
    let buin = before["buin"].to_string();
    let which = ["--buin", &buin, "--app-id", before["appId"].as_str().unwrap()];
    let rotate = [&["app", "rotate-key"][..], &which].concat();
    run(&home, &rotate, full()).fails(1, &["the old key stays valid"]);
    assert_eq!(home.credentials(), before);
    let shown = home.json(&[&["app", "show", "--show-secrets"][..], &which].concat());
    assert_eq!(shown["aesKey"], before["aesKey"]);
    assert!(home.postmaster().is_none(), "a command leaves nothing running");
}

/// The value of a metric without labels.
async fn metric(url: &str, name: &str) -> f64 {
    let page = http().get(url).send().await.unwrap().text().await.unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

/// The addresses of the only server of a home, in the record for `muster doctor`.
fn addresses(home: &Home) -> Vec<String> {
    wait_for("the record of the server", || {
        let files = std::fs::read_dir(&home.data_dir).ok()?.flatten();
        let record = files
            .map(|file| file.path())
            .find(|path| path.extension().is_some_and(|end| end == "addresses"))?;
        let lines: Vec<_> =
            std::fs::read_to_string(record).ok()?.lines().map(str::to_owned).collect();
        (lines.len() == 2).then_some(lines)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn server_runs_on_without_its_output() {
    for stdio in [closed, full] {
        let home = Home::with_database();
        let mut command = home.command(&["serve"]);
        let running = Running::spawn(&home, command.stdout(stdio()).stderr(stdio()));
        let found = addresses(&home);
        let (api, metrics) =
            (format!("http://{}/readyz", found[0]), format!("http://{}/metrics", found[1]));
        let ready = async || http().get(&api).send().await.is_ok_and(|it| it.status() == 200);
        while !ready().await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let lost = metric(&metrics, "muster_log_lines_dropped_total").await;
        assert!(lost > 0.0, "{lost}");
        // Each request has a line in the log.
        let path = format!("http://{}/v1/sessions", found[0]);
        assert_eq!(http().get(&path).send().await.unwrap().status(), 401);
        assert!(metric(&metrics, "muster_log_lines_dropped_total").await > lost);
        running.signal(rustix::process::Signal::TERM);
        let output = running.output();
        assert_eq!(output.status.code(), Some(0), "{output:#?}");
        assert!(home.postmaster().is_none(), "PostgreSQL is not left alone");
    }
}

/// The reader of the output ends after one line, as `head -1` does.
#[tokio::test(flavor = "multi_thread")]
async fn server_outlives_the_reader_of_its_output() {
    use std::io::{BufRead as _, BufReader};
    let home = Home::with_database();
    let (reader, writer) = pipe().unwrap();
    let other: Stdio = writer.try_clone().unwrap().into();
    let mut command = home.command(&["serve"]);
    let running = Running::spawn(&home, command.stdout(Stdio::from(writer)).stderr(other));
    drop(command);
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    let found = addresses(&home);
    let path = format!("http://{}/v1/sessions", found[0]);
    wait_for("an answer", || std::net::TcpStream::connect(&found[0]).ok());
    assert_eq!(http().get(&path).send().await.unwrap().status(), 401);
    running.signal(rustix::process::Signal::TERM);
    let output = running.output();
    assert_eq!(output.status.code(), Some(0), "{output:#?}");
    assert!(home.postmaster().is_none(), "PostgreSQL is not left alone");
}

/// The harness itself must not keep a reader of the pipe open.
#[test]
fn pipe_of_these_tests_is_closed() {
    use std::io::Write as _;
    let (_, mut writer) = pipe().unwrap();
    assert_eq!(writer.write(b"a").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    assert!(File::open("/dev/full").is_ok());
}
