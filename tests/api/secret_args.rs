//! Secrets of commands that do not stand in the list of processes: by file and standard input.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::harness::process::{Home, Output};
use crate::harness::server::database;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const APP: [&str; 4] = ["--buin", "7", "--app-id", "mine"];
const HOOK: [&str; 2] = ["--callback-url", "http://127.0.0.1:1/"];

/// Runs a command with this standard input.
fn run_with(home: &Home, arguments: &[&str], input: &str) -> Output {
    let mut child = home.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn secrets(home: &Home) -> (String, Value) {
    let shown = home.json(&[&["app", "show", "--show-secrets"][..], &APP].concat());
    (shown["aesKey"].as_str().unwrap().to_owned(), shown["callbackToken"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_read_from_files_and_standard_input() {
    let database = database().await;
    let home = Home::for_database(&database);
    let (key, token) = (home.parent.join("key"), home.parent.join("token"));
    fs::write(&key, format!("{KEY}\n")).unwrap();
    fs::write(&token, " to ken \r\n").unwrap();
    let (key, token) = (key.to_str().unwrap(), token.to_str().unwrap());
    let files = ["--aes-key-file", key, "--callback-token-file", token];
    home.json(&[&["app", "create"][..], &APP, &HOOK, &files].concat());
    assert_eq!(secrets(&home), (KEY.to_owned(), " to ken ".into()), "only the line end is removed");

    for flag in ["--aes-key", "--aes-key-file"] {
        let other = STANDARD.encode([flag.len() as u8; 32]);
        let rotate = [&["app", "rotate-key", "--json"][..], &APP, &[flag, "-"]].concat();
        let rotated = run_with(&home, &rotate, &format!("{other}\n")).ok().json();
        assert_eq!(rotated["aesKey"], other.as_str(), "{flag}");
        assert_eq!(secrets(&home).0, other);
    }
    for flag in ["--callback-token", "--callback-token-file"] {
        let update = [&["app", "update"][..], &APP, &[flag, "-"]].concat();
        run_with(&home, &update, &format!("by {flag}")).ok();
        assert_eq!(secrets(&home).1, format!("by {flag}"));
    }
    // One from a file and one from standard input.
    home.run(&["app", "disable", "--buin", "7", "--app-id", "mine"]).ok();
    let other = ["app", "create", "--buin", "8", "--aes-key-file", key, "--callback-token", "-"];
    let created =
        run_with(&home, &[&other[..], &HOOK, &["--json"]].concat(), "piped\n").ok().json();
    assert_eq!((&created["aesKey"], &created["callbackToken"]), (&KEY.into(), &"piped".into()));

    let api_key = home.json(&[&["key", "create"][..], &APP].concat());
    let api_key = api_key["key"].as_str().unwrap();
    let revoked = run_with(&home, &["key", "revoke", "-", "--json"], &format!("{api_key}\n"));
    assert_eq!(revoked.ok().json()["wasValid"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_secrets_change_nothing() {
    let database = database().await;
    let home = Home::for_database(&database);
    home.json(&[&["app", "create"][..], &APP, &HOOK, &["--callback-token", "t"]].concat());
    let before = secrets(&home);
    let empty = home.parent.join("empty");
    fs::write(&empty, "\n").unwrap();
    let empty = empty.to_str().unwrap();
    let short = home.parent.join("short");
    fs::write(&short, "c2hvcnQ=").unwrap();
    let short = short.to_str().unwrap();
    let create = &["app", "create", "--buin", "9"][..];
    let rotate = &["app", "rotate-key", "--buin", "7", "--app-id", "mine"][..];
    let update = &["app", "update", "--buin", "7", "--app-id", "mine"][..];
    for (command, options, parts) in [
        (create, &["--aes-key-file", "/nowhere/key"][..], &["--aes-key-file /nowhere/key"][..]),
        (create, &["--aes-key-file", short], &["--aes-key-file", "short", "32 bytes in base64"]),
        (rotate, &["--aes-key-file", empty], &["32 bytes in base64"]),
        (rotate, &["--aes-key-file", "-"], &["--aes-key from standard input", "32 bytes"]),
        // It never ends.
        (rotate, &["--aes-key-file", "/dev/zero"], &["32 bytes in base64"]),
        (update, &["--callback-token-file", empty], &["must not be empty"]),
        (update, &["--callback-token", ""], &["--callback-token", "must not be empty"]),
        (update, &["--callback-token-file", "/proc/self/maps"], &["must be one line"]),
        (create, &["--aes-key", KEY, "--aes-key-file", short], &["--aes-key", "cannot be used"]),
        (create, &["--callback-token-file", short], &["need --callback-url"]),
        (update, &["--no-callback", "--callback-token-file", short], &["cannot be used"]),
        (
            create,
            &["--callback-url", "http://a", "--callback-token", "-", "--aes-key", "-"],
            &["only one secret can be read from standard input"],
        ),
    ] {
        let command = [command, options].concat();
        run_with(&home, &command, "").fails(2, parts);
    }
    assert_eq!(secrets(&home), before);
    assert_eq!(home.json(&["app", "list"]).as_array().unwrap().len(), 1);
}
