//! The rules between several keys, and the values that depend on another key.

use super::*;

#[test]
fn the_slowest_request_is_cut_off_within_ten_seconds() {
    let ServerConfig { header_timeout, body_timeout, .. } = load(None, &[]).unwrap().server;
    // Because of TLS, the first header section may take half a second more. After a refused body
    // the connection stays open for up to a second.
    let slowest = header_timeout + body_timeout + 3 * SECOND / 2;
    assert!(slowest < 10 * SECOND, "{slowest:?}");
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
