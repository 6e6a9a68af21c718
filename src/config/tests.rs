use std::collections::BTreeSet;
use std::path::PathBuf;

use super::duration::HOUR;
use super::*;

type Env<'a> = &'a [(&'a str, &'a str)];

fn load(file: Option<&str>, env: Env<'_>) -> Result<Settings, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("muster.toml");
    if let Some(text) = file {
        std::fs::write(&path, text).unwrap();
    }
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load(file.map(|_| path.as_path()), env)
}

/// The problems as messages, without the directory of the file.
fn problems(file: &str, env: Env<'_>) -> Vec<String> {
    let Err(ConfigError::Invalid(problems)) = load(Some(file), env) else {
        panic!("this should be refused: {file} {env:?}")
    };
    let shorten = |mut problem: ConfigProblem| {
        for text in [&mut problem.origin, &mut problem.reason] {
            if let (Some(from), Some(to)) = (text.find('/'), text.find("muster.toml")) {
                text.replace_range(from..to, "");
            }
        }
        problem.to_string()
    };
    problems.into_iter().map(shorten).collect()
}

fn problem(file: &str, env: Env<'_>) -> String {
    let mut problems = problems(file, env);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.remove(0)
}

/// For every key a valid value that is not the default, as text.
const OTHERS: Env<'_> = &[
    ("data_dir", "/var/lib/muster"),
    ("server.bind", "[::]:0"),
    ("server.workers", "3"),
    ("server.drain_timeout", "3s"),
    ("server.shutdown_timeout", "1m"),
    ("server.header_timeout", "1"),
    ("server.body_timeout", "500ms"),
    ("server.write_timeout", "1m"),
    ("server.keep_alive_timeout", "1h"),
    ("server.max_connections", "100"),
    ("server.max_connections_per_address", "20"),
    ("server.tls_cert", "/etc/muster/cert.pem"),
    ("server.tls_key", "/etc/muster/key.pem"),
    ("server.hsts_max_age", "1day"),
    ("server.tls_reload_interval", "1m"),
    ("server.require_tls", "true"),
    ("server.request_timeout", "1m"),
    ("server.trusted_proxies", "10.2.0.0/16"),
    ("database.url", "postgres://u:12345@db/muster"),
    ("database.pooler", "transaction"),
    ("database.direct_url", "postgres://u:67890@db2/muster"),
    ("database.embedded", "false"),
    ("database.max_connections", "40"),
    ("database.max_batch", "1"),
    ("database.acquire_timeout", "2"),
    ("database.statement_timeout", "1h"),
    ("database.migrate", "false"),
    ("database.postgres_dir", "/opt/pg/bin"),
    ("database.download", "false"),
    ("secrets.master_key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
    (
        "secrets.previous_master_key",
        "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    ),
    ("secrets.master_key_file", "/run/secrets/muster"),
    ("audit.retention", "30days"),
    ("token.expire_in", "601"),
    ("token.max_clock_skew", "2m"),
    ("limits.max_body_bytes", "2048"),
    ("limits.max_body_bytes_in_flight", "33554432"),
    ("limits.max_uri_bytes", "2048"),
    ("limits.max_header_bytes", "16384"),
    ("limits.max_headers", "64"),
    ("limits.min_members", "1"),
    ("limits.max_members", "100000"),
    ("limits.max_queued", "5"),
    ("limits.max_response_bytes_in_flight", "1048576"),
    ("limits.requests_per_second", "6"),
    ("limits.max_burst", "7"),
    ("limits.max_streams_per_app", "9"),
    ("limits.max_streams_per_enterprise", "6000"),
    ("limits.max_failed_attempts", "8"),
    ("policy.remove_members", "member"),
    ("policy.remaining_members", "down_to_one"),
    ("policy.refuse_replayed_writes", "true"),
    ("cache.enabled", "false"),
    ("cache.max_bytes", "1048576"),
    ("cache.follow_interval", "1s"),
    ("delivery.enabled", "false"),
    ("delivery.max_concurrency", "7"),
    ("delivery.max_concurrency_per_app", "6"),
    ("delivery.connect_timeout", "1"),
    ("delivery.attempt_timeout", "20s"),
    ("delivery.poll_interval", "1s"),
    ("delivery.retry_schedule", "1s, 2s,3m"),
    ("delivery.give_up_after", "1h"),
    ("delivery.allow_networks", "10.0.0.0/8,fd00::/8"),
    ("delivery.deny_networks", "10.1.0.0/16"),
    ("delivery.delivered_retention", "1m"),
    ("delivery.failed_retention", "86400"),
    ("metrics.bind", "[::1]:0"),
    ("tracing.otlp_endpoint", "http://collector:4318"),
    ("tracing.sample_one_in", "10"),
    ("log.level", "warn,muster::http=debug"),
    ("log.format", "json"),
];

fn others() -> Settings {
    Settings {
        data_dir: "/var/lib/muster".into(),
        server: ServerConfig {
            bind: "[::]:0".to_owned(),
            workers: 3,
            drain_timeout: 3 * SECOND,
            shutdown_timeout: MINUTE,
            header_timeout: SECOND,
            body_timeout: Duration::from_millis(500),
            write_timeout: MINUTE,
            keep_alive_timeout: HOUR,
            max_connections: 100,
            max_connections_per_address: 20,
            tls: Some(TlsFiles {
                cert: "/etc/muster/cert.pem".into(),
                key: "/etc/muster/key.pem".into(),
            }),
            hsts_max_age: Some(DAY),
            tls_reload_interval: MINUTE,
            require_tls: true,
            request_timeout: MINUTE,
            trusted_proxies: vec!["10.2.0.0/16".parse().unwrap()],
        },
        database: DatabaseConfig {
            url: DatabaseUrl::parse("postgres://u:12345@db/muster").ok(),
            pooler: PoolerMode::Transaction,
            direct_url: DatabaseUrl::parse("postgres://u:67890@db2/muster").ok(),
            embedded: false,
            max_connections: 40,
            max_batch: 1,
            acquire_timeout: 2 * SECOND,
            statement_timeout: HOUR,
            migrate: false,
            postgres_dir: Some("/opt/pg/bin".into()),
            download: false,
        },
        secrets: SecretsConfig {
            master_key: KeyText::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
            previous_master_key: KeyText::parse(
                "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            ),
            master_key_file: Some("/run/secrets/muster".into()),
        },
        audit: AuditConfig { retention: 30 * DAY },
        token: TokenConfig { expire_in: 601 * SECOND, max_clock_skew: 2 * MINUTE },
        limits: LimitsConfig {
            max_body_bytes: 2_048,
            max_body_bytes_in_flight: 33_554_432,
            max_uri_bytes: 2_048,
            max_header_bytes: 16_384,
            max_headers: 64,
            min_members: 1,
            max_members: 100_000,
            max_queued: 5,
            max_response_bytes_in_flight: 1_048_576,
            requests_per_second: 6,
            max_burst: 7,
            max_streams_per_app: 9,
            max_streams_per_enterprise: 6_000,
            max_failed_attempts: 8,
        },
        policy: PolicyConfig {
            remove_members: RemoveMembers::Member,
            remaining_members: RemovalLimit::DownToOne,
            refuse_replayed_writes: true,
        },
        cache: CacheConfig { enabled: false, max_bytes: 1_048_576, follow_interval: SECOND },
        delivery: DeliveryConfig {
            enabled: false,
            max_concurrency: 7,
            max_concurrency_per_app: 6,
            connect_timeout: SECOND,
            attempt_timeout: 20 * SECOND,
            poll_interval: SECOND,
            retry_schedule: vec![SECOND, 2 * SECOND, 3 * MINUTE],
            give_up_after: HOUR,
            allow_networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            deny_networks: vec!["10.1.0.0/16".parse().unwrap()],
            delivered_retention: MINUTE,
            failed_retention: DAY,
        },
        metrics: MetricsConfig { bind: Some("[::1]:0".to_owned()) },
        tracing: TracingConfig {
            otlp_endpoint: OtlpEndpoint::parse("http://collector:4318"),
            sample_one_in: 10,
        },
        log: LogConfig {
            level: LogFilter::parse("warn,muster::http=debug").unwrap(),
            format: LogFormat::Json,
        },
    }
}

#[test]
fn the_slowest_request_is_cut_off_within_ten_seconds() {
    let ServerConfig { header_timeout, body_timeout, .. } = load(None, &[]).unwrap().server;
    // Because of TLS, the first header section may take half a second more. After a refused body
    // the connection stays open for up to a second.
    let slowest = header_timeout + body_timeout + 3 * SECOND / 2;
    assert!(slowest < 10 * SECOND, "{slowest:?}");
}

fn variable(key: &str) -> String {
    format!("MUSTER__{}", key.to_uppercase().replace('.', "__"))
}

#[test]
fn the_defaults_are_valid_and_have_the_documented_values() {
    let settings = load(None, &[]).unwrap();
    assert_eq!(
        settings,
        Settings {
            data_dir: "data".into(),
            server: ServerConfig {
                bind: "127.0.0.1:7080".to_owned(),
                workers: 0,
                drain_timeout: Duration::ZERO,
                shutdown_timeout: 10 * SECOND,
                header_timeout: 4 * SECOND,
                body_timeout: 4 * SECOND,
                write_timeout: 30 * SECOND,
                keep_alive_timeout: 75 * SECOND,
                max_connections: 25_000,
                max_connections_per_address: 0,
                tls: None,
                hsts_max_age: None,
                tls_reload_interval: 10 * SECOND,
                require_tls: false,
                request_timeout: 10 * SECOND,
                trusted_proxies: Vec::new(),
            },
            database: DatabaseConfig {
                url: None,
                pooler: PoolerMode::None,
                direct_url: None,
                embedded: true,
                max_connections: 10,
                max_batch: 64,
                acquire_timeout: 5 * SECOND,
                statement_timeout: 10 * SECOND,
                migrate: true,
                postgres_dir: None,
                download: true,
            },
            secrets: SecretsConfig {
                master_key: None,
                previous_master_key: None,
                master_key_file: None
            },
            audit: AuditConfig { retention: 365 * DAY },
            token: TokenConfig { expire_in: 7_200 * SECOND, max_clock_skew: 300 * SECOND },
            limits: LimitsConfig {
                max_body_bytes: 1_048_576,
                max_body_bytes_in_flight: 67_108_864,
                max_uri_bytes: 8_192,
                max_header_bytes: 32_768,
                max_headers: 96,
                min_members: 3,
                max_members: 2_000,
                max_queued: 4_096,
                max_response_bytes_in_flight: 268_435_456,
                requests_per_second: 0,
                max_burst: 0,
                max_streams_per_app: 2_000,
                max_streams_per_enterprise: 5_000,
                max_failed_attempts: 10,
            },
            policy: PolicyConfig {
                remove_members: RemoveMembers::Owner,
                remaining_members: RemovalLimit::KeepMinimum,
                refuse_replayed_writes: false,
            },
            cache: CacheConfig {
                enabled: true,
                max_bytes: 268_435_456,
                follow_interval: Duration::from_millis(100),
            },
            delivery: DeliveryConfig {
                enabled: true,
                max_concurrency: 64,
                max_concurrency_per_app: 16,
                connect_timeout: 5 * SECOND,
                attempt_timeout: 15 * SECOND,
                poll_interval: 2 * MIN_TIMEOUT,
                retry_schedule: [5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400]
                    .map(Duration::from_secs)
                    .to_vec(),
                give_up_after: DAY,
                allow_networks: Vec::new(),
                deny_networks: Vec::new(),
                delivered_retention: 7 * DAY,
                failed_retention: 30 * DAY,
            },
            metrics: MetricsConfig { bind: Some("127.0.0.1:17080".to_owned()) },
            tracing: TracingConfig { otlp_endpoint: None, sample_one_in: 1 },
            log: LogConfig { level: LogFilter::default(), format: LogFormat::Pretty },
        }
    );
}

#[test]
fn every_key_in_the_manual_is_explained() {
    let lines: Vec<_> = DEFAULTS.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(number > 0 && lines[number - 1].starts_with("# "), "{line} has no comment");
        }
    }
}

#[test]
fn the_manual_and_the_settings_have_the_same_keys() {
    let defaults = layer::defaults().unwrap();
    let documented: BTreeSet<_> = defaults.keys().collect();
    let tested: BTreeSet<_> = OTHERS.iter().map(|(key, _)| *key).collect();
    assert_eq!(documented, tested);

    // Without any layer, each key that is read makes a problem.
    let mut problems = Vec::new();
    Settings::read(&mut Reader::new(&::config::Value::default(), &mut problems));
    let read: BTreeSet<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(documented, read);
}

#[test]
fn the_environment_sets_every_key() {
    let all: Vec<_> = OTHERS.iter().map(|(key, value)| (variable(key), *value)).collect();
    let env: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(load(None, &env).unwrap(), others());

    let defaults = load(None, &[]).unwrap();
    // Values that are valid only in pairs.
    let of = |names: [&str; 2]| -> Vec<_> {
        let is_named = |setting: &&(&str, &str)| names.iter().any(|name| setting.0.ends_with(name));
        env.iter().filter(is_named).copied().collect()
    };
    let pairs =
        [of(["TLS_CERT", "TLS_KEY"]), of(["__URL", "__EMBEDDED"]), of(["__URL", "__POOLER"])];
    let singly = env
        .iter()
        .filter(|setting| !pairs.concat().contains(setting) || setting.0.ends_with("__URL"));
    for settings in singly.map(std::slice::from_ref).chain(pairs.iter().map(Vec::as_slice)) {
        assert_ne!(load(None, settings).unwrap(), defaults, "{settings:?} changes nothing");
    }
}

#[test]
fn file_sets_every_key_and_environment_overrides_it() {
    let file: String = OTHERS
        .iter()
        .map(|(key, value)| match value.parse::<i64>() {
            Ok(number) => format!("{key} = {number}\n"),
            Err(_) if value.parse::<bool>().is_ok() => format!("{key} = {value}\n"),
            Err(_) if ["networks", "proxies", "schedule"].iter().any(|end| key.ends_with(end)) => {
                let items: Vec<_> = value.split(',').map(str::trim).collect();
                format!("{key} = {items:?}\n")
            }
            Err(_) => format!("{key} = {value:?}\n"),
        })
        .collect();
    assert_eq!(load(Some(&file), &[]).unwrap(), others());

    let settings = load(Some(&file), &[("MUSTER__SERVER__WORKERS", "9")]).unwrap();
    assert_eq!(settings.server.workers, 9);
    assert_eq!(settings.server.bind, "[::]:0");
}

#[test]
fn an_empty_file_and_empty_sections_change_nothing() {
    assert_eq!(load(Some(""), &[]).unwrap(), load(Some("[server]\n[log]\n"), &[]).unwrap());
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    for (file, message) in [
        ("dta_dir = 'x'", "dta_dir (muster.toml, line 1): no such key; did you mean `data_dir`?"),
        (
            "\n[server]\nbinds = 'x'",
            "server.binds (muster.toml, line 3): no such key; did you mean `server.bind`?",
        ),
        (
            "[sever]\nbind = 'x'",
            "sever.bind (muster.toml, line 2): no such key; did you mean `server.bind`?",
        ),
        (
            "server.acquire_timeout = 1",
            "server.acquire_timeout (muster.toml, line 1): no such key; did you mean \
             `database.acquire_timeout`?",
        ),
        (
            "[cluster.shards]\ncolour = 'blue'",
            "cluster.shards.colour (muster.toml, line 2): no such key; `muster config` lists all there are",
        ),
        (
            "'server.bind' = 'x'",
            "\"server.bind\" (muster.toml, line 1): no such key; did you mean `server.bind`?",
        ),
        (
            "[nothing]",
            "nothing (muster.toml, line 1): no such key; `muster config` lists all there are",
        ),
        (
            "limits.max_body = 1",
            "limits.max_body (muster.toml, line 1): no such key; did you mean `limits.max_body_bytes`?",
        ),
        (
            "limits.failed_attempts = 1",
            "limits.failed_attempts (muster.toml, line 1): no such key; did you mean \
             `limits.max_failed_attempts`?",
        ),
        (
            "delivery.concurrency = 1",
            "delivery.concurrency (muster.toml, line 1): no such key; did you mean \
             `delivery.max_concurrency`?",
        ),
        ("server = 3", "server (muster.toml, line 1): this is a section, not a key"),
        ("[[log]]\nlevel='x'", "log (muster.toml, line 1): this is a section, not a key"),
    ] {
        assert_eq!(problem(file, &[]), message);
    }
    for (name, message) in [
        (
            "MUSTER__SERVER__BINDS",
            "MUSTER__SERVER__BINDS (environment variable): no such key; did you mean \
             `MUSTER__SERVER__BIND`?",
        ),
        (
            "muster__server__bind",
            "muster__server__bind (environment variable): no such key; did you mean \
             `MUSTER__SERVER__BIND`?",
        ),
        (
            "MUSTER_DATABASE_URL",
            "MUSTER_DATABASE_URL (environment variable): no such key; did you mean \
             `MUSTER__DATABASE__URL`?",
        ),
        (
            "MUSTER__DATA__DIR",
            "MUSTER__DATA__DIR (environment variable): no such key; did you mean \
             `MUSTER__DATA_DIR`?",
        ),
        (
            "MUSTER__",
            "MUSTER__ (environment variable): no such key; `muster config` lists all there are",
        ),
        (
            "MUSTER__LIMITS__MAX_BODY",
            "MUSTER__LIMITS__MAX_BODY (environment variable): no such key; did you mean \
             `MUSTER__LIMITS__MAX_BODY_BYTES`?",
        ),
        ("MUSTER__LOG", "MUSTER__LOG (environment variable): this is a section, not a key"),
    ] {
        assert_eq!(problem("", &[(name, "postgres://u:secret@db")]), message);
    }
}

#[test]
fn variables_of_other_programs_are_ignored() {
    let env = &[("MUSTER_CONFIG", "x"), ("MUSTER_PORT_7080_TCP", "x"), ("PATH", "x"), ("ÄÖÜ", "x")];
    assert!(load(None, env).is_ok());
}

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
fn a_token_outlives_the_clients_cache() {
    for value in ["600", "0", "\"10m\"", "\"600500ms\"", "\"601500ms\"", "\"31days\"", "2592001"] {
        let message = problem(&format!("token.expire_in = {value}"), &[]);
        assert_eq!(
            message,
            format!(
                "token.expire_in = {value} (muster.toml, line 1): expected a duration of more than \
                 600s (clients use a token until up to 10 minutes before its expiry) and at most \
                 30days, in whole seconds or as text such as \"90s\""
            )
        );
    }
    for value in ["601", "2592000", "\"30days\"", "\"10m 1s\""] {
        assert!(load(Some(&format!("token.expire_in = {value}")), &[]).is_ok(), "{value}");
    }
    let message = problem("token.max_clock_skew = 0", &[]);
    assert!(message.contains("expected a duration from 1s to 1day, in whole seconds"), "{message}");
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
fn metrics_address_follows_the_api_address() {
    for (bind, expected) in [
        ("127.0.0.1:7080", "127.0.0.1:17080"),
        ("127.0.0.1:7081", "127.0.0.1:17081"),
        ("127.0.0.2:7080", "127.0.0.2:17080"),
        ("[::1]:7080", "[::1]:17080"),
        ("0.0.0.0:9000", "127.0.0.1:19000"),
        ("[::]:9000", "127.0.0.1:19000"),
        ("10.0.0.7:9000", "127.0.0.1:19000"),
        ("127.0.0.1:55535", "127.0.0.1:65535"),
        ("127.0.0.1:55536", "127.0.0.1:45536"),
        ("[::1]:65535", "[::1]:55535"),
        ("localhost:1", "127.0.0.1:10001"),
        ("localhost:0", "127.0.0.1:0"),
    ] {
        let settings = load(Some(&format!("server.bind = \"{bind}\"")), &[]).unwrap();
        assert_eq!(settings.metrics.bind.as_deref(), Some(expected), "{bind}");
    }
    let set = "server.bind = \"127.0.0.1:9000\"\nmetrics.bind = \"127.0.0.1:7081\"";
    assert_eq!(load(Some(set), &[]).unwrap().metrics.bind.as_deref(), Some("127.0.0.1:7081"));
}

#[test]
fn servers_on_neighboring_ports_do_not_meet() {
    let addresses = |port: u16| {
        let bind = format!("server.bind = \"127.0.0.1:{port}\"");
        let settings = load(Some(&bind), &[]).unwrap();
        [settings.server.bind, settings.metrics.bind.unwrap()]
    };
    for first in [1, 1024, 7080, 17_080, 45_530, 55_530, 65_500] {
        let all: Vec<String> = (first..first + 30).flat_map(addresses).collect();
        let different: BTreeSet<&String> = all.iter().collect();
        assert_eq!(different.len(), all.len(), "{first}");
    }
}

#[test]
fn metrics_address_differs_from_the_api_address() {
    assert_eq!(load(Some("metrics.bind = \"\""), &[]).unwrap().metrics.bind, None);
    let free = "server.bind = \"[::1]:0\"\nmetrics.bind = \"[::1]:0\"";
    assert_eq!(load(Some(free), &[]).unwrap().metrics.bind.as_deref(), Some("[::1]:0"));
    assert_eq!(
        problem("metrics.bind = \"127.0.0.1:7080\"", &[]),
        "metrics.bind = \"127.0.0.1:7080\" (muster.toml, line 1): expected another address than \
         server.bind, which is \"127.0.0.1:7080\" (the default)"
    );
    let bad = problem("metrics.bind = \"7081\"", &[]);
    let expected = "expected \"auto\", or HOST:PORT, such as \"127.0.0.1:17080\", or nothing";
    assert!(bad.ends_with(expected), "{bad}");
}

#[test]
fn contradicting_values_are_reported_together() {
    assert_eq!(
        problem("[limits]\nmin_members = 10", &[("MUSTER__LIMITS__MAX_MEMBERS", "9")]),
        "limits.min_members = 10 (muster.toml, line 2): expected at most limits.max_members, which \
         is 9 (environment variable MUSTER__LIMITS__MAX_MEMBERS)"
    );
    assert_eq!(
        problem("limits.max_members = 2", &[]),
        "limits.min_members = 3 (the default): expected at most \
         limits.max_members, which is 2 (muster.toml, line 1)"
    );
    assert_eq!(
        problem("limits.max_body_bytes_in_flight = 1048577", &[]),
        "limits.max_body_bytes_in_flight = 1048577 (muster.toml, line 1): expected at least twice \
         limits.max_body_bytes, which is 1048576 (the default)"
    );
    assert_eq!(
        problem("limits.max_header_bytes = 4096", &[]),
        "limits.max_uri_bytes = 8192 (the default): expected at most limits.max_header_bytes, which is \
         4096 (muster.toml, line 1)"
    );
}

#[test]
fn streams_of_an_app_are_at_most_those_of_its_enterprise() {
    assert_eq!(
        problem("limits.max_streams_per_enterprise = 1999", &[]),
        "limits.max_streams_per_app = 2000 (the default): expected at most \
         limits.max_streams_per_enterprise, which is 1999 (muster.toml, line 1)"
    );
}

#[test]
fn certificate_requires_its_key() {
    assert_eq!(
        problem("server.tls_cert = 'cert.pem'", &[]),
        "server.tls_key = \"\" (the default): expected a path, as has server.tls_cert, which is \
         \"cert.pem\" (muster.toml, line 1)"
    );
    let message = problem("", &[("MUSTER__SERVER__TLS_KEY", "key.pem")]);
    assert!(
        message.starts_with("server.tls_cert = \"\" (the default): expected a path"),
        "{message}"
    );
}

#[test]
fn plain_http_can_be_limited_to_loopback() {
    for bind in ["0.0.0.0:7080", "[::]:7080", "10.0.0.7:7080", "muster.example:7080"] {
        let file = format!("[server]\nrequire_tls = true\nbind = {bind:?}\n");
        assert_eq!(
            problem(&file, &[]),
            "server.tls_cert = \"\" (the default): expected a path, because server.require_tls is \
             true and server.bind is not an address of loopback"
        );
        let tls = format!("{file}tls_cert = \"cert.pem\"\ntls_key = \"key.pem\"\n");
        assert!(load(Some(&tls), &[]).unwrap().server.require_tls, "{bind}");
    }
    for bind in ["127.0.0.1:7080", "[::1]:7080", "localhost:7080"] {
        let file = format!("[server]\nrequire_tls = true\nbind = {bind:?}\n");
        assert!(load(Some(&file), &[]).unwrap().server.require_tls, "{bind}");
    }
}

#[test]
fn url_is_required_without_the_embedded_database() {
    let message = problem("", &[("MUSTER__DATABASE__EMBEDDED", "false")]);
    assert_eq!(
        message,
        "database.url = \"\" (the default): expected the URL of a PostgreSQL, because \
         database.embedded is false: set MUSTER__DATABASE__URL, or MUSTER__DATABASE__URL_FILE to a \
         file that holds it"
    );
    let message = problem("database.embedded = false", &[("MUSTER__DATABASE__URL", "db:5432")]);
    assert!(message.contains("expected postgres://"), "{message}");
    for meant in ["MUSTER__DATABASE__ULR", "MUSTER__DATABASE__URL_FILE"] {
        let message = problem("database.embedded = false", &[(meant, "/nowhere/url")]);
        assert!(message.starts_with(meant), "{message}");
    }
}

#[test]
fn a_variable_may_name_a_file_that_holds_the_value() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    for (key, value) in OTHERS {
        let name = format!("{}_FILE", variable(key));
        let url = ("MUSTER__DATABASE__URL", "postgres://db/muster");
        for end in ["", "\n", "\r\n"] {
            let path = file("value", &format!("{value}{end}"));
            let in_file = match *key {
                // The other key needs this one, and these are separate keys.
                "database.embedded" | "database.pooler" => load(None, &[url, (&name, &path)]),
                "server.tls_cert" | "server.tls_key" | "secrets.master_key" => continue,
                _ => load(None, &[(&name, &path)]),
            };
            let direct = match *key {
                "database.embedded" | "database.pooler" => {
                    load(None, &[url, (&variable(key), value)])
                }
                _ => load(None, &[(&variable(key), value)]),
            };
            assert_eq!(in_file.unwrap(), direct.unwrap(), "{name}");
        }
    }
    let two = file("two", "owner\n\n");
    let message = problem("", &[("MUSTER__POLICY__REMOVE_MEMBERS_FILE", &two)]);
    let start = format!(
        "policy.remove_members = \"owner\\n\" ({two}, named by environment variable \
         MUSTER__POLICY__REMOVE_MEMBERS_FILE): expected"
    );
    assert!(message.starts_with(&start), "{message}");
    let secret = file("secret", "mysql://u:s3cret@db/m");
    let message = problem("", &[("MUSTER__DATABASE__URL_FILE", &secret)]);
    assert!(!message.contains("s3cret"), "{message}");
}

#[test]
fn variable_and_variable_file_exclude_each_other() {
    let both = [("MUSTER__LOG__LEVEL", "info"), ("MUSTER__LOG__LEVEL_FILE", "/dev/null")];
    assert_eq!(
        problem("", &both),
        "MUSTER__LOG__LEVEL_FILE (environment variable): expected either this or \
         MUSTER__LOG__LEVEL, not both"
    );
    assert_eq!(
        problem("", &[("MUSTER__DATABASE__URL_FILE", "/nowhere/url")]),
        "MUSTER__DATABASE__URL_FILE (environment variable): cannot read /nowhere/url: No such file \
         or directory (os error 2)"
    );
    assert_eq!(
        problem("", &[("MUSTER_DATABASE_URL_FILE", "/run/secrets/url")]),
        "MUSTER_DATABASE_URL_FILE (environment variable): no such key; did you mean \
         `MUSTER__DATABASE__URL_FILE`?"
    );
    // A separate key: a path that is not opened here, beside the key that it overrides.
    let env = [
        ("MUSTER__SECRETS__MASTER_KEY_FILE", "/nowhere/keys"),
        ("MUSTER__SECRETS__MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
    ];
    let secrets = load(None, &env).unwrap().secrets;
    assert_eq!(secrets.master_key_file, Some("/nowhere/keys".into()));
    assert!(secrets.master_key.is_some());
}

#[test]
fn all_problems_are_reported_at_once() {
    let error = load(
        Some("[server]\nbnd = 1\nworkers = 'all'\n[limits]\nmax_body_bytes = 1"),
        &[("MUSTER__LIMITS__MAX_BODY_BYTES", "many"), ("MUSTER__DATABASE__MIGRATE", "")],
    )
    .unwrap_err()
    .to_string();
    let lines: Vec<_> = error.lines().map(|line| line.split(" (").next().unwrap()).collect();
    assert_eq!(
        lines,
        [
            "the configuration has 4 mistakes:",
            "  server.bnd",
            "  server.workers = \"all\"",
            "  database.migrate = \"\"",
            "  limits.max_body_bytes = \"many\"",
        ]
    );
}

#[test]
fn syntax_error_names_the_position_without_the_text() {
    let message = load(Some("[database]\nurl = 'postgres://u:secret@db/m"), &[]).unwrap_err();
    let message = message.to_string();
    assert!(message.contains("muster.toml, line 2, column 32, is not valid TOML: "), "{message}");
    assert!(!message.contains("secret"), "{message}");

    for text in ["url = postgres://u:secret@db/m", "url = \"p\\secret\"", "secret secret"] {
        let message = load(Some(text), &[]).unwrap_err();
        let shown = format!("{message} {message:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    let twice = load(Some("data_dir = 'a'\ndata_dir = 'b'"), &[]).unwrap_err().to_string();
    assert!(
        twice.contains("muster.toml, line 2, column 1, is not valid TOML: duplicate"),
        "{twice}"
    );

    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().to_owned(), directory.path().join("none.toml")] {
        let error = Settings::load(Some(&path), std::iter::empty()).unwrap_err();
        let message = format!("cannot read the configuration file {}", path.display());
        assert_eq!(error.to_string(), message);
        assert!(std::error::Error::source(&error).is_some());
    }
    let binary = directory.path().join("binary.toml");
    std::fs::write(&binary, b"data_dir = '\xff'").unwrap();
    assert!(matches!(
        Settings::load(Some(&binary), std::iter::empty()),
        Err(ConfigError::Read { .. })
    ));
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
fn the_password_is_in_no_message_and_no_debug_output() {
    for url in [
        "mysql://u:s3cret@db/m",
        "postgres://u:s3cret",
        "u:s3cret@db",
        "postgres://u:s3cret@db:port/m",
        "postgres://u:s3cret#x@db/m",
        " postgres://u:s3cret@db/m",
    ] {
        let message = problem("", &[("MUSTER__DATABASE__URL", url)]);
        assert!(message.starts_with("database.url = \""), "{message}");
        assert!(message.contains("expected postgres://USER:PASSWORD@HOST:PORT/NAME"), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
    }
    let env = &[("MUSTER__DATABASE__URL", "postgres://u:s3cret@db/m")];
    let settings = load(None, env).unwrap();
    let shown = format!("{settings:?} {settings:#?} {}", settings.database.url.clone().unwrap());
    assert!(shown.contains("postgres://u:***@db/m") && !shown.contains("s3cret"), "{shown}");

    let message = problem("", &[("MUSTER__DATABASE__ULR", "postgres://u:s3cret@db/m")]);
    assert!(!message.contains("s3cret"), "{message}");
}

#[test]
fn master_keys_are_in_no_message_and_no_debug_output() {
    let right = "Sesame0000000000000000000000000000000000000=";
    for key in ["secrets.master_key", "secrets.previous_master_key"] {
        for wrong in ["Sesame", &right[..43], &format!("{right} "), &right.replace('=', "a")] {
            let message = problem("", &[(&variable(key), wrong)]);
            assert!(message.starts_with(&format!("{key} = \"***\" (env")), "{message}");
            assert!(message.contains("44 characters of base64 or 64 hex"), "{message}");
            assert!(!message.contains("Sesame"), "{message}");
        }
    }
    let settings = load(None, &[("MUSTER__SECRETS__MASTER_KEY", right)]).unwrap();
    assert!(!format!("{settings:?}").contains("83, 235"), "{settings:?}");
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

#[test]
fn a_variable_that_is_not_utf8_is_refused_by_name() {
    assert_eq!(
        problem("", &[("MUSTER__DATA_DIR", "da\u{FFFD}ta")]),
        "MUSTER__DATA_DIR (environment variable): expected UTF-8 text"
    );
    // The function accepts any environment of this process.
    assert!(environment().all(|(name, _)| name.to_lowercase().starts_with("muster")));
}

#[test]
fn flag_overrides_variable() {
    let flag = || Some(PathBuf::from("flag.toml"));
    assert_eq!(file(flag(), Some("variable.toml".into())), flag());
    assert_eq!(file(None, Some("variable.toml".into())), Some("variable.toml".into()));
    assert_eq!(file(None, Some("".into())), None);
    assert_eq!(file(None, None), None);
}

/// The settings in force: value, source and origin of each key.
fn explained(file: Option<&str>, env: Env<'_>) -> Vec<EffectiveSetting> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("muster.toml");
    std::fs::write(&path, file.unwrap_or_default()).unwrap();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load_explained(file.map(|_| path.as_path()), env).unwrap().1
}

#[test]
fn every_key_is_explained_in_the_order_of_the_defaults() {
    let settings = explained(None, &[]);
    let keys: Vec<&str> = settings.iter().map(|setting| setting.key.as_str()).collect();
    let known: BTreeSet<&str> = OTHERS.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys.iter().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!((keys[0], keys.last()), ("data_dir", Some(&"log.format")));
    assert!(settings.iter().all(|setting| setting.source == SettingSource::Default));
    assert!(settings.iter().all(|setting| setting.origin == "the default"));
}

#[test]
fn last_layer_explains_a_value() {
    let file = "cache.enabled = false\n[server]\nbind = \"[::]:0\"\nworkers = 3\n";
    let env =
        [("MUSTER__SERVER__WORKERS", "4"), ("MUSTER__DELIVERY__ALLOW_NETWORKS", "10.0.0.0/8")];
    let settings = explained(Some(file), &env);
    let find = |key: &str| {
        let setting = settings.iter().find(|setting| setting.key == key).unwrap();
        let origin = setting.origin.rsplit('/').next().unwrap();
        (setting.value.clone(), setting.source, origin.to_owned())
    };
    let text = |text: &str| SettingValue::Text(text.to_owned());
    let workers = "environment variable MUSTER__SERVER__WORKERS".to_owned();
    assert_eq!(
        find("server.workers"),
        (SettingValue::Whole(4), SettingSource::Environment, workers)
    );
    let at = |line| format!("muster.toml, line {line}");
    assert_eq!(find("server.bind"), (text("[::]:0"), SettingSource::File, at(3)));
    assert_eq!(find("cache.enabled"), (SettingValue::Boolean(false), SettingSource::File, at(1)));
    assert_eq!(find("delivery.allow_networks").0, SettingValue::List(vec![text("10.0.0.0/8")]));
    assert_eq!(find("metrics.bind").0, text("127.0.0.1:0"), "the address in force, not `auto`");
}

#[test]
fn no_secret_is_explained() {
    let env: Vec<(String, &str)> =
        OTHERS.iter().map(|(key, value)| (layer::variable_name(key), *value)).collect();
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (&**name, *value)).collect();
    let settings = explained(None, &env);
    let shown = format!("{settings:?}");
    for secret in ["AAECAwQF", "ff010203", "12345", "67890"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("postgres://u:***@db/muster"), "{shown}");
    assert!(settings.iter().all(|setting| setting.source == SettingSource::Environment));
}
