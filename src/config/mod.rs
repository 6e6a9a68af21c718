//! The settings of the operator, checked before anything starts.
//!
//! Settings come from three layers: `config/default.toml` (compiled in; it documents every key),
//! the configuration file, and the environment. A later layer overrides an earlier one.
//! [`Settings::load`] reports all mistakes at once, each with its key, value, origin and expected
//! form. No file of the working directory is read implicitly, and no message shows the password of
//! the database.

mod address;
mod audit;
mod database;
mod delivery;
mod duration;
mod effective;
mod key_text;
mod layer;
mod limits;
mod log_filter;
mod otlp;
mod policy;
mod pooler;
mod problem;
mod read;
mod secrets;
mod server;
mod suggestion;
mod url;
mod url_servers;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::Config;

pub use self::audit::AuditConfig;
pub use self::database::DatabaseConfig;
pub use self::delivery::DeliveryConfig;
use self::duration::{DAY, MIN_TIMEOUT, MINUTE, SECOND};
pub use self::effective::{EffectiveSetting, SettingSource, SettingValue};
pub use self::key_text::KeyText;
pub use self::layer::DEFAULTS;
pub use self::limits::LimitsConfig;
pub use self::log_filter::{InvalidLogFilter, LogFilter};
pub use self::otlp::{OtlpEndpoint, TracingConfig};
pub use self::policy::{PolicyConfig, RemovalLimit, RemoveMembers};
pub use self::pooler::PoolerMode;
pub use self::problem::{ConfigError, ConfigProblem};
use self::read::Reader;
pub use self::secrets::SecretsConfig;
pub use self::server::{ServerConfig, TlsFiles};
pub use self::url::{DatabaseUrl, InvalidDatabaseUrl, PooledUrls};
pub use self::url_servers::TargetServer;

/// Every setting, valid and consistent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The directory that Muster owns. It contains `postgres/`, `first-app.json` and `master.key`.
    /// A relative path starts at the working directory.
    pub data_dir: PathBuf,
    /// The HTTP server.
    pub server: ServerConfig,
    /// The database and its connections.
    pub database: DatabaseConfig,
    /// The master keys, which seal the stored secrets.
    pub secrets: SecretsConfig,
    /// The audit of administrative acts.
    pub audit: AuditConfig,
    /// Access tokens.
    pub token: TokenConfig,
    /// Limits of sizes, numbers and rates.
    pub limits: LimitsConfig,
    /// Rules that differ between companies.
    pub policy: PolicyConfig,
    /// The session cache.
    pub cache: CacheConfig,
    /// Callbacks.
    pub delivery: DeliveryConfig,
    /// The metrics for Prometheus.
    pub metrics: MetricsConfig,
    /// The traces for OpenTelemetry.
    pub tracing: TracingConfig,
    /// The log.
    pub log: LogConfig,
}

/// `[token]`: access tokens and the requests for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConfig {
    /// The validity of a token, in whole seconds: more than 600 seconds, at most 30 days.
    pub expire_in: Duration,
    /// The maximum difference between the time in a request and the server's time; whole seconds.
    pub max_clock_skew: Duration,
}

/// `[cache]`: the cache of sessions in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Whether sessions are cached.
    pub enabled: bool,
    /// The maximum memory of the cache, in bytes.
    pub max_bytes: u64,
    /// The interval between two reads of the changes of other servers.
    pub follow_interval: Duration,
}

/// `[metrics]`: the metrics for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// The `HOST:PORT` of `/metrics`, different from [`ServerConfig::bind`]; `None` = not served.
    pub bind: Option<String>,
}

/// `[log]`: the filter and the format of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The filter of log lines.
    pub level: LogFilter,
    /// The format of a log line.
    pub format: LogFormat,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `"pretty"`: for people.
    #[default]
    Pretty,
    /// `"json"`: one object per line, for collectors.
    Json,
}

impl Settings {
    /// Reads all layers: the defaults, `file` if given, and the variables `MUSTER__…` of `env` (see
    /// [`environment`]).
    ///
    /// # Errors
    /// The file cannot be read or is not TOML. Otherwise one [`ConfigError::Invalid`] lists every
    /// key that is unknown, has a wrong type, is out of range or contradicts another key.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::load_explained(file, env).map(|(settings, _)| settings)
    }

    /// Like [`Settings::load`], and lists the settings in the order of the defaults.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_explained(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<(Self, Vec<EffectiveSetting>), ConfigError> {
        let mut problems = Vec::new();
        let defaults = layer::defaults()?;
        let file = file.map(|path| layer::file(path, &defaults, &mut problems)).transpose()?;
        let env = layer::environment(env, &defaults, &mut problems);
        let merged = Config::builder().add_source(defaults.clone());
        let merged = file.iter().fold(merged, |merged, file| merged.add_source(file.clone()));
        let merged = merged.add_source(env.clone()).build().map_err(ConfigError::Layers)?;

        let mut reader = Reader::new(&merged.cache, &mut problems);
        let settings = Self::read(&mut reader);
        let values = reader.into_values();
        if !problems.is_empty() {
            return Err(ConfigError::Invalid(problems));
        }
        let effective = layer::effective(values, &defaults, file.as_ref(), &env)?;
        Ok((settings, effective))
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        let server = ServerConfig::read(reader);
        let metrics_bind = reader.address_beside("metrics.bind", &server.bind);
        let settings = Self {
            data_dir: reader.path("data_dir"),
            server,
            database: DatabaseConfig::read(reader),
            secrets: SecretsConfig::read(reader),
            audit: AuditConfig::read(reader),
            token: TokenConfig {
                expire_in: reader.whole_seconds(
                    "token.expire_in",
                    10 * MINUTE + SECOND..=30 * DAY,
                    "a duration of more than 600s (clients use a token until up to 10 minutes \
                     before its expiry) and at most 30days",
                ),
                max_clock_skew: reader.whole_seconds(
                    "token.max_clock_skew",
                    SECOND..=DAY,
                    "a duration from 1s to 1day",
                ),
            },
            limits: LimitsConfig::read(reader),
            policy: PolicyConfig::read(reader),
            cache: CacheConfig {
                enabled: reader.boolean("cache.enabled"),
                max_bytes: reader.number("cache.max_bytes", 1_048_576..=1_099_511_627_776),
                follow_interval: reader
                    .duration("cache.follow_interval", MIN_TIMEOUT / 10..=10 * SECOND),
            },
            delivery: DeliveryConfig::read(reader),
            metrics: MetricsConfig { bind: metrics_bind },
            tracing: TracingConfig::read(reader),
            log: LogConfig {
                level: reader.log_filter("log.level"),
                format: reader.choice(
                    "log.format",
                    &[("pretty", LogFormat::Pretty), ("json", LogFormat::Json)],
                ),
            },
        };
        // Port 0 selects a free port, so two zeros are two different ports.
        let same = settings.metrics.bind.as_ref() == Some(&settings.server.bind);
        if same && !settings.server.bind.ends_with(":0") {
            reader.add_contradiction("metrics.bind", "another address than", "server.bind");
        }
        settings
    }
}

/// The process variables named `MUSTER…`, for [`Settings::load`]. Invalid UTF-8 becomes U+FFFD, so
/// `load` reports the variable instead of using a wrong value.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .filter(|(name, _)| name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("muster")))
}

/// The configuration file: the path in `--config` (`flag`), else the path in `MUSTER_CONFIG`
/// (`variable`; empty counts as unset), else `None`.
#[must_use]
pub fn file(flag: Option<PathBuf>, variable: Option<OsString>) -> Option<PathBuf> {
    flag.or_else(|| variable.filter(|name| !name.is_empty()).map(PathBuf::from))
}

#[cfg(test)]
mod tests;
