//! The value of one key: valid forms, refusals and their texts.

use super::*;

#[test]
fn every_refusal_names_key_value_origin_and_expectation() {
    let duration = "in seconds or as text such as \"90s\"";
    let address = "expected HOST:PORT, such as \"127.0.0.1:7080\", \"[::1]:7080\" or \
                   \"localhost:7080\"";
    for (line, reason) in [
        ("data_dir = \"\"", "expected a path"),
        ("server.bind = \"7080\"", address),
        ("server.bind = 7080", address),
        ("server.workers = 1025", "expected a whole number from 0 to 1024"),
        ("server.workers = -1", "expected a whole number from 0 to 1024"),
        ("server.workers = \"4\"", "expected a whole number from 0 to 1024"),
        ("server.workers = 1.5", "expected a whole number from 0 to 1024"),
        (
            "server.drain_timeout = \"61m\"",
            &format!("expected a duration of at most 1h, {duration}"),
        ),
        (
            "server.shutdown_timeout = \"2h\"",
            &format!("expected a duration of at most 1h, {duration}"),
        ),
        ("server.body_timeout = 0", &format!("expected a duration from 100ms to 10m, {duration}")),
        ("database.max_connections = 0", "expected a whole number from 1 to 10000"),
        (
            "database.acquire_timeout = \"x\"",
            &format!("expected a duration from 100ms to 10m, {duration}"),
        ),
        (
            "database.statement_timeout = true",
            &format!("expected a duration from 100ms to 1h, {duration}"),
        ),
        ("database.migrate = \"yes\"", "expected true or false"),
        ("database.download = 1", "expected true or false"),
        ("database.postgres_dir = a list", "expected a path, or nothing"),
        ("limits.max_body_bytes = 1023", "expected a whole number from 1024 to 1073741824"),
        ("limits.max_header_bytes = 131073", "expected a whole number from 1024 to 131072"),
        ("limits.max_headers = 97", "expected a whole number from 8 to 96"),
        ("limits.min_members = 0", "expected a whole number from 1 to 100000"),
        ("limits.max_members = 100001", "expected a whole number from 1 to 100000"),
        ("policy.remove_members = \"Owner\"", "expected \"owner\" or \"member\""),
        ("policy.remaining_members = \"one\"", "expected \"keep_minimum\" or \"down_to_one\""),
        ("log.format = \"xml\"", "expected \"pretty\" or \"json\""),
    ] {
        let message = problem(&line.replace("a list", "[1]"), &[]);
        let (left, right) = line.split_once(" = ").unwrap();
        assert_eq!(message, format!("{left} = {right} (muster.toml, line 1): {reason}"));
    }
}

#[test]
fn valid_and_invalid_addresses() {
    for good in ["0.0.0.0:0", "[::]:65535", "localhost:80", "a-b.example.:1", "x_1:7080"] {
        assert!(load(None, &[("MUSTER__SERVER__BIND", good)]).is_ok(), "{good}");
    }
    for bad in
        ["", ":1", "*:1", "::1:80x", "[::1]", "h:65536", "h:+1", "h:", "256.0.0.1:1", "a b:1"]
    {
        assert!(load(None, &[("MUSTER__SERVER__BIND", bad)]).is_err(), "{bad}");
    }
}

#[test]
fn misspelled_log_levels_are_refused() {
    for level in ["", "inof", "info,,", "info,sqlx", "sqlx=loud", "[", "info;debug"] {
        assert_eq!(
            problem("", &[("MUSTER__LOG__LEVEL", level)]),
            format!(
                "log.level = {level:?} (environment variable MUSTER__LOG__LEVEL): expected a level \
                 (off, error, warn, info, debug, trace) or directives such as \"info,sqlx=warn\""
            )
        );
    }
    for level in ["off", "INFO", "info, sqlx=warn", "muster::http", "warn,[request{id=7}]=trace"] {
        assert!(load(None, &[("MUSTER__LOG__LEVEL", level)]).is_ok(), "{level}");
    }
}

#[test]
fn numbers_of_any_size_and_notation_are_read() {
    let file = "limits.max_body_bytes = 0x1_000\nlimits.max_members = 5_000";
    let limits = load(Some(file), &[]).unwrap().limits;
    assert_eq!((limits.max_body_bytes, limits.max_members), (4_096, 5_000));
    let message = problem("limits.max_body_bytes = 99999999999999999999999", &[]);
    assert!(
        message.starts_with("limits.max_body_bytes = \"99999999999999999999999\" ("),
        "{message}"
    );
    assert!(!problem("limits.max_body_bytes = nan", &[]).is_empty());
    assert!(!problem("limits.max_body_bytes = 1e400", &[]).is_empty());
    assert!(!problem("data_dir = 'x'\nlog.level = 2026-01-01", &[]).is_empty());
}

#[test]
fn numeric_text_stays_text() {
    let env = &[("MUSTER__DATA_DIR", "007"), ("MUSTER__DATABASE__POSTGRES_DIR", "true")];
    let settings = load(None, env).unwrap();
    assert_eq!(settings.data_dir, PathBuf::from("007"));
    assert_eq!(settings.database.postgres_dir, Some("true".into()));
}

#[test]
fn long_values_are_shortened() {
    let message = problem("", &[("MUSTER__LOG__FORMAT", &"é".repeat(1_000))]);
    assert!(message.contains("é\"… (") && message.len() < 400, "{message}");
}
