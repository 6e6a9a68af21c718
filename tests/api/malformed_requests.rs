//! Malformed messages: each gets an errcode, and the server keeps serving.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::harness::client::read_response;
use crate::harness::{TestApp, refusal, spawn_app};

const CALLS: [&str; 3] = ["gettoken", "session/create", "session/update"];
/// The largest body of a token request.
const MAX_TOKEN_REQUEST: usize = 4_096;

/// Bytes that are not a message, each with its fault.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |open: &str, close: &str, depth: usize| {
        format!("{{\"x\": {}1{}}}", open.repeat(depth), close.repeat(depth)).into_bytes()
    };
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("nothing", vec![]),
        ("white space", text(" \r\n\t")),
        ("truncated", text(r#"{"title": "t", "creator""#)),
        ("truncated in an escape", text(r#"{"title": "\u00"#)),
        ("two objects", text("{}{}")),
        ("more text after it", text("{} x")),
        ("a trailing comma", text(r#"{"title": "t",}"#)),
        ("single quotes", text("{'title': 't'}")),
        ("a comment", text(r#"{/* */"title": "t"}"#)),
        ("not a number", text(r#"{"version": NaN}"#)),
        ("infinity", text(r#"{"version": Infinity}"#)),
        ("a huge number", text(r#"{"version": 1e999}"#)),
        ("a number with a hopeless exponent", text(r#"{"x": -1e99999999999999999999}"#)),
        ("leading zeros", text(r#"{"version": 007}"#)),
        ("a lone high surrogate", text(r#"{"title": "\ud83d"}"#)),
        ("a lone low surrogate", text(r#"{"title": "\ude00"}"#)),
        ("surrogates the wrong way round", text(r#"{"title": "\ude00\ud83d"}"#)),
        ("a lone surrogate in an unknown field", text(r#"{"x": {"y": ["\udfff"]}}"#)),
        ("a lone surrogate as a name", text(r#"{"\ud800": 1}"#)),
        ("a bare control character", b"{\"title\": \"a\x01b\"}".to_vec()),
        ("a bare NUL", b"{\"title\": \"a\0b\"}".to_vec()),
        ("NUL after it", b"{}\0".to_vec()),
        ("two byte order marks", "\u{feff}\u{feff}{}".as_bytes().to_vec()),
        ("a byte order mark after a blank", " \u{feff}{}".as_bytes().to_vec()),
        ("a byte order mark after it", "{}\u{feff}".as_bytes().to_vec()),
        ("UTF-16", "{\"a\": 1}".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("invalid UTF-8", b"{\"title\": \"\xff\xfe\"}".to_vec()),
        ("half a character", b"{\"title\": \"\xe9\xa1\"}".to_vec()),
        ("an overlong character", b"{\"title\": \"\xc0\x80\"}".to_vec()),
        ("a surrogate in UTF-8", b"{\"title\": \"\xed\xa0\x80\"}".to_vec()),
        ("lists 100,000 deep", deep("[", "]", 100_000)),
        ("objects 100,000 deep", deep("{\"x\":", "}", 100_000)),
        ("lists that only open", "[".repeat(500_000).into_bytes()),
        ("objects that only open", "{\"a\":".repeat(200_000).into_bytes()),
        ("150 deep in an unknown field", deep("[", "]", 150)),
        ("only NUL", vec![0; 10_000]),
    ]
}

fn cannot_open() -> Value {
    refusal(100_006, "encrypt: cannot be opened with this app's key, or is not a JSON object")
}

async fn is_alive(app: &TestApp) {
    assert_eq!(app.client.get("/readyz").await.status(), 200);
    app.session(&["a", "b", "c"]).await;
    app.client.token().await;
}

fn is_bad_format(got: &Value, place: &str, why: &str) {
    assert_eq!(got["errcode"], 100_004, "{why}: {got}");
    let errmsg = got["errmsg"].as_str().unwrap();
    assert!(errmsg.starts_with(&format!("{place}: ")), "{why}: {errmsg}");
    assert!(errmsg.len() < 200, "{why}: {errmsg}");
    assert_eq!(got.as_object().unwrap().len(), 2, "{why}: {got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bodies_are_refused() {
    let app = spawn_app().await;
    let token = app.client.token().await;
    for (why, bytes) in hostile() {
        for token in [&token, &app.api_key] {
            for call in CALLS {
                let path = format!("/cgi/{call}?accessToken={token}");
                let response = app.client.post(&path, bytes.clone()).await;
                if call == "gettoken" && bytes.len() > MAX_TOKEN_REQUEST {
                    assert_eq!(response.status(), 413, "{why}");
                    continue;
                }
                is_bad_format(&read_response(response).await, "body", why);
            }
        }
    }
    is_alive(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_sealed_messages_are_refused() {
    let app = spawn_app().await;
    let token = app.client.token().await;
    for (why, bytes) in hostile() {
        let encrypt = app.client.seal_with(&bytes, app.client.iv());
        let envelope = json!({
            "buin": app.client.buin, "appId": app.client.app_id, "encrypt": encrypt,
        });
        for call in CALLS {
            let path = format!("/cgi/{call}?accessToken={token}");
            let response = app.client.post(&path, envelope.to_string()).await;
            let max = if call == "gettoken" { MAX_TOKEN_REQUEST } else { 1 << 20 };
            if envelope.to_string().len() > max {
                assert_eq!(response.status(), 413, "{why}");
                continue;
            }
            let got = read_response(response).await;
            if call == "gettoken" {
                assert_eq!(got["errcode"], 100_006, "{why}: {got}");
            } else {
                assert_eq!(got, cannot_open(), "{why}");
            }
        }
    }
    is_alive(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_fields_are_refused() {
    let app = spawn_app().await;
    let token = app.client.token().await;
    let duplicate = |field: &str| refusal(100_003, &format!("{field}: appears more than once"));
    let sealed = app.client.seal("{}");
    let outer = format!(r#"{{"buin": 1, "appId": "a", "encrypt": "{sealed}", "encrypt": null}}"#);
    for call in CALLS {
        let path = format!("/cgi/{call}?accessToken={token}");
        let got = read_response(app.client.post(&path, outer.clone()).await).await;
        assert_eq!(got, duplicate("encrypt"), "{call}");
    }
    for (inner, field) in [
        (r#"{"title": "t", "creator": "a", "member": ["b", "c"], "title": "t"}"#, "title"),
        (r#"{"title": "t", "creator": "a", "member": ["b", "c"], "m\u0065mber": []}"#, "member"),
        (r#"{"x": 1, "x": 2}"#, "x"),
        (r#"{"": 1, "": 2}"#, ""),
    ] {
        let got = app.post_plain("/cgi/session/create", inner).await;
        assert_eq!(got, duplicate(field), "{inner}");
        let path = format!("/cgi/session/create?accessToken={token}");
        let body = app.client.envelope(inner).to_string();
        assert_eq!(
            app.client.open_response(app.client.post(&path, body).await).await,
            cannot_open()
        );
    }
    let long = format!(r#"{{"{0}": 1, "{0}": 2}}"#, "长".repeat(10_000));
    let got = app.post_plain("/cgi/session/create", long).await;
    assert_eq!(got, duplicate(&"长".repeat(64)), "a response is short");
    is_alive(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn number_of_fields_is_bounded() {
    let app = spawn_app().await;
    let json = |fields: usize| {
        let many: Vec<String> = (0..fields).map(|n| format!("\"{n}\":0")).collect();
        format!("{{{}}}", many.join(","))
    };
    let errmsg = |fields: usize| format!("body: at most 256 fields, got {fields}");
    for call in CALLS {
        let fields = if call == "gettoken" { 400 } else { 80_000 };
        assert_eq!(
            app.post_plain(&format!("/cgi/{call}"), json(fields)).await,
            refusal(100_003, &errmsg(fields))
        );
    }
    let form: Vec<String> = (0..400).map(|n| format!("{n}=0")).collect();
    let request = app.client.request(Method::POST, "/cgi/gettoken");
    let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let got = read_response(request.body(form.join("&")).send().await.unwrap()).await;
    assert_eq!(got, refusal(100_003, &errmsg(400)));
    is_alive(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn error_texts_shorten_long_values() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    let long = "长".repeat(100_000);
    let members: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    for (field, value) in [
        ("title", json!(long)),
        ("creator", json!(long)),
        ("type", json!(long)),
        ("member", json!([long])),
        ("member", json!(members)),
    ] {
        let mut body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
        body[field] = value;
        let got = app.create(&body).await;
        assert_ne!(got["errcode"], 0);
        assert!(got.to_string().len() < 400, "{got}");
    }
    for (field, value) in [
        ("sessionId", json!(long)),
        ("opUser", json!(long)),
        ("addMember", json!(members)),
        ("delMember", json!([long])),
        ("version", json!("9".repeat(100_000))),
    ] {
        let got = app.change(&session, "a", json!({ field: value })).await;
        assert_ne!(got["errcode"], 0);
        assert!(got.to_string().len() < 400, "{got}");
    }
    assert_eq!(app.current(&session).await, session);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_forms_are_refused() {
    let app = spawn_app().await;
    for form in ["", "&&&===", "%", "%%%%", "%zz=%zz", "=", "\u{0}", "buin", "会", "[1]", "null"] {
        let request = app.client.request(Method::POST, "/cgi/gettoken");
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let got = read_response(request.body(form).send().await.unwrap()).await;
        assert_eq!(got, refusal(100_008, "buin: is missing"), "{form}");
    }
    let request = app.client.request(Method::POST, "/cgi/gettoken");
    let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let form = b"buin=14731009&appId=\xff\xfe&encrypt=%ff%00".to_vec();
    let got = read_response(request.body(form).send().await.unwrap()).await;
    assert_eq!(got, refusal(100_005, "appId: unknown or disabled app"));
    is_alive(&app).await;
}
