//! TLS: protocols, timeouts, and the reload of certificates.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use chrono::TimeDelta;
use muster::clock::Clock;
use reqwest::{Version, tls};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

use super::{
    CertificateFiles, SHORT_TIMEOUT, SLOW_SEND_INTERVAL, WAIT_TIMEOUT, read_until_closed,
    read_until_closed_while, send_slowly, spawn_tls_app,
};
use crate::harness::process::Home;
use crate::harness::{TestApp, raw};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: muster\r\n\r\n";

fn url(app: &TestApp, path: &str) -> String {
    format!("https://{}{path}", app.address)
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_and_http2_work_over_tls12_and_tls13() {
    let certificate = CertificateFiles::new();
    let app = spawn_tls_app(&certificate, |_| {}).await;
    let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
    let create = url(&app, &format!("/cgi/session/create?accessToken={}", app.api_key));
    for (client, version) in [
        (certificate.client().http1_only(), Version::HTTP_11),
        (certificate.client(), Version::HTTP_2),
        (certificate.client().tls_version_max(tls::Version::TLS_1_2), Version::HTTP_2),
        (certificate.client().tls_version_min(tls::Version::TLS_1_3), Version::HTTP_2),
    ] {
        let request = client.build().unwrap().post(&create).body(body.to_string());
        let answer = request.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["errcode"], 0);
    }
    let other_client = CertificateFiles::new().client().build().unwrap();
    assert!(other_client.get(url(&app, "/healthz")).send().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_handshakes_time_out() {
    let certificate = CertificateFiles::new();
    let app = spawn_tls_app(&certificate, |settings| {
        settings.server.header_timeout = SHORT_TIMEOUT;
    })
    .await;
    for start in [HEALTH, b"", b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(start).await.unwrap();
        let received = read_until_closed(&mut stream).await;
        assert!(!received.starts_with(b"HTTP"), "{received:?}");
    }
    // A TLS client hello, byte by byte.
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let sending = send_slowly(&mut stream, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    timeout(WAIT_TIMEOUT, sending).await.expect("still open");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_timeouts_hold_over_tls() {
    let certificate = CertificateFiles::new();
    let app = spawn_tls_app(&certificate, |settings| {
        // The handshake and the first bytes of each request must fit into the timeout, even on a
        // busy machine.
        settings.server.header_timeout = 4 * SHORT_TIMEOUT;
        settings.server.body_timeout = 4 * SHORT_TIMEOUT;
    })
    .await;
    for (used, start) in [
        (false, "GET /healthz HTTP/1.1\r\nX-Slow: "),
        (true, "GET /healthz HTTP/1.1\r\nX-Slow: "),
        (true, "POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\nContent-Length: 9\r\n\r\n{"),
    ] {
        let mut stream = certificate.connect(app.address, "http/1.1").await;
        if used {
            stream.write_all(HEALTH).await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        }
        stream.write_all(start.as_bytes()).await.unwrap();
        let received = read_until_closed(&mut stream).await;
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
    timeout(WAIT_TIMEOUT, reading).await.expect("the settings are never acknowledged");
}

/// A new connection, and the part of a TLS record that is sent over it.
struct UnfinishedRecord {
    /// The time before the connection was opened.
    started_at: Instant,
    protocol: &'static str,
    stream: TlsStream<TcpStream>,
    /// The number of bytes that are sent at first.
    length: usize,
    /// Whether the other bytes are sent slowly. Otherwise they are never sent.
    sends_slowly: bool,
}

impl UnfinishedRecord {
    fn case(&self) -> String {
        let Self { protocol, length, sends_slowly, .. } = self;
        format!("{protocol}, {length} bytes, slowly: {sends_slowly}")
    }

    /// Sends the part of the record. Returns the plaintext that the server sends before it closes,
    /// and the time until then.
    async fn send(self) -> (Vec<u8>, Duration) {
        let Self { started_at, mut stream, length, sends_slowly, .. } = self;
        let record = records(&mut stream, &[b' '; 9999]);
        let (mut stream, mut session) = stream.into_inner();
        let (mut reader, mut writer) = stream.split();
        let sending = async {
            writer.write_all(&record[..length]).await.unwrap();
            if sends_slowly {
                send_slowly(&mut writer, &record[length..]).await;
            }
        };
        let bytes = read_until_closed_while(&mut reader, sending).await;
        let elapsed = started_at.elapsed();
        let mut received = Vec::new();
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() && session.read_tls(&mut bytes).unwrap() > 0 {
            session.process_new_packets().unwrap();
            // The server may close without a close_notify, which is an error here. The plaintext
            // comes before it.
            let _ = session.reader().read_to_end(&mut received);
        }
        (received, elapsed)
    }
}

/// Calls `test` with each kind of unfinished record, for each protocol.
async fn for_each_unfinished_record<F>(
    certificate: &CertificateFiles,
    app: &TestApp,
    test: impl Fn(UnfinishedRecord) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut calls = JoinSet::new();
    for protocol in ["http/1.1", "h2"] {
        for length in [1, 5, 100] {
            for sends_slowly in [false, true] {
                let started_at = Instant::now();
                let stream = certificate.connect(app.address, protocol).await;
                let record =
                    UnfinishedRecord { started_at, protocol, stream, length, sends_slowly };
                calls.spawn(test(record));
            }
        }
    }
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_tls_record_closes_an_idle_connection() {
    const HEADER_TIMEOUT: Duration = SHORT_TIMEOUT.saturating_mul(2);
    let certificate = CertificateFiles::new();
    // Only the timeout of the record applies.
    let app = spawn_tls_app(&certificate, |settings| {
        settings.server.header_timeout = HEADER_TIMEOUT;
        settings.server.body_timeout = 60 * SHORT_TIMEOUT;
    })
    .await;
    for_each_unfinished_record(&certificate, &app, |mut record| async move {
        if record.protocol == "h2" {
            record.stream.write_all(PREFACE).await.unwrap();
            settings_acknowledged(&mut record.stream).await;
        } else {
            record.stream.write_all(HEALTH).await.unwrap();
            assert_eq!(raw::read_response(&mut record.stream).await.status, 200);
        }
        let case = record.case();
        let (_, elapsed) = record.send().await;
        assert!(elapsed >= HEADER_TIMEOUT, "{case}: {elapsed:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn body_in_an_unfinished_tls_record_gets_the_body_timeout() {
    const BODY_TIMEOUT: Duration = SHORT_TIMEOUT.saturating_mul(5);
    const POST: &[u8] =
        b"POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\nContent-Length: 3999\r\n\r\n";
    // `POST /cgi/gettoken` with fields of the static table, and the header of a data frame.
    const POST2: &[u8] =
        b"\0\0\x11\x01\x04\0\0\0\x01\x83\x86\x04\x0d/cgi/gettoken\0\x27\x0f\0\0\0\0\0\x01";
    let certificate = CertificateFiles::new();
    let app = spawn_tls_app(&certificate, |settings| {
        settings.server.header_timeout = 2 * SHORT_TIMEOUT;
        settings.server.body_timeout = BODY_TIMEOUT;
    })
    .await;
    for_each_unfinished_record(&certificate, &app, |mut record| async move {
        let is_h2 = record.protocol == "h2";
        if is_h2 {
            record.stream.write_all(&[PREFACE, POST2].concat()).await.unwrap();
            settings_acknowledged(&mut record.stream).await;
        } else {
            record.stream.write_all(POST).await.unwrap();
        }
        let case = record.case();
        let (received, elapsed) = record.send().await;
        assert!(elapsed >= BODY_TIMEOUT, "{case}: {elapsed:?}");
        // Over HTTP/2, the server answers, then closes the connection as idle with an unfinished
        // record.
        let is_refused = match is_h2 {
            true => String::from_utf8_lossy(&received).contains("must arrive within 2s 500ms"),
            false => received.starts_with(b"HTTP/1.1 408 "),
        };
        assert!(is_refused, "{case}: {received:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_body_in_complete_records_gets_the_body_timeout() {
    let certificate = CertificateFiles::new();
    let app = spawn_tls_app(&certificate, |settings| {
        settings.server.header_timeout = 2 * SHORT_TIMEOUT;
    })
    .await;
    let mut stream = certificate.connect(app.address, "http/1.1").await;
    let header = "POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\nContent-Length: 30\r\n\r\n";
    stream.write_all(header.as_bytes()).await.unwrap();
    let body: Vec<u8> = (0..30).flat_map(|_| records(&mut stream, b" ")).collect();
    let mut interval = tokio::time::interval(SLOW_SEND_INTERVAL);
    // Sending all chunks takes longer than the header timeout. Few chunks end where a record ends.
    let chunks: Vec<&[u8]> = body.chunks(17).collect();
    let pauses = u32::try_from(chunks.len() - 1).unwrap();
    assert!(SLOW_SEND_INTERVAL * pauses > 3 * SHORT_TIMEOUT, "{pauses} pauses");
    for chunk in chunks {
        interval.tick().await;
        stream.get_mut().0.write_all(chunk).await.unwrap();
    }
    assert_eq!(raw::read_response(&mut stream).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn reloaded_certificate_applies_to_new_connections() {
    let certificate = CertificateFiles::new();
    let app = spawn_tls_app(&certificate, |_| {}).await;
    let mut open = certificate.connect(app.address, "http/1.1").await;
    certificate.renew();
    let renewed = async {
        let client = || certificate.client().pool_max_idle_per_host(0).build().unwrap();
        while client().get(url(&app, "/healthz")).send().await.is_err() {}
    };
    timeout(WAIT_TIMEOUT, renewed).await.expect("the new certificate is never shown");
    open.write_all(HEALTH).await.unwrap();
    let mut answer = [0; 15];
    open.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reloads_and_keeps_a_working_certificate() {
    let certificate = CertificateFiles::new();
    let files = certificate.files();
    let mut home = Home::with_database();
    home.set("MUSTER__SERVER__TLS_CERT", files.cert.to_str().unwrap());
    home.set("MUSTER__SERVER__TLS_KEY", files.key.to_str().unwrap());
    home.set("MUSTER__SERVER__TLS_RELOAD_INTERVAL", "1day");
    let server = home.serve();
    let health = format!("https://{}/healthz", server.address);
    let works = async |certificate: &CertificateFiles| {
        certificate
            .client()
            .build()
            .unwrap()
            .get(&health)
            .send()
            .await
            .is_ok_and(|got| got.status() == 200)
    };
    assert!(works(&certificate).await);
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
    assert!(works(&certificate).await);
    let report = home.run(&["doctor"]);
    assert_eq!(report.status.code(), Some(1));
    let found = report.stdout.lines().find(|line| line.starts_with("FAIL  tls")).unwrap();
    assert!(found.contains("the file has no private key"), "{found}");

    std::fs::write(&files.key, key).unwrap();
    certificate.renew();
    server.running.signal(Signal::HUP);
    server.running.until_stderr("the reload", logged("the certificate has changed"));
    assert!(works(&certificate).await);
    server.stop();

    std::fs::write(&files.cert, "nonsense").unwrap();
    home.run(&["serve"]).fails(2, &["server.tls_cert", "the file has no certificate"]);
    std::fs::remove_file(&files.cert).unwrap();
    home.run(&["serve"]).fails(2, &["server.tls_cert", "cannot read", "cert"]);
}

#[test]
fn certificate_expiry_is_logged_in_time() {
    let certificate = CertificateFiles::new();
    let ends_in = |days: i64| {
        let ends = Clock::system().now() + TimeDelta::days(days) + TimeDelta::hours(1);
        certificate.renew_until(ends);
        ends.format("%F %T UTC").to_string()
    };
    let files = certificate.files();
    let mut home = Home::with_database();
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
