//! Callback URLs that callbacks cannot reach. A URL is refused if no setting can permit it. A URL that
//! the settings deny causes a warning.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use reqwest::Url;

use super::super::output;
use crate::config::Settings;
use crate::delivery::NetworkPolicy;

/// The time in which a name must resolve to addresses.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Parses the value of `--callback-url`.
pub(super) fn parse(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
        return Err("must be an http or https URL".to_owned());
    };
    if url.port() == Some(0) {
        return Err("port 0 cannot be connected to".to_owned());
    }
    if let Some(address) = address(&url) {
        NetworkPolicy::default().check(address).map_err(|denied| denied.to_string())?;
    }
    if host.trim_end_matches('.').rsplit('.').next() == Some("invalid") {
        return Err(format!("{host}: names under .invalid never have an address"));
    }
    Ok(text.to_owned())
}

/// Warns if the settings permit none of the addresses of the URL.
pub(super) async fn warn_if_denied(settings: &Settings, url: &str) {
    let Ok(url) = Url::parse(url) else { return };
    let addresses = match address(&url) {
        Some(address) => vec![address],
        None => resolve(&url).await,
    };
    let policy = NetworkPolicy::from_settings(settings);
    let denied: Option<Vec<_>> =
        addresses.into_iter().map(|address| policy.check(address).err()).collect();
    if let Some(first) = denied.as_deref().and_then(<[_]>::first) {
        let host = url.host_str().unwrap_or_default();
        output::warning(&format!("--callback-url: {host} cannot be reached now: {first}"));
    }
}

/// The address in a URL without a name.
fn address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// The addresses of the name in a URL; empty if the name has no address now, or if the resolver is
/// slow.
async fn resolve(url: &Url) -> Vec<IpAddr> {
    let Some(host) = url.host_str().map(str::to_owned) else { return Vec::new() };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // The end of the command does not wait for this thread, as it would for a task.
    std::thread::spawn(move || {
        let found: Vec<SocketAddr> =
            (host.as_str(), 0).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
        let _ = sender.send(found);
    });
    match tokio::time::timeout(RESOLVE_TIMEOUT, receiver).await {
        Ok(Ok(found)) => found.into_iter().map(|address| address.ip()).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn urls_that_can_be_reached_are_accepted() {
        for url in [
            "http://127.0.0.1:8080/hook",
            "https://hooks.example.org/a?b=c",
            "http://[fd00::1]/",
            "http://localhost",
            "http://invalid.example/",
        ] {
            assert_eq!(parse(url).as_deref(), Ok(url));
        }
    }

    #[test]
    fn urls_that_can_never_be_reached_are_refused() {
        for (url, error) in [
            ("ftp://a", "must be an http or https URL"),
            ("http://a:0/", "port 0 cannot be connected to"),
            ("http://169.254.169.254/", "callbacks may not go to 169.254.169.254: a link-local"),
            ("http://2852039166/", "callbacks may not go to 169.254.169.254: a link-local"),
            ("http://[::ffff:a9fe:a9fe]/", "a link-local address is never permitted"),
            ("http://0.0.0.0:8080/", "an address of no host is never permitted"),
            ("http://[::]/", "an address of no host is never permitted"),
            ("http://255.255.255.255/", "a reserved address is never permitted"),
            ("http://hook.invalid./", "names under .invalid never have an address"),
        ] {
            let refusal = parse(url).unwrap_err();
            assert!(refusal.contains(error), "{url}: {refusal}");
        }
        assert!(parse("http://").is_err() && parse("hook").is_err());
    }
}
