//! The URL of the database, and its form without the password.

use std::fmt;

/// A PostgreSQL URL, displayed without its password. Only [`DatabaseUrl::expose`] returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Parses a URL that begins with `postgres://` or `postgresql://`. The server need not be
    /// reachable.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, _) = text.split_once("://")?;
        let is_postgres = scheme == "postgres" || scheme == "postgresql";
        (is_postgres && reqwest::Url::parse(text).is_ok()).then(|| Self(text.to_owned()))
    }

    /// The whole URL, to connect to the database. It must not be logged.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&redact(&self.0), f)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

/// `text` without the password, and without any part of a malformed URL that may be a password. If
/// in doubt, too little is shown: in `postgres://u:a/b@c?d@host`, whose password is not encoded,
/// the text up to the last `@` is hidden.
pub(super) fn redact(text: &str) -> String {
    const HIDDEN: &str = "***";
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
            ("mysql://u:p@db/muster", "mysql://u:***@db/muster"),
            ("host=db password=p", "***"),
            ("u:p@db", "***"),
        ] {
            assert_eq!(redact(url), shown, "{url}");
        }
    }

    #[test]
    fn only_postgresql_urls_are_accepted() {
        for url in ["postgres://u:p@db/muster", "postgresql:///m?host=/run", "postgres://db"] {
            assert_eq!(DatabaseUrl::parse(url).unwrap().expose(), url);
        }
        for url in ["", "mysql://db/m", "db:5432", "postgres:db", "postgres://u:p#w@db/m", " "] {
            assert_eq!(DatabaseUrl::parse(url), None, "{url}");
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
