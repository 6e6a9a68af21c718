//! Settings as an operator writes them: the tests load files and variables, and compare whole settings or texts.
//! This file has what several of these tests share.

mod keys;
mod rules;
mod secrecy;
mod sources;
mod values;

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

fn variable(key: &str) -> String {
    format!("MUSTER__{}", key.to_uppercase().replace('.', "__"))
}

/// The settings in force: value, source and origin of each key.
fn explained(file: Option<&str>, env: Env<'_>) -> Vec<EffectiveSetting> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("muster.toml");
    std::fs::write(&path, file.unwrap_or_default()).unwrap();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load_explained(file.map(|_| path.as_path()), env).unwrap().1
}
