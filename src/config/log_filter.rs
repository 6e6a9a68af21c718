//! The filter of the log: a level, or directives for each module.

use tracing_subscriber::filter::{EnvFilter, LevelFilter};

/// The expected form of `log.level`, for messages.
pub(super) const DIRECTIVES: &str = "a level (off, error, warn, info, debug, trace) or directives \
                                     such as \"info,sqlx=warn\"";

/// Applied unless `log.level` names the same module. The framework logs each request that is not
/// HTTP, and any scanner can send such requests.
const QUIET_DIRECTIVES: &str = "actix_http=off";

/// Directives such as `info,sqlx=warn`, syntactically valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

/// The text is not a log filter.
#[derive(Debug, thiserror::Error)]
#[error("{0:?}: expected {DIRECTIVES}")]
pub struct InvalidLogFilter(String);

impl Default for LogFilter {
    /// `info`.
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl LogFilter {
    /// Parses directives. This parser is stricter than [`EnvFilter`], which reads a mistyped level
    /// such as `inof` as a module name, so that nothing would be logged.
    ///
    /// # Errors
    /// A directive is neither a level nor accepted by [`EnvFilter`].
    pub fn parse(text: &str) -> Result<Self, InvalidLogFilter> {
        let invalid = || InvalidLogFilter(text.to_owned());
        let directives: Vec<_> = text.split(',').map(str::trim).collect();
        let is_clear = |directive: &&str| {
            let level = || !directive.is_empty() && directive.parse::<LevelFilter>().is_ok();
            directive.contains(['=', ':', '[']) || level()
        };
        // A comma within braces separates fields, not directives. Only `EnvFilter` can split those.
        let filter = if text.contains('{') {
            Self(text.to_owned())
        } else if directives.iter().all(is_clear) {
            Self(directives.join(","))
        } else {
            return Err(invalid());
        };
        match EnvFilter::builder().parse(filter.with_quiet()) {
            Ok(_) => Ok(filter),
            Err(_) => Err(invalid()),
        }
    }

    /// The filter for a subscriber.
    #[must_use]
    pub fn to_env_filter(&self) -> EnvFilter {
        // `parse` has refused every text of which this would drop a part.
        EnvFilter::builder().parse_lossy(self.with_quiet())
    }

    /// The directives, separated by commas.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// If two directives name the same module, the later one wins.
    fn with_quiet(&self) -> String {
        format!("{QUIET_DIRECTIVES},{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_or_directives_are_accepted_and_nothing_else_is() {
        for text in ["off", "info", " info , sqlx=warn", "muster::http", "[{a}]=trace,info"] {
            assert!(LogFilter::parse(text).is_ok(), "{text}");
        }
        for text in ["", "inof", "info,", "info,,warn", "info,sqlx", "sqlx=inof", "[{a=trace"] {
            let error = LogFilter::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?}: expected a level (off, ")), "{error}");
        }
        assert_eq!(LogFilter::parse(" info , sqlx=warn").unwrap().as_str(), "info,sqlx=warn");
    }
}
