//! TLS: protocols, timeouts, and the reload of certificates.

use std::io::{Read as _, Write as _};

use chrono::TimeDelta;
use muster::clock::Clock;
use reqwest::{Version, tls};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::{BRIEF, DRIP, Pair, SOON, closed_soon, closed_while, drip, spawn_tls_app, timed};
use crate::harness::process::Home;
use crate::harness::{TestApp, raw};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: muster\r\n\r\n";

fn url(app: &TestApp, path: &str) -> String {
    format!("https://{}{path}", app.address)
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_and_http2_work_over_tls12_and_tls13() {
    let pair = Pair::new();
    let app = spawn_tls_app(&pair, |_| {}).await;
    let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
    let create = url(&app, &format!("/cgi/session/create?accessToken={}", app.api_key));
    for (client, version) in [
        (pair.client().http1_only(), Version::HTTP_11),
        (pair.client(), Version::HTTP_2),
        (pair.client().tls_version_max(tls::Version::TLS_1_2), Version::HTTP_2),
        (pair.client().tls_version_min(tls::Version::TLS_1_3), Version::HTTP_2),
    ] {
        let request = client.build().unwrap().post(&create).body(body.to_string());
        let answer = request.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["errcode"], 0);
    }
    let stranger = Pair::new().client().build().unwrap();
    assert!(stranger.get(url(&app, "/healthz")).send().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_handshakes_time_out() {
    let pair = Pair::new();
    let app = spawn_tls_app(&pair, |settings| settings.server.header_timeout = BRIEF).await;
    for start in [HEALTH, b"", b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(start).await.unwrap();
        let received = closed_soon(&mut stream).await;
        assert!(!received.starts_with(b"HTTP"), "{received:?}");
    }
    // A TLS client hello, byte by byte.
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let dripping = drip(&mut stream, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    timeout(SOON, dripping).await.expect("still open");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_timeouts_hold_over_tls() {
    let pair = Pair::new();
    let app = spawn_tls_app(&pair, |settings| {
        // The handshake and the first bytes of each request must fit into the timeout, even on a
        // busy machine.
        settings.server.header_timeout = 4 * BRIEF;
        settings.server.body_timeout = 4 * BRIEF;
    })
    .await;
    for (used, start) in [
        (false, "GET /healthz HTTP/1.1\r\nX-Slow: "),
        (true, "GET /healthz HTTP/1.1\r\nX-Slow: "),
        (true, "POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\nContent-Length: 9\r\n\r\n{"),
    ] {
        let mut stream = pair.connect(app.address, "http/1.1").await;
        if used {
            stream.write_all(HEALTH).await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        }
        stream.write_all(start.as_bytes()).await.unwrap();
        let received = closed_soon(&mut stream).await;
        assert!(received.is_empty() || received.starts_with(b"HTTP/1.1 408 "), "{start}");
    }
}

/// The TLS records that would carry `content`.
fn records(stream: &mut TlsStream<TcpStream>, content: &[u8]) -> Vec<u8> {
    let (_, session) = stream.get_mut();
    session.writer().write_all(content).unwrap();
    let mut records = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut records).unwrap();
    }
    records
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Reads until the server acknowledges the settings of [`PREFACE`], so all bytes before were read.
async fn settings_acknowledged(stream: &mut TlsStream<TcpStream>) {
    const ACKNOWLEDGED: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";
    let mut received = Vec::new();
    let reading = async {
        while !received.windows(ACKNOWLEDGED.len()).any(|frame| frame == ACKNOWLEDGED) {
            assert!(
                stream.read_buf(&mut received).await.unwrap() > 0,
                "closed behind {received:?}"
            );
        }
    };
    timeout(SOON, reading).await.expect("the settings are never acknowledged");
}

/// Sends the first `length` bytes of a TLS record that would carry `content`. The rest drips or is
/// never sent. Returns the plaintext that the server sends before it closes.
async fn closed_in_a_record(
    mut stream: TlsStream<TcpStream>,
    length: usize,
    drips: bool,
) -> Vec<u8> {
    let slow = records(&mut stream, &[b' '; 9999]);
    let (mut below, mut session) = stream.into_inner();
    let (mut reads, mut writes) = below.split();
    let sending = async {
        writes.write_all(&slow[..length]).await.unwrap();
        if drips {
            drip(&mut writes, &slow[length..]).await;
        }
    };
    let bytes = closed_while(&mut reads, sending).await;
    let mut received = Vec::new();
    let mut bytes = bytes.as_slice();
    while !bytes.is_empty() && session.read_tls(&mut bytes).unwrap() > 0 {
        session.process_new_packets().unwrap();
        // The server may close without a close_notify, which is an error here. The plaintext comes
        // before it.
        let _ = session.reader().read_to_end(&mut received);
    }
    received
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_tls_record_closes_an_idle_connection() {
    let pair = Pair::new();
    // Only the timeout of the record applies.
    let app = spawn_tls_app(&pair, |settings| {
        settings.server.header_timeout = 2 * BRIEF;
        settings.server.body_timeout = 60 * BRIEF;
    })
    .await;
    let mut calls = JoinSet::new();
    for protocol in ["http/1.1", "h2"] {
        for length in [1, 5, 100] {
            for drips in [false, true] {
                let mut stream = pair.connect(app.address, protocol).await;
                calls.spawn(async move {
                    if protocol == "h2" {
                        stream.write_all(PREFACE).await.unwrap();
                        settings_acknowledged(&mut stream).await;
                    } else {
                        stream.write_all(HEALTH).await.unwrap();
                        assert_eq!(raw::read_response(&mut stream).await.status, 200);
                    }
                    let (_, elapsed) = timed(closed_in_a_record(stream, length, drips)).await;
                    assert!(elapsed >= BRIEF, "{protocol} {length} {drips}: {elapsed:?}");
                });
            }
        }
    }
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn body_in_an_unfinished_tls_record_gets_the_body_timeout() {
    const POST: &[u8] =
        b"POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\nContent-Length: 9999\r\n\r\n";
    // `POST /cgi/gettoken` with fields of the static table, and the header of a data frame.
    const POST2: &[u8] =
        b"\0\0\x11\x01\x04\0\0\0\x01\x83\x86\x04\x0d/cgi/gettoken\0\x27\x0f\0\0\0\0\0\x01";
    let pair = Pair::new();
    let app = spawn_tls_app(&pair, |settings| {
        settings.server.header_timeout = 2 * BRIEF;
        settings.server.body_timeout = 5 * BRIEF;
    })
    .await;
    let mut calls = JoinSet::new();
    for protocol in ["http/1.1", "h2"] {
        for length in [1, 5, 100] {
            for drips in [false, true] {
                let mut stream = pair.connect(app.address, protocol).await;
                calls.spawn(async move {
                    if protocol == "h2" {
                        stream.write_all(&[PREFACE, POST2].concat()).await.unwrap();
                        settings_acknowledged(&mut stream).await;
                    } else {
                        stream.write_all(POST).await.unwrap();
                    }
                    let (received, elapsed) =
                        timed(closed_in_a_record(stream, length, drips)).await;
                    let case = format!("{protocol} {length} {drips}: {elapsed:?}");
                    assert!(elapsed >= 4 * BRIEF, "{case}");
                    if protocol == "http/1.1" {
                        assert!(received.starts_with(b"HTTP/1.1 408 "), "{case}: {received:?}");
                    } else {
                        // The server answers, then closes the connection as idle with an unfinished
                        // record.
                        let body = b"body: must arrive within 2s 500ms";
                        let found = received.windows(body.len()).any(|part| part == body);
                        assert!(found && elapsed >= 5 * BRIEF, "{case}: {received:?}");
                    }
                });
            }
        }
    }
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_body_in_complete_records_gets_the_body_timeout() {
    let pair = Pair::new();
    let app = spawn_tls_app(&pair, |settings| settings.server.header_timeout = BRIEF).await;
    let mut stream = pair.connect(app.address, "http/1.1").await;
    let head = "POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\nContent-Length: 30\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let body: Vec<u8> = (0..30).flat_map(|_| records(&mut stream, b" ")).collect();
    let mut interval = tokio::time::interval(DRIP);
    let (_, elapsed) = timed(async {
        // Few chunks end at the end of a record.
        for part in body.chunks(17) {
            interval.tick().await;
            stream.get_mut().0.write_all(part).await.unwrap();
        }
    })
    .await;
    assert!(elapsed > 3 * BRIEF, "{elapsed:?}");
    assert_eq!(raw::read_response(&mut stream).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn reloaded_certificate_applies_to_new_connections() {
    let pair = Pair::new();
    let app = spawn_tls_app(&pair, |_| {}).await;
    let mut open = pair.connect(app.address, "http/1.1").await;
    pair.renew();
    let renewed = async {
        let client = || pair.client().pool_max_idle_per_host(0).build().unwrap();
        while client().get(url(&app, "/healthz")).send().await.is_err() {}
    };
    timeout(SOON, renewed).await.expect("the new certificate is never shown");
    open.write_all(HEALTH).await.unwrap();
    let mut answer = [0; 15];
    open.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reloads_and_keeps_a_working_certificate() {
    let pair = Pair::new();
    let files = pair.files();
    let mut home = Home::lived_in();
    home.set("MUSTER__SERVER__TLS_CERT", files.cert.to_str().unwrap());
    home.set("MUSTER__SERVER__TLS_KEY", files.key.to_str().unwrap());
    home.set("MUSTER__SERVER__TLS_RELOAD_INTERVAL", "1day");
    let server = home.serve();
    let health = format!("https://{}/healthz", server.address);
    let works = async |pair: &Pair| {
        pair.client()
            .build()
            .unwrap()
            .get(&health)
            .send()
            .await
            .is_ok_and(|got| got.status() == 200)
    };
    assert!(works(&pair).await);
    assert!(server.running.stdout().contains(&format!("https://{}", server.address)));

    home.set("MUSTER__SERVER__BIND", &server.address.to_string());
    let report = home.run(&["doctor"]).ok();
    assert!(report.stdout.contains("is used by a running Muster"), "{}", report.stdout);
    assert!(report.stdout.contains("and its key can be used"), "{}", report.stdout);
    assert_eq!(home.run(&["health"]).ok().stdout, "ready\n");

    let key = std::fs::read(&files.key).unwrap();
    std::fs::write(&files.key, "nonsense").unwrap();
    server.running.signal(Signal::HUP);
    let logged = |text: &'static str| move |log: &str| log.contains(text).then_some(());
    server.running.until_stderr("the refused reload", logged("the previous one stays in use"));
    assert!(works(&pair).await);
    let report = home.run(&["doctor"]);
    assert_eq!(report.status.code(), Some(1));
    let found = report.stdout.lines().find(|line| line.starts_with("FAIL  tls")).unwrap();
    assert!(found.contains("there is no private key"), "{found}");

    std::fs::write(&files.key, key).unwrap();
    pair.renew();
    server.running.signal(Signal::HUP);
    server.running.until_stderr("the reload", logged("the certificate has changed"));
    assert!(works(&pair).await);
    server.stop();

    std::fs::write(&files.cert, "nonsense").unwrap();
    home.run(&["serve"]).fails(2, &["server.tls_cert", "there is no certificate in it"]);
    std::fs::remove_file(&files.cert).unwrap();
    home.run(&["serve"]).fails(2, &["server.tls_cert", "cannot read", "cert"]);
}

#[test]
fn certificate_expiry_is_logged_in_time() {
    let pair = Pair::new();
    let ends_in = |days: i64| {
        let ends = Clock::system().now() + TimeDelta::days(days) + TimeDelta::hours(1);
        pair.renew_until(ends);
        ends.format("%F %T UTC").to_string()
    };
    let files = pair.files();
    let mut home = Home::lived_in();
    home.set("MUSTER__SERVER__TLS_CERT", files.cert.to_str().unwrap());
    home.set("MUSTER__SERVER__TLS_KEY", files.key.to_str().unwrap());
    home.set("MUSTER__SERVER__TLS_RELOAD_INTERVAL", "1day");
    let logged = |part: String| move |log: &str| log.contains(&part).then_some(());
    let check = |home: &Home, verdict: &str, part: &str| {
        let report = home.run(&["doctor"]).ok().stdout;
        let found = report.lines().find(|line| line[6..].starts_with("tls ")).unwrap();
        assert!(found.starts_with(verdict) && found.contains(part), "{found}");
    };

    let soon = ends_in(13);
    let server = home.serve();
    server.running.until_stderr("at the start", logged(format!("ends on {soon}, in 13 days")));
    check(&home, "warn", &format!("ends on {soon}, in 13 days"));
    ends_in(14);
    server.running.signal(Signal::HUP);
    server.running.until_stderr("the change", logged("the certificate has changed".to_owned()));
    check(&home, "ok", "can be used");
    let past = ends_in(-1);
    server.running.signal(Signal::HUP);
    server.running.until_stderr("at the reload", logged(format!("ended on {past}: renew it")));
    check(&home, "warn", &format!("ended on {past}"));
    let log = server.stop().stderr;
    assert_eq!(log.matches("renew it").count(), 2, "{log}");
}
