//! Every key: its default, its name in the manual, and its value from a file or the environment.

use super::*;

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
