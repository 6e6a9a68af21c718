//! The content of the log, and the secrets that it must not contain.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::process::{Home, Server, http};
use crate::harness::wait_until;

const TITLE: &str = "Zeppelin-Protokoll";
const ACCOUNT: &str = "quetzalcoatl";
const PASSWORDS: [&str; 2] = ["accessToken=", "accessToken%3D"];

/// Sends bytes unchanged and returns the whole response.
fn send(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Makes valid and invalid calls of every kind. Returns the texts that the log must not contain.
async fn everything(home: &Home, server: &Server) -> Vec<String> {
    let credentials = home.credentials();
    let api_key = home.api_key();
    let client = server.client(&credentials);
    let caller = server.plain_client(&api_key);
    let token = client.token().await;

    let new = json!({ "title": TITLE, "creator": ACCOUNT, "member": ["b", "c"] });
    let sealed = client.post_sealed(&token, "/cgi/session/create", &new).await;
    assert_eq!(sealed["errcode"], 0, "{sealed}");
    let plain = caller.post("create", &new).await;
    for session in [&sealed, &plain] {
        let id = session["sessionId"].as_str().unwrap();
        assert_eq!(client.get_session(&token, id).await["errcode"], 0);
        assert_eq!(caller.get(id).await["errcode"], 0);
        let update = json!({ "sessionId": id, "opUser": ACCOUNT, "title": format!("{TITLE}!") });
        client.post_sealed(&token, "/cgi/session/update", &update).await;
        caller.post("update", &update).await;
        let refused = json!({ "sessionId": id, "opUser": "outsider", "title": TITLE });
        assert_eq!(caller.post("update", &refused).await["errcode"], 4);
        let conflict = json!({
            "sessionId": id, "opUser": ACCOUNT, "title": "x", "version": 77,
        });
        assert_eq!(caller.post("update", &conflict).await["errcode"], 400_009);
    }
    // Invalid messages, sessions, tokens, keys, methods and paths.
    let get = async |path: String| client.get(&path).await.status();
    client.post(&format!("/cgi/session/create?accessToken={token}"), TITLE).await;
    client.post(&format!("/cgi/session/create?accessToken={api_key}"), format!("{{{TITLE}")).await;
    client.post(&format!("/cgi/session/create?accessToken={api_key}x"), new.to_string()).await;
    client.post(&format!("/cgi/gettoken?accessToken={token}"), format!("buin={TITLE}")).await;
    let long = json!({ "title": TITLE.repeat(9), "creator": ACCOUNT, "member": [] });
    assert_eq!(caller.post("create", &long).await["errcode"], 100_003);
    assert_eq!(get(format!("/cgi/session/get?sessionId={TITLE}&accessToken={token}")).await, 200);
    assert_eq!(
        get(format!("/cgi/session/get?accessToken={}", &token[..token.len() - 1])).await,
        200
    );
    assert_eq!(get(format!("/cgi/session/update?accessToken={token}")).await, 405);
    assert_eq!(get(format!("/cgi/session/nothing?accessToken={token}")).await, 404);
    // An account in the path.
    let id = plain["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    for path in [format!("/v1/sessions/{id}/members/{ACCOUNT}"), format!("/v1/members/{ACCOUNT}")] {
        let request = client.request(reqwest::Method::GET, &path).bearer_auth(&api_key);
        assert!([200, 404].contains(&request.send().await.unwrap().status().as_u16()));
    }
    // The question mark is missing or encoded.
    assert_eq!(get(format!("/cgi/session/get&accessToken={token}")).await, 404);
    assert_eq!(get(format!("/cgi/session/get%3FaccessToken%3D{api_key}")).await, 404);
    assert_eq!(get(format!("/cgi/session/get/accessToken={token}/more")).await, 404);
    let mut other = client.clone();
    other.key[0] ^= 1;
    other.post("/cgi/gettoken", client.envelope(TITLE).to_string()).await;
    let body = other.envelope(TITLE).to_string();
    client.post("/cgi/gettoken", body).await;

    let aes_key = credentials["aesKey"].as_str().unwrap().to_owned();
    let half = |secret: &str| secret[secret.len() / 2..].to_owned();
    let mut secrets = vec![half(&token), half(&api_key), half(&aes_key), token, api_key, aes_key];
    secrets.extend([TITLE, ACCOUNT].map(str::to_owned));
    secrets.extend(PASSWORDS.map(str::to_owned));
    secrets
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_content_is_ever_logged() {
    for (level, format) in [("trace", "json"), ("info", "pretty")] {
        let mut home = Home::with_database();
        home.set("MUSTER__LOG__LEVEL", level).set("MUSTER__LOG__FORMAT", format);
        home.set("MUSTER__DATABASE__ACQUIRE_TIMEOUT", "1s");
        let server = home.serve();
        let secrets = everything(&home, &server).await;
        // The same while PostgreSQL cannot be started.
        let settings = home.postgres().join("postgresql.conf");
        let text = std::fs::read_to_string(&settings).unwrap();
        std::fs::write(&settings, text + "work_mem = plenty\n").unwrap();
        home.kill_postgres();
        let caller = server.plain_client(&home.api_key());
        let new = json!({ "title": TITLE, "creator": ACCOUNT, "member": ["b", "c"] });
        assert_eq!(caller.post("create", &new).await["errcode"], -1);
        server.running.signal(rustix::process::Signal::TERM);
        let output = server.running.output();
        assert!(output.stderr.lines().count() > 20, "{output:#?}");
        for secret in &secrets {
            for line in output.stderr.lines().chain(output.stdout.lines()) {
                let is_hint = line.contains("curl -s") && PASSWORDS.contains(&secret.as_str());
                assert!(is_hint || !line.contains(secret), "{secret} in {level} {format}: {line}");
            }
        }
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
        if format == "json" {
            for line in output.stderr.lines() {
                let line: Value =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
            }
        }
    }
}

/// The log entries of requests.
fn requests(log: &str) -> Vec<Value> {
    log.lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        })
        .filter(|line| line["message"] == "request")
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_one_log_line() {
    let mut home = Home::with_database();
    home.set("MUSTER__LOG__FORMAT", "json");
    let server = home.serve();
    let client = server.client(&home.credentials());
    let caller = server.plain_client(&home.api_key());
    let app_id = client.app_id.clone();
    let session = caller.create().await;
    let id = session["sessionId"].as_str().unwrap();
    let token = client.token().await;
    client.get_session(&token, id).await;
    let refused = json!({ "sessionId": id, "opUser": "outsider", "title": "x" });
    caller.post("update", &refused).await;
    client.get("/cgi/nothing").await;
    client.get("/v1/limits").await;
    client.get("/healthz").await;
    let with_id = client.request(reqwest::Method::GET, "/cgi/session/get");
    let answer = with_id.header("X-Request-Id", "mine-0.1").send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "mine-0.1");

    let log = server.stop().stderr;
    let lines = requests(&log);
    let logged: Vec<_> = lines
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            (
                text("method"),
                text("path"),
                line["status"].as_u64().unwrap(),
                line["errcode"].as_i64().map_or(line["code"].clone(), Value::from),
                text("app_id") == app_id,
                text("session_id") == id,
            )
        })
        .collect();
    let line = |method: &str, path: &str, status, outcome: Value, app, session| {
        (method.to_owned(), path.to_owned(), status, outcome, app, session)
    };
    assert_eq!(
        logged,
        [
            line("POST", "/cgi/session/create", 200, json!(0), true, true),
            line("POST", "/cgi/gettoken", 200, json!(0), true, false),
            line("GET", "/cgi/session/get", 200, json!(0), true, true),
            line("POST", "/cgi/session/update", 200, json!(4), true, true),
            line("GET", "/cgi/nothing", 404, json!(100_003), false, false),
            line("GET", "/v1/limits", 401, json!("missing_api_key"), false, false),
            line("GET", "/healthz", 200, Value::Null, false, false),
            line("GET", "/cgi/session/get", 200, json!(100_000), false, false),
        ]
    );
    for line in &lines {
        assert!(line["duration_ms"].as_f64().is_some_and(|elapsed| elapsed > 0.0), "{line}");
        let digits = line["duration_ms"].to_string().split('.').nth(1).map_or(0, str::len);
        assert!(digits <= 3, "whole microseconds: {line}");
        assert!(!line["request_id"].as_str().unwrap().is_empty(), "{line}");
    }
    assert_eq!(lines.last().unwrap()["request_id"], "mine-0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_tells_a_wrong_clock_from_a_wrong_key() {
    let mut home = Home::with_database();
    home.set("MUSTER__LOG__FORMAT", "json");
    let server = home.serve();
    let client = server.client(&home.credentials());
    let mut other = client.clone();
    other.key[0] ^= 1;
    let now = client.clock.now().timestamp();
    let mut answers = Vec::new();
    for (client, time) in [
        (&other, now.to_string()),
        (&client, (now + 3_600).to_string()),
        (&client, (now - 3_600).to_string()),
        (&client, (now * 1_000).to_string()),
        (&client, format!("{now}.5")),
        (&client, "%d".to_owned()),
    ] {
        let body = client.envelope(&time).to_string();
        answers.push(client.post("/cgi/gettoken", body).await.json::<Value>().await.unwrap());
    }
    answers.dedup();
    let [answer] = answers.as_slice() else { panic!("{answers:#?}") };
    assert!(
        answer["errmsg"].as_str().unwrap().ends_with("key, or its time is more than 300 s off")
    );

    let lines = requests(&server.stop().stderr);
    let reasons: Vec<_> = lines.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    let differs = |reason: &str, end: &str| -> i64 {
        let reason = reason.strip_prefix("the client's clock is ").unwrap();
        reason.strip_suffix(end).unwrap_or_else(|| panic!("{reason}")).parse().unwrap()
    };
    assert_eq!(reasons[0], "the sealed text cannot be opened with the app's key");
    // The server reads its clock a little later than the client.
    assert!((3_500..=3_600).contains(&differs(reasons[1], " s ahead of the server's")));
    assert!((3_600..3_700).contains(&differs(reasons[2], " s behind the server's")));
    assert!(differs(reasons[3], " s ahead of the server's") > 1_000_000_000_000);
    for reason in &reasons[4..] {
        assert_eq!(*reason, "the sealed message is not a time in whole Unix seconds");
    }
    assert!(lines.iter().all(|line| line["level"] == "INFO" && line["cause"].is_null()));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_cannot_forge_log_lines() {
    for format in ["json", "pretty"] {
        let mut home = Home::with_database();
        home.set("MUSTER__LOG__FORMAT", format);
        let server = home.serve();
        let forged = "INFO forged";
        for request in [
            &b"GET /a%0d%0aINFO%20forged HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"[..],
            b"GET /a%1b%5b31mINFO%20forged HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"GET /a\x1b[31mINFO HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"GET /a\xe2\x80\xa8INFO\xff\xc2\x85 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"GET /a\"\\,\"forged\":\"INFO HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: \x1b[31mINFO forged\r\nConnection: close\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: a b INFO forged\r\nConnection: close\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\rINFO forged\r\nConnection: close\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: \xe2\x80\xa8\r\nConnection: close\r\n\r\n",
            b"INFO\x1b[31mforged / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"FORGED / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        ] {
            let answer = send(&server, request);
            assert!(answer.starts_with("HTTP/1.1 "), "{answer:?}");
            assert!(!answer.contains('\x1b'), "{answer:?}");
        }
        let long = "x".repeat(200);
        let id = format!(
            "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: {long}\r\nConnection: close\r\n\r\n"
        );
        assert!(!send(&server, id.as_bytes()).contains(&long));
        let log = server.stop().stderr;
        assert!(!log.contains(['\x1b', '\r', '\u{2028}', '\u{85}']), "{log:?}");
        assert!(!log.contains(forged), "{log}");
        for line in log.lines() {
            match format {
                "json" => {
                    let line: Value = serde_json::from_str(line).unwrap();
                    assert_eq!(line.get("forged"), None, "{line}");
                }
                // Each line begins with its time.
                _ => assert!(line.starts_with("20") && line[..32].contains("Z "), "{line}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disabled_log_is_silent() {
    let mut home = Home::with_database();
    home.set("MUSTER__LOG__LEVEL", "off");
    let server = home.serve();
    server.plain_client(&home.api_key()).create().await;
    assert_eq!(server.stop().stderr, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn non_http_traffic_is_not_logged() {
    for named in [false, true] {
        let mut home = Home::with_database();
        if named {
            home.set("MUSTER__LOG__LEVEL", "info,actix_http=error");
        }
        let server = home.serve();
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000));
        let requests: [(&[u8], &str); 5] = [
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\r\n\r\n", "400"),
            (b"SSH-2.0-scanner\r\n\r\n", "400"),
            (b"GET / HTTP/9.9\r\n\r\n", "400"),
            (b"POST /cgi/gettoken HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
            (long.as_bytes(), "431"),
        ];
        for (request, status) in requests {
            let answer = send(&server, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
            assert!(answer.contains("content-length: 0\r\n"), "{answer:?}");
        }
        let log = server.stop().stderr;
        assert_eq!(log.contains("actix_http"), named, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_is_logged_at_its_begin_and_its_end() {
    let mut home = Home::with_database();
    home.set("MUSTER__LOG__FORMAT", "json").set("MUSTER__DATABASE__ACQUIRE_TIMEOUT", "1s");
    let server = home.serve();
    let caller = server.plain_client(&home.api_key());
    // PostgreSQL cannot be started again.
    let settings = home.postgres().join("postgresql.conf");
    let right = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{right}work_mem = plenty\n")).unwrap();
    home.kill_postgres();
    let new = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
    let lists = http();
    for _ in 0..30 {
        caller.post("create", &new).await;
        let list = lists.get(server.url("/v1/sessions")).bearer_auth(&caller.api_key);
        assert!(list.send().await.unwrap().status().is_server_error());
    }
    std::fs::write(&settings, right).unwrap();
    wait_until("the end", async || caller.post("create", &new).await["errcode"] == 0).await;
    let log = server.stop().stderr;
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let with = |text: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["message"].as_str().unwrap().contains(text)).collect()
    };
    let began = with("the database cannot be reached");
    assert_eq!(began.len(), 1, "{began:#?}");
    assert_eq!(began[0]["level"], "ERROR");
    assert!(began[0]["cause"].is_string(), "{began:#?}");
    let ended = with("the database can be reached again");
    assert_eq!(ended.len(), 1, "{ended:#?}");
    assert!(ended[0]["failed_attempts"].as_u64().unwrap() >= 1, "{ended:#?}");
    let refused: Vec<_> =
        with("request").into_iter().filter(|line| line["status"] == 503).collect();
    assert!(refused.len() > 20, "{refused:#?}");
    for line in refused {
        assert_eq!(line["level"], "INFO", "{line}");
        let cause = line["cause"].as_str().unwrap();
        assert_eq!(cause.matches("database is not available").count(), 1, "{cause}");
    }
}
