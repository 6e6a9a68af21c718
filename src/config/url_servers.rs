//! The servers and the parameters of a PostgreSQL URL, in the syntax of libpq.
//!
//! sqlx takes one host and ignores unknown parameters. So a URL is split here into one URL for each
//! host, and a parameter that would have no effect is refused.

use std::time::Duration;

use reqwest::Url;

/// The largest number of hosts.
const MAX_HOSTS: usize = 16;
/// The form of a URL, for messages.
const URL_SYNTAX: &str = "expected postgres://USER:PASSWORD@HOST:PORT/NAME with special characters \
                    percent-encoded, or nothing for the embedded database";
/// Parameters that are passed on. Names with a hyphen are those of sqlx.
const PASSED: [&str; 14] = [
    "dbname",
    "options",
    "password",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];
/// The parameters that a message lists.
const SUPPORTED: &str = "connect_timeout, dbname, host, hostaddr, options, password, port, sslcert, \
                         sslkey, sslmode, sslrootcert, target_session_attrs and user";
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The role that a server must have before Muster uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetServer {
    /// Any role: no server is asked.
    Any,
    /// A primary whose transactions may write.
    ReadWrite,
    /// A primary.
    Primary,
}

/// The parts of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UrlServers {
    /// A URL for each host, in their order; at least one.
    pub(super) urls: Vec<String>,
    pub(super) target: TargetServer,
    pub(super) connect_timeout: Option<Duration>,
}

/// Parameters of the query, as they are read.
#[derive(Default)]
struct Parameters {
    passed: Vec<(String, String)>,
    /// The parameter that names hosts, with its values.
    hosts: Option<(String, Vec<String>)>,
    ports: Option<Vec<String>>,
    target: Option<TargetServer>,
    connect_timeout: Option<Duration>,
}

/// Splits a URL. The error is the expected form; it holds no value of the URL.
pub(super) fn split(text: &str) -> Result<UrlServers, String> {
    let form = || URL_SYNTAX.to_owned();
    let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
    if scheme != "postgres" && scheme != "postgresql" {
        return Err(form());
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, hosts) = match authority.rfind('@') {
        Some(at) => authority.split_at(at + 1),
        None => ("", authority),
    };
    let parse = |host: &str| Url::parse(&format!("{scheme}://{user}{host}{tail}"));
    let urls: Vec<Url> =
        hosts.split(',').map(parse).collect::<Result<_, _>>().map_err(|_| form())?;
    if urls.iter().any(|url| url.fragment().is_some()) {
        return Err("expected no `#`: write `#` in a password as %23".to_owned());
    }
    let [first, ..] = urls.as_slice() else { return Err(form()) };
    if urls.len() > 1 && hosts.split(',').any(|host| host.is_empty() || host.starts_with(':')) {
        return Err("expected a name or an address for each of several hosts".to_owned());
    }
    let parameters = Parameters::read(first)?;
    let urls = match &parameters.hosts {
        Some((key, _)) if urls.len() > 1 => {
            return Err(format!("expected the hosts before the path or in `{key}`, not both"));
        }
        Some((key, hosts)) => {
            let with_host =
                |host: &String| with_query(first, &parameters.passed, Some((key, host)));
            hosts.iter().map(with_host).collect()
        }
        None => urls.iter().map(|url| with_query(url, &parameters.passed, None)).collect(),
    };
    let urls = with_ports(urls, parameters.ports.as_deref())?;
    if urls.len() > MAX_HOSTS {
        return Err(format!("expected at most {MAX_HOSTS} hosts, got {}", urls.len()));
    }
    // The writes of Muster need the primary, so a choice among several servers is a search for it.
    let default = if urls.len() > 1 { TargetServer::ReadWrite } else { TargetServer::Any };
    Ok(UrlServers {
        urls: urls.into_iter().map(String::from).collect(),
        target: parameters.target.unwrap_or(default),
        connect_timeout: parameters.connect_timeout,
    })
}

impl Parameters {
    fn read(url: &Url) -> Result<Self, String> {
        let mut parameters = Self::default();
        let mut seen = Vec::new();
        for (key, value) in url.query_pairs() {
            if seen.contains(&key) {
                return Err(format!("expected the parameter `{key}` once"));
            }
            parameters.add(&key, &value)?;
            seen.push(key);
        }
        parameters.verify_as_libpq();
        Ok(parameters)
    }

    fn add(&mut self, key: &str, value: &str) -> Result<(), String> {
        let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
        match key {
            "target_session_attrs" => self.target = Some(target(value)?),
            "connect_timeout" => {
                let seconds = value.parse().map_err(|_| {
                    "expected a whole number of seconds as `connect_timeout`".to_owned()
                })?;
                // 0 means no limit, as in libpq.
                self.connect_timeout = (seconds > 0).then(|| Duration::from_secs(seconds));
            }
            "host" | "hostaddr" => {
                if let Some((other, _)) = &self.hosts {
                    return Err(format!("expected one of `{other}` and `{key}`"));
                }
                let hosts = list();
                if hosts.iter().any(String::is_empty) {
                    return Err(format!("expected a name or an address for each host of `{key}`"));
                }
                self.hosts = Some((key.to_owned(), hosts));
            }
            "port" => {
                let ports = list();
                if ports.iter().any(|port| port.parse::<u16>().is_err()) {
                    return Err("expected port numbers as `port`".to_owned());
                }
                self.ports = Some(ports);
            }
            "sslmode" | "ssl-mode" if !SSL_MODES.contains(&value) => {
                let is_mode = |value: &str| {
                    value.len() <= 20 && value.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
                };
                // Anything else may be a part of a password that is not encoded.
                let got = if is_mode(value) { format!(", got {value}") } else { String::new() };
                return Err(format!("expected one of {} as `{key}`{got}", SSL_MODES.join(", ")));
            }
            "application_name" => {
                return Err(
                    "expected no `application_name`: Muster names its connections, so that \
                            servers can count each other"
                        .to_owned(),
                );
            }
            _ if PASSED.contains(&key) || (key.starts_with("options[") && key.ends_with(']')) => {
                self.passed.push((key.to_owned(), value.to_owned()));
            }
            // An unknown name may be a part of a password that is not encoded.
            _ if key.len() <= 40 && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
                return Err(format!(
                    "expected no parameter `{key}`, because it has no effect here: \
                     the supported ones are {SUPPORTED}"
                ));
            }
            _ => {
                return Err(format!(
                    "expected only parameters that have an effect here: {SUPPORTED}"
                ));
            }
        }
        Ok(())
    }

    /// libpq checks the certificate with `require` if an authority is given. sqlx does not.
    fn verify_as_libpq(&mut self) {
        let is_root = |key: &str| ["sslrootcert", "ssl-root-cert", "ssl-ca"].contains(&key);
        if self.passed.iter().any(|(key, _)| is_root(key)) {
            for (key, value) in &mut self.passed {
                if (key == "sslmode" || key == "ssl-mode") && value == "require" {
                    "verify-ca".clone_into(value);
                }
            }
        }
    }
}

fn target(value: &str) -> Result<TargetServer, String> {
    match value {
        "any" => Ok(TargetServer::Any),
        "read-write" => Ok(TargetServer::ReadWrite),
        "primary" => Ok(TargetServer::Primary),
        _ => Err("expected any, read-write or primary as `target_session_attrs`, because Muster \
                  writes"
            .to_owned()),
    }
}

/// The same URL with these parameters.
fn with_query(url: &Url, passed: &[(String, String)], host: Option<(&String, &String)>) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    if !passed.is_empty() || host.is_some() {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(passed).extend_pairs(host);
    }
    url
}

/// The same URLs with these ports: one for all, or one for each.
fn with_ports(mut urls: Vec<Url>, ports: Option<&[String]>) -> Result<Vec<Url>, String> {
    let Some(ports) = ports else { return Ok(urls) };
    if ports.len() != 1 && ports.len() != urls.len() {
        return Err(format!(
            "expected one port, or one for each of the {} hosts, got {}",
            urls.len(),
            ports.len()
        ));
    }
    for (url, port) in urls.iter_mut().zip(ports.iter().cycle()) {
        url.query_pairs_mut().append_pair("port", port);
    }
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<String> {
        split(text).unwrap_or_else(|error| panic!("{text}: {error}")).urls
    }

    #[test]
    fn each_host_becomes_a_url() {
        for (text, expected) in [
            ("postgres://u:p@h1/m", &["postgres://u:p@h1/m"][..]),
            ("postgresql:///m?host=/run", &["postgresql:///m?host=%2Frun"]),
            (
                "postgres://u:p%2C@h1:1,h2,[::1]:3/m?sslmode=disable",
                &[
                    "postgres://u:p%2C@h1:1/m?sslmode=disable",
                    "postgres://u:p%2C@h2/m?sslmode=disable",
                    "postgres://u:p%2C@[::1]:3/m?sslmode=disable",
                ],
            ),
            ("postgres://h1,h2", &["postgres://h1", "postgres://h2"]),
            ("postgres://%2Frun,h2:5/m", &["postgres://%2Frun/m", "postgres://h2:5/m"]),
            (
                "postgres:///m?host=h1,h2&port=1,2&user=u",
                &["postgres:///m?user=u&host=h1&port=1", "postgres:///m?user=u&host=h2&port=2"],
            ),
            ("postgres://h1,h2/m?port=7", &["postgres://h1/m?port=7", "postgres://h2/m?port=7"]),
        ] {
            assert_eq!(urls(text), expected, "{text}");
        }
    }

    #[test]
    fn several_servers_are_searched_for_the_one_that_writes() {
        for (text, target, connect_timeout) in [
            ("postgres://h1/m", TargetServer::Any, None),
            ("postgres://h1,h2/m", TargetServer::ReadWrite, None),
            ("postgres://h1,h2/m?target_session_attrs=any", TargetServer::Any, None),
            ("postgres://h1/m?target_session_attrs=read-write", TargetServer::ReadWrite, None),
            ("postgres://h1/m?target_session_attrs=primary", TargetServer::Primary, None),
            ("postgres://h1/m?connect_timeout=3", TargetServer::Any, Some(3)),
            ("postgres://h1/m?connect_timeout=0", TargetServer::Any, None),
        ] {
            let found = split(text).unwrap();
            let connect_timeout = connect_timeout.map(Duration::from_secs);
            assert_eq!((found.target, found.connect_timeout), (target, connect_timeout), "{text}");
            let removed = ["target_session_attrs", "connect_timeout"];
            assert!(!removed.iter().any(|key| found.urls.concat().contains(key)), "{text}");
        }
    }

    #[test]
    fn require_with_an_authority_checks_the_certificate() {
        let url = &urls("postgres://h/m?sslmode=require&sslrootcert=ca.pem")[0];
        assert!(url.contains("sslmode=verify-ca"), "{url}");
        let url = &urls("postgres://h/m?sslmode=require")[0];
        assert!(url.contains("sslmode=require"), "{url}");
    }

    #[test]
    fn parameters_without_an_effect_are_refused() {
        for (text, part) in [
            ("postgres://h/m?target_sesion_attrs=any", "no parameter `target_sesion_attrs`"),
            ("postgres://h/m?keepalives=1", "no parameter `keepalives`"),
            ("postgres://h/m?channel_binding=require", "no parameter `channel_binding`"),
            ("postgres://h/m?SSLMODE=require", "only parameters that have an effect"),
            ("postgres://h/m?application_name=x", "no `application_name`"),
            ("postgres://h/m?target_session_attrs=standby", "expected any, read-write or primary"),
            ("postgres://h/m?sslmode=on", "verify-full as `sslmode`, got on"),
            ("postgres://h/m?user=a&user=b", "`user` once"),
            ("postgres://h/m?connect_timeout=2s", "whole number of seconds"),
            ("postgres://h1,h2/m?host=h3", "not both"),
            ("postgres:///m?host=h1&hostaddr=::1", "expected one of `host` and `hostaddr`"),
            ("postgres:///m?host=h1,h2&port=1,2,3", "one for each of the 2 hosts, got 3"),
            ("postgres:///m?port=five", "expected port numbers"),
            ("postgres://h1,,h2/m", "for each of several hosts"),
            ("postgres://:5432,h2/m", "percent-encoded"),
            ("postgres:///m?host=h1,", "for each host of `host`"),
            ("postgres://h/m#x", "%23"),
            ("postgres://a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q/m", "at most 16 hosts, got 17"),
        ] {
            let error = split(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
