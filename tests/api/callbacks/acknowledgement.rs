//! The responses that acknowledge a callback, and the record of each attempt for operators.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::domain::DeliveryState;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::receiver::{Call, Receiver, Reply, reply_with};
use super::{
    TOKEN, attempts, create, delivery_id, find, rename, spawn, spawn_subscribed, subscriber,
    worker, worker_with,
};
use crate::harness::client::Client;
use crate::harness::store::AttemptRecord;
use crate::harness::{TestApp, insert};

/// Long enough for any healthy receiver on a busy machine.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// The expected record: whether the callback is acknowledged, the status, a part of the error, and
/// the response.
type Expected = (bool, Option<u16>, &'static str, Option<&'static str>);

fn head(text: &str) -> Reply {
    Reply::Raw(text.as_bytes().to_vec())
}

/// Sends one callback to each URL, and returns the attempt of each.
async fn send_to_each(
    app: &TestApp,
    receiver: &Receiver,
    urls: &[String],
) -> Vec<(bool, AttemptRecord)> {
    let mut subscribers = Vec::new();
    for url in urls {
        let stored = subscriber(url);
        receiver.add_app(Client::new(app.address, &stored, app.clock.clone()), TOKEN);
        insert(&app.pool, &stored).await;
        subscribers.push(stored);
    }
    let id = create(app).await;
    let mut worker = worker_with(app, |settings| {
        settings.delivery.connect_timeout = ATTEMPT_TIMEOUT;
        settings.delivery.attempt_timeout = ATTEMPT_TIMEOUT;
    })
    .await;
    assert_eq!(worker.drain().await.unwrap(), urls.len());
    let mut attempts_sent = Vec::new();
    for stored in &subscribers {
        let id = delivery_id(&id, 1, stored);
        let listed = find(app, &id).await;
        assert_eq!(listed.attempts, 1);
        let [attempt] = attempts(app, &id).await.try_into().unwrap();
        assert_eq!((attempt.attempt, attempt.started_at), (1, app.clock.now()));
        assert!((0..60_000).contains(&attempt.duration_ms), "{attempt:?}");
        match &attempt.error {
            None => assert_eq!(listed.state, DeliveryState::Delivered),
            Some(_) => {
                assert_eq!(listed.state, DeliveryState::Pending);
                assert!(listed.due_at > app.clock.now());
            }
        }
        attempts_sent.push((attempt.error.is_none(), attempt));
    }
    attempts_sent
}

fn check(case: &str, (acknowledged, attempt): &(bool, AttemptRecord), expected: &Expected) {
    let (expected_acknowledged, status, error, answer) = expected;
    let case = format!("{case}: {attempt:?}");
    assert_eq!(acknowledged, expected_acknowledged, "{case}");
    assert_eq!(attempt.status, *status, "{case}");
    assert!(attempt.error.as_deref().unwrap_or_default().contains(error), "{case}");
    if let Some(answer) = answer {
        assert_eq!(attempt.response_excerpt.as_deref(), Some(*answer), "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_explicit_acknowledgement_counts() {
    let (app, receiver) = (spawn().await, Receiver::start().await);
    let elsewhere = format!("location: {}\r\n", receiver.url("/elsewhere"));
    let long = Box::leak("x".repeat(5_000).into_boxed_str());
    let neither = "neither `ok`, nor the packageId, nor JSON";
    let late = |wait, reply| Reply::Late(Duration::from_millis(wait), Box::new(reply));
    let slow = 3_600_000;
    let cases: Vec<(&str, Reply, Expected)> = vec![
        ("ok", reply_with(200, "ok"), (true, Some(200), "", Some("ok"))),
        ("capitals", reply_with(200, "OK"), (true, Some(200), "", Some("OK"))),
        ("space", reply_with(200, " ok\n"), (true, Some(200), "", Some(" ok"))),
        (
            "json",
            reply_with(200, r#"{"errcode":0}"#),
            (true, Some(200), "", Some(r#"{"errcode":0}"#)),
        ),
        ("json text", reply_with(200, "\"OK\""), (true, Some(200), "", Some("\"OK\""))),
        ("json real", reply_with(200, r#"{"errcode":0.0}"#), (true, Some(200), "", None)),
        ("marked", reply_with(200, "\u{feff}ok"), (true, Some(200), "", None)),
        ("marked json", reply_with(200, "\u{feff}{\"errcode\":0}"), (true, Some(200), "", None)),
        ("more", reply_with(200, r#"{"errmsg":"ok", "errcode": 0}"#), (true, Some(200), "", None)),
        ("a while", late(200, Reply::Ok), (true, Some(200), "", Some("ok"))),
        (
            "chunked",
            head(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
            ),
            (true, Some(200), "", Some("ok")),
        ),
        ("until closed", head("HTTP/1.0 200 OK\r\n\r\nok"), (true, Some(200), "", Some("ok"))),
        ("errcode 1", reply_with(200, r#"{"errcode":1}"#), (false, Some(200), neither, None)),
        ("errcode text", reply_with(200, r#"{"errcode":"0"}"#), (false, Some(200), neither, None)),
        ("empty", reply_with(200, ""), (false, Some(200), neither, Some(""))),
        ("page", reply_with(200, "<html>ok</html>"), (false, Some(200), neither, None)),
        ("okay", reply_with(200, "okay"), (false, Some(200), neither, Some("okay"))),
        ("control", reply_with(200, "\0o\x1b[31mk"), (false, Some(200), neither, Some("o[31mk"))),
        ("500", reply_with(500, "ok"), (false, Some(500), "HTTP status 500", Some("ok"))),
        ("201", reply_with(201, "ok"), (false, Some(201), "HTTP status 201", Some("ok"))),
        ("204", reply_with(204, ""), (false, Some(204), "HTTP status 204", Some(""))),
        ("404", reply_with(404, "no"), (false, Some(404), "HTTP status 404", Some("no"))),
        (
            "redirect",
            Reply::Answer(302, elsewhere.clone(), "ok".to_owned()),
            (false, Some(302), "redirects are not followed", Some("ok")),
        ),
        (
            "repeat elsewhere",
            Reply::Answer(307, elsewhere, String::new()),
            (false, Some(307), "redirects are not followed", None),
        ),
        ("endless", Reply::Endless, (false, Some(200), "longer than 4096 bytes", None)),
        ("long", reply_with(200, long), (false, Some(200), "longer than 4096", Some(&long[..256]))),
        ("silent", late(slow, Reply::Ok), (false, None, "timed out", None)),
        (
            "stops",
            head("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"),
            (false, Some(200), "", Some("ok")),
        ),
        ("reset", Reply::Reset, (false, None, "failed: ", None)),
        ("closed", head(""), (false, None, "failed: ", None)),
        ("no HTTP", head("hello\r\n\r\n"), (false, None, "failed: ", None)),
    ];
    let urls: Vec<String> =
        (0..cases.len()).map(|case| receiver.url(&format!("/{case}"))).collect();
    let replies: Vec<Reply> = cases.iter().map(|(_, reply, _)| reply.clone()).collect();
    receiver.script(move |call| match call.path()[1..].parse::<usize>() {
        Ok(case) => replies[case].clone(),
        Err(_) => Reply::Ok,
    });
    let sent = send_to_each(&app, &receiver, &urls).await;
    for ((case, _, expected), attempt) in cases.iter().zip(&sent) {
        check(case, attempt, expected);
    }
    let calls = receiver.calls();
    let paths: BTreeSet<&str> = calls.iter().map(Call::path).collect();
    assert_eq!(paths.len(), cases.len(), "one attempt for each URL");
    // A kept connection that is closed without a response is replaced once.
    assert!(calls.len() <= cases.len() + 2, "{}", calls.len());
    assert!(calls.iter().all(|call| call.path() != "/elsewhere"));
}

/// The official receivers in Go and PHP answer with the `packageId` of the sealed message.
#[tokio::test(flavor = "multi_thread")]
async fn package_id_acknowledges_its_own_callback() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let id = create(&app).await;
    rename(&app, &id, 1).await;
    // The id of another version acknowledges nothing.
    receiver.script(|call| reply_with(200, &call.package_id.replace(".1.", ".2.")));
    let mut worker = worker(&app).await;
    assert_eq!(worker.drain().await.unwrap(), 1);
    assert_eq!(find(&app, &delivery_id(&id, 1, &stored)).await.state, DeliveryState::Pending);
    receiver.script(|call| reply_with(200, &format!("\r\n{} ", call.package_id)));
    app.clock.advance(Duration::from_secs(7));
    assert_eq!(worker.drain().await.unwrap(), 2);
    for version in [1, 2] {
        let listed = find(&app, &delivery_id(&id, version, &stored)).await;
        assert_eq!(listed.state, DeliveryState::Delivered);
    }
    let ids: Vec<String> = receiver.calls().into_iter().map(|call| call.package_id).collect();
    let expected = [1, 1, 2].map(|version| delivery_id(&id, version, &stored).to_string());
    assert_eq!(ids, expected, "each attempt has the id of its delivery");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_failures_are_recorded() {
    let (app, receiver) = (spawn().await, Receiver::start().await);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (early, self_signed) = (early_responder().await, self_signed().await);
    let cases: [(&str, String, Expected); 6] = [
        ("refused", format!("http://{closed}/"), (false, None, "cannot connect: ", None)),
        (
            "no such name",
            "http://no-such-host.invalid/".to_owned(),
            (false, None, "cannot connect: ", None),
        ),
        ("self-signed", format!("https://{self_signed}/"), (false, None, "certificate", None)),
        ("plain text", format!("https://{early}/"), (false, None, "cannot connect: ", None)),
        ("TLS on a plain port", format!("http://{self_signed}/"), (false, None, "failed: ", None)),
        // This receiver answers before it has read the request, so the attempt may also fail.
        ("early response", format!("http://{early}/"), (true, Some(200), "", Some("ok"))),
    ];
    let urls: Vec<String> = cases.iter().map(|(_, url, _)| url.clone()).collect();
    let sent = send_to_each(&app, &receiver, &urls).await;
    for ((case, _, expected), attempt) in cases.iter().zip(&sent) {
        if *case == "early response" && !attempt.0 {
            assert!(attempt.1.error.as_deref().unwrap().starts_with("failed: "), "{attempt:?}");
        } else {
            check(case, attempt, expected);
        }
        let record = format!("{:?}", attempt.1);
        assert!(!record.contains("msg_signature"), "{record}");
    }
}

/// A receiver that answers without reading the request.
async fn early_responder() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    });
    address
}

/// A TLS receiver with a self-signed certificate for `localhost` and 127.0.0.1, valid until 2126.
async fn self_signed() -> SocketAddr {
    const CERTIFICATE: &str = "\
        MIIBWzCCAQ2gAwIBAgIUL8lhDcUw47DJidkNBFno8LXiYkEwBQYDK2VwMBQxEjAQBgNVBAMMCWxvY2FsaG9zdDAgFw\
        0yNjExMjMxNDEwNDdaGA8yMTI2MTAzMDE0MTA0N1owFDESMBAGA1UEAwwJbG9jYWxob3N0MCowBQYDK2VwAyEAUOSn\
        YA7Q0UF1WqrcQJeRO8pJRiLQfzcZrUPQkVdINHujbzBtMB0GA1UdDgQWBBQrYdsZ5rXClNuFTYnHMUEF74HoeDAfBg\
        NVHSMEGDAWgBQrYdsZ5rXClNuFTYnHMUEF74HoeDAPBgNVHRMBAf8EBTADAQH/MBoGA1UdEQQTMBGCCWxvY2FsaG9z\
        dIcEfwAAATAFBgMrZXADQQDmLqdMUkYLHaVpzOqOwV4BjVGJcLW+r+ECy9DyZ6d6j3vkRDFNwpWAiy7CKf5ga+fsCG\
        ZUomYcVH3Afov2oQ4C";
    const KEY: &str = "MC4CAQAwBQYDK2VwBCIEIIwPJ3UaA0RKpo4TkuPL3HFMsghIG76dNiI+2IcIcbaW";
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = CertificateDer::from(STANDARD.decode(CERTIFICATE).unwrap());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(STANDARD.decode(KEY).unwrap()));
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut connection = rustls::ServerConnection::new(config.clone()).unwrap();
            tokio::spawn(async move {
                let mut bytes = [0; 8_192];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    let mut input = &bytes[..count];
                    let _ = connection.read_tls(&mut input);
                    let failed = connection.process_new_packets().is_err();
                    let mut output = Vec::new();
                    while connection.wants_write() {
                        connection.write_tls(&mut output).unwrap();
                    }
                    if stream.write_all(&output).await.is_err() || failed {
                        return;
                    }
                }
            });
        }
    });
    address
}
