//! The URL of the database, and its form without the password.

use std::fmt;
use std::time::Duration;

use super::pooler;
use super::url_servers::{self, TargetServer, UrlServers};

/// The text in place of a hidden part.
const HIDDEN: &str = "***";
/// The parameters of a PostgreSQL URL whose values are no secrets.
const SHOWN: [&str; 12] = [
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "user",
];

/// A PostgreSQL URL, displayed without its password. Only [`DatabaseUrl::expose`] returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    text: String,
    servers: UrlServers,
}

/// The URLs of servers behind a pooler, with the password.
pub struct PooledUrls {
    /// The URL of each server.
    pub urls: Vec<String>,
    /// The settings of PostgreSQL, with their values.
    pub settings: Vec<(String, String)>,
}

/// A text that is no PostgreSQL URL, with the reason. The reason holds no part of a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDatabaseUrl(String);

impl DatabaseUrl {
    /// Parses a URL of libpq, which begins with `postgres://` or `postgresql://` and may name
    /// several hosts. The servers need not be reachable.
    ///
    /// # Errors
    /// The text has another form, or a parameter that would have no effect.
    pub fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let servers = url_servers::split(text).map_err(InvalidDatabaseUrl)?;
        Ok(Self { text: text.to_owned(), servers })
    }

    /// The URL of each server, with its password, to connect to it. There is at least one. They
    /// must not be logged.
    #[must_use]
    pub fn expose(&self) -> &[String] {
        &self.servers.urls
    }

    /// The URL of each server without settings of PostgreSQL, and these settings. A pooler would drop
    /// them.
    ///
    /// # Errors
    /// The URL has other options than settings.
    pub fn expose_for_pooler(&self) -> Result<PooledUrls, InvalidDatabaseUrl> {
        let mut urls = Vec::new();
        let mut settings = Vec::new();
        for url in &self.servers.urls {
            let (url, found) = pooler::take_settings(url).map_err(InvalidDatabaseUrl)?;
            urls.push(url);
            settings = found;
        }
        Ok(PooledUrls { urls, settings })
    }

    /// The role that a server must have.
    #[must_use]
    pub fn target(&self) -> TargetServer {
        self.servers.target
    }

    /// The time limit of an attempt to connect to one server, if the URL has one.
    #[must_use]
    pub fn connect_timeout(&self) -> Option<Duration> {
        self.servers.connect_timeout
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&redact(&self.text), f)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.text))
    }
}

/// `text` without the password, and without any part of a malformed URL that may be a password. If
/// in doubt, too little is shown: in `postgres://u:a/b@c?d@host`, whose password is not encoded,
/// the text up to the last `@` is hidden. Of the query, the part from the first unknown parameter is
/// hidden.
pub(super) fn redact(text: &str) -> String {
    mask_query(&redact_password(text), &SHOWN)
}

/// The same for a URL of HTTP: its query is hidden, because it may hold a token.
pub(super) fn redact_query(text: &str) -> String {
    mask_query(&redact_password(text), &[])
}

/// The URL with its query up to the first parameter that is not in `shown`, and without a fragment.
fn mask_query(url: &str, shown: &[&str]) -> String {
    let Some(at) = url.find(['?', '#']) else { return url.to_owned() };
    let (start, rest) = url.split_at(at + 1);
    let is_shown = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or_default();
        start.ends_with('?') && shown.contains(&name) && !parameter.contains('#')
    };
    let kept: usize = rest.split_inclusive('&').take_while(is_shown).map(str::len).sum();
    if kept == rest.len() {
        return url.to_owned();
    }
    format!("{start}{}{HIDDEN}", &rest[..kept])
}

fn redact_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return if text.is_empty() { String::new() } else { HIDDEN.to_owned() };
    };
    // Skips the brackets of an IPv6 address, whose colons are not secret.
    let host = if rest.starts_with('[') { rest.find(']').unwrap_or_default() } else { 0 };
    let colon = rest[host..].find(':').map(|at| host + at);
    let at_sign = rest.rfind('@');
    // Matches `password` and libpq's `sslpassword`, in any case.
    let parameter = rest.to_ascii_lowercase().find("password");

    match (colon, at_sign, parameter) {
        (_, _, Some(parameter)) => {
            let from = colon.map_or(parameter, |colon| colon.min(parameter));
            format!("{scheme}://{}{HIDDEN}", &rest[..from])
        }
        (Some(colon), Some(at_sign), None) if colon < at_sign => {
            format!("{scheme}://{}:{HIDDEN}{}", &rest[..colon], &rest[at_sign..])
        }
        (Some(colon), None, None) if !is_port(&rest[colon + 1..]) => {
            format!("{scheme}://{}:{HIDDEN}", &rest[..colon])
        }
        _ => text.to_owned(),
    }
}

/// Whether the text after a colon begins with a port number and not with a password.
fn is_port(text: &str) -> bool {
    let end = text.find(['/', '?', '#']).unwrap_or(text.len());
    text[..end].len() <= 5 && text[..end].bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn password_is_redacted() {
        for (url, shown) in [
            ("", ""),
            ("postgres:///muster?host=/run", "postgres:///muster?host=/run"),
            ("postgres://u@db/muster", "postgres://u@db/muster"),
            ("postgres://db:5432/muster", "postgres://db:5432/muster"),
            ("postgres://[::1]:5432/muster", "postgres://[::1]:5432/muster"),
            ("postgres://u:p@db:5432/muster", "postgres://u:***@db:5432/muster"),
            ("postgres://u:p@[::1]:5432/m", "postgres://u:***@[::1]:5432/m"),
            ("postgres://u:p@a/b@db/muster", "postgres://u:***@db/muster"),
            ("postgres://u:forgot-the-host", "postgres://u:***"),
            ("postgres://db/m?user=u&password=p@q", "postgres://db/m?user=u&***"),
            ("postgres://db:1/m?Password=p", "postgres://db***"),
            (
                "postgres://u@db/m?sslmode=require&user=u",
                "postgres://u@db/m?sslmode=require&user=u",
            ),
            ("postgres://db/m?pasword=p&sslmode=require", "postgres://db/m?***"),
            ("postgres://db/m?sslmode=require&pasword=p", "postgres://db/m?sslmode=require&***"),
            ("postgres://db/m?user=u#p", "postgres://db/m?***"),
            ("postgres://db/m#p", "postgres://db/m#***"),
            ("postgres://db/m?", "postgres://db/m?"),
            ("mysql://u:p@db/muster", "mysql://u:***@db/muster"),
            ("host=db password=p", "***"),
            ("u:p@db", "***"),
        ] {
            assert_eq!(redact(url), shown, "{url}");
        }
    }

    #[test]
    fn query_of_http_is_redacted() {
        for (url, shown) in [
            ("http://h:4318/v1", "http://h:4318/v1"),
            ("http://h:4318/?token=s", "http://h:4318/?***"),
            ("http://h?user=s&host=s", "http://h?***"),
            ("http://h/#s", "http://h/#***"),
            ("http://u:p@h/?a=b", "http://u:***@h/?***"),
            ("http://h/?password=s", "http://h/?***"),
        ] {
            assert_eq!(redact_query(url), shown, "{url}");
        }
    }

    #[test]
    fn only_postgresql_urls_are_accepted() {
        for url in ["postgres://u:p@db/muster", "postgresql:///m?host=/run", "postgres://db"] {
            assert_eq!(DatabaseUrl::parse(url).unwrap().text, url);
        }
        for url in ["", "mysql://db/m", "db:5432", "postgres:db", "postgres://u:p#w@db/m", " "] {
            assert!(DatabaseUrl::parse(url).is_err(), "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_password_is_ever_displayed(
            tail in "\\PC{0,12}", user in "[a-z]{0,4}", end in "(/m|:5432/m\\?a=b)?") {
            let password = format!("Zq9{tail}Zq8");
            for url in [
                format!("postgres://{user}:{password}@db{end}"),
                format!("postgres://{user}:{}", password.replace('@', "")),
                format!("postgres://{user}@db/m?password={password}"),
                format!("{user}:{password}@db"),
            ] {
                let shown = redact(&url);
                prop_assert!(!shown.contains("Zq9") && !shown.contains("Zq8"), "{url} shows {shown}");
            }
        }
    }
}
