//! Accepted forms of requests: paths, methods, headers and queries of existing clients.

use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::client::{Client, read_response};
use crate::harness::raw::{self, exchange, send_until_closed};
use crate::harness::{TestApp, refusal, spawn_app};

const FORM_MEDIA_TYPE: &str = "application/x-www-form-urlencoded";
const GETTOKEN: &str = "/cgi/gettoken";

async fn post_as(client: &Client, path: &str, kind: Option<&str>, body: String) -> Value {
    let mut request = client.request(Method::POST, path);
    if let Some(kind) = kind {
        request = request.header(CONTENT_TYPE, kind);
    }
    client.open_response(request.body(body).send().await.unwrap()).await
}

fn time(client: &Client) -> String {
    client.clock.now().timestamp().to_string()
}

/// The fields of an envelope as a percent-encoded form.
fn form(client: &Client, message: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("buin", &client.buin.to_string())
        .append_pair("appId", &client.app_id)
        .append_pair("encrypt", &client.seal(message))
        .finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_accepted_with_any_content_type() {
    let app = spawn_app().await;
    for kind in [
        None,
        Some("application/json"),
        Some("application/json; charset=utf-8"),
        Some("APPLICATION/JSON"),
        Some("text/plain"),
        Some("multipart/form-data; boundary=x"),
        Some("application/octet-stream"),
        Some("nonsense"),
        Some(""),
        // `curl -d '{…}'`
        Some(FORM_MEDIA_TYPE),
        Some("application/x-www-form-urlencoded; charset=UTF-8"),
        Some("Application/X-WWW-Form-URLEncoded"),
    ] {
        // A sealed text can be used once.
        let body = || app.client.envelope(&time(&app.client)).to_string();
        for body in [body(), format!(" \r\n\t{}\n", body())] {
            let token = post_as(&app.client, GETTOKEN, kind, body).await;
            assert_eq!(token["errcode"], 0, "{kind:?}: {token}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn form_requires_its_content_type() {
    let app = spawn_app().await;
    let message = json!({ "title": "a+b &=%", "creator": "a", "member": ["b", "c"] }).to_string();
    let path = format!("/cgi/session/create?accessToken={}", app.client.token().await);
    for kind in [
        FORM_MEDIA_TYPE,
        "application/x-www-form-urlencoded; charset=UTF-8",
        "application/x-www-form-urlencoded;charset=gbk",
        "Application/X-WWW-Form-URLEncoded",
    ] {
        let body = form(&app.client, &time(&app.client));
        let token = post_as(&app.client, GETTOKEN, Some(kind), body).await;
        assert_eq!(token["errcode"], 0, "{kind}: {token}");
        let body = form(&app.client, &message);
        let session = post_as(&app.client, &path, Some(kind), body).await;
        assert_eq!(session["title"], "a+b &=%", "{kind}: {session}");
    }
    // Form fields are read only with the content type of a form.
    let body = form(&app.client, &time(&app.client));
    for kind in [None, Some("application/json"), Some("text/plain")] {
        let got = post_as(&app.client, GETTOKEN, kind, body.clone()).await;
        let errmsg = "body: not JSON: expected value at line 1 column 1";
        assert_eq!(got, refusal(100_004, errmsg), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plus_in_a_form_must_be_escaped() {
    let app = spawn_app().await;
    let client = &app.client;
    let with_plus = std::iter::repeat_with(|| client.seal(&time(client)));
    let mut with_plus = with_plus.filter(|text| text.contains('+'));
    let mut encrypt = || with_plus.next().unwrap();
    let start = format!("appId={}&buin={}&more=x", client.app_id, client.buin);
    let escaped = encrypt().replace('+', "%2B").replace('=', "%3D");
    let escaped = format!("{start}&encrypt={escaped}");
    assert_eq!(post_as(client, GETTOKEN, Some(FORM_MEDIA_TYPE), escaped).await["errcode"], 0);
    let lower = format!("{start}&encrypt={}", encrypt().replace('+', "%2b"));
    assert_eq!(post_as(client, GETTOKEN, Some(FORM_MEDIA_TYPE), lower).await["errcode"], 0);
    // An unescaped plus is a space in a form, which is not valid in base64.
    let bare = format!("{start}&encrypt={}", encrypt());
    assert_eq!(post_as(client, GETTOKEN, Some(FORM_MEDIA_TYPE), bare).await["errcode"], 100_006);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_order_mark_is_skipped() {
    let app = spawn_app().await;
    let message = json!({ "title": "t", "creator": "a", "member": ["b", "c"] }).to_string();
    let marked = |text: &str| format!("\u{feff}{text}");
    // Before the message, before the body, and before both; as JSON and as a form.
    for inner in [time(&app.client), marked(&time(&app.client))] {
        let body = app.client.envelope(&inner).to_string();
        let again = app.client.envelope(&inner).to_string();
        for body in [body, marked(&again)] {
            assert_eq!(post_as(&app.client, GETTOKEN, None, body).await["errcode"], 0);
        }
        let body = marked(&form(&app.client, &inner));
        assert_eq!(post_as(&app.client, GETTOKEN, Some(FORM_MEDIA_TYPE), body).await["errcode"], 0);
    }
    let token = app.client.token().await;
    let path = format!("/cgi/session/create?accessToken={token}");
    for inner in [message.clone(), marked(&message)] {
        let body = marked(&app.client.envelope(&inner).to_string());
        let created = app.client.open_response(app.client.post(&path, body).await).await;
        assert_eq!(created["title"], "t", "{created}");
    }
    let created = app.post_plain("/cgi/session/create", marked(&message)).await;
    assert_eq!(created["title"], "t", "{created}");
    // The REST API reads bodies in the same way. The mark does not make it another request.
    let body = json!({ "title": "t", "operator": "a", "member": ["b", "c"] }).to_string();
    let mut ids = Vec::new();
    for body in [marked(&body), body] {
        let request = app.client.request(Method::POST, "/v1/sessions").bearer_auth(&app.api_key);
        let request = request.header("Idempotency-Key", "same");
        let created = request.body(body).send().await.unwrap();
        assert_eq!(created.status(), 201);
        ids.push(created.json::<Value>().await.unwrap()["sessionId"].clone());
    }
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_encodings_are_ignored() {
    let app = spawn_app().await;
    for encoding in ["UTF-8", "utf8", "identity", "gzip", "br", "zstd", "nonsense", ""] {
        let body = app.client.envelope(&time(&app.client)).to_string();
        let request = app.client.request(Method::POST, GETTOKEN);
        let request = request.header(CONTENT_ENCODING, encoding).body(body);
        let token = app.client.open_response(request.send().await.unwrap()).await;
        assert_eq!(token["errcode"], 0, "{encoding}: {token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_parsed() {
    let app = spawn_app().await;
    let created = app.session(&["a", "b", "c"]).await;
    let id = created["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let lower = id.to_lowercase();
    let token = app.client.token().await;
    for query in [
        format!("accessToken={token}&sessionId=%7B{id}%7D"),
        format!("sessionId=%7B{id}%7D&accessToken={token}"),
        format!("sessionId=%7b{id}%7d&accessToken={token}&"),
        format!("&a=b&accessToken={token}&accesstoken=x&sessionId={lower}&sessionid=x"),
        format!("access%54oken={token}&sessionId={}", id.replace('-', "%2D")),
        format!("sessionId={{{id}}}&accessToken={token}"),
    ] {
        let got =
            app.client.open_response(app.client.get(&format!("/cgi/session/get?{query}")).await);
        assert_eq!(got.await, created, "{query}");
        // A hand-written request: the client library may escape the braces.
        let request = format!(
            "GET /cgi/session/get?{query} HTTP/1.1\r\nHost: muster\r\nConnection: close\r\n\r\n"
        );
        let got = exchange(app.address, request.as_bytes()).await;
        assert_eq!((got.status, &got.json()["errcode"]), (200, &json!(0)), "{query}: {got:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_parameter_is_refused() {
    let app = spawn_app().await;
    let id = app.session(&["a", "b", "c"]).await["sessionId"].as_str().unwrap().to_owned();
    let token = app.client.token().await;
    let get = format!("/cgi/session/get?sessionId={id}&accessToken={token}");
    for (more, duplicate) in [
        (format!("&accessToken={token}"), "accessToken"),
        ("&accessToken=".to_owned(), "accessToken"),
        (format!("&access%54oken={}", app.api_key), "accessToken"),
        (format!("&sessionId={id}"), "sessionId"),
        ("&sessionId".to_owned(), "sessionId"),
    ] {
        let got = read_response(app.client.get(&format!("{get}{more}")).await).await;
        assert_eq!(
            got,
            refusal(100_003, &format!("{duplicate}: appears more than once")),
            "{more}"
        );
    }
    let update = format!("/cgi/session/update?accessToken={token}&accessToken={token}");
    let got = read_response(app.client.post(&update, "{}").await).await;
    assert_eq!(got, refusal(100_003, "accessToken: appears more than once"));
    // Other duplicate parameters are ignored.
    let got = app.client.get(&format!("{get}&x=1&x=2")).await;
    assert_eq!(app.client.open_response(got).await["errcode"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailing_question_mark_is_ignored() {
    let app = spawn_app().await;
    let created = app.session(&["a", "b", "c"]).await;
    let id = created["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let body = app.client.envelope(&time(&app.client)).to_string();
    let token = post_as(&app.client, "/cgi/gettoken?", None, body).await;
    let token = token["accessToken"].as_str().unwrap();
    for query in [
        format!("accessToken={token}&sessionId=%7B{id}%7D?"),
        format!("sessionId=%7B{id}%7D&accessToken={token}?"),
    ] {
        let got = app.client.get(&format!("/cgi/session/get?{query}")).await;
        assert_eq!(app.client.open_response(got).await, created, "{query}");
    }
    let missing = refusal(100_000, "accessToken: access token is missing");
    for query in ["", "?", "??", "?accessToken=?"] {
        let got = app.client.get(&format!("/cgi/session/get{query}")).await;
        assert_eq!(read_response(got).await, missing, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_body_forms_are_accepted() {
    let app = spawn_app().await;
    let mut body = app.client.envelope(&time(&app.client)).to_string();
    let length = body.len();
    let header = |version: &str, more: &str| {
        format!("POST {GETTOKEN} HTTP/{version}\r\n{more}Content-Length: {length}\r\n\r\n")
    };
    // PHP streams wait until the server closes.
    let request = header("1.0", "") + &body;
    let got = send_until_closed(app.address, request.into_bytes()).await;
    assert_eq!((got.status, &got.json()["errcode"]), (200, &json!(0)), "{got:?}");

    // curl waits for `100 Continue` before it sends a long body.
    body = app.client.envelope(&time(&app.client)).to_string();
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let request = header("1.1", "Host: muster\r\nConnection: close\r\nExpect: 100-continue\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(go_on.as_slice(), b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let got = raw::read_response(&mut stream).await;
    assert_eq!((got.status, &got.json()["errcode"]), (200, &json!(0)), "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_ignored() {
    let app = spawn_app().await;
    let token = app.client.token().await;
    let message = json!({
        "title": "t", "creator": "a", "member": ["b", "c"],
        "Title": 7, "avatar": { "url": [1, null, 2.5] }, "": true,
    });
    let mut envelope = app.client.envelope(&message.to_string());
    envelope["sign"] = json!({ "a": [] });
    envelope["Encrypt"] = json!(5);
    let path = format!("/cgi/session/create?accessToken={token}");
    let created = post_as(&app.client, &path, None, envelope.to_string()).await;
    assert_eq!(created["title"], "t", "{created}");
    let created = app.create(&message).await;
    let updated = app.change(&created, "a", json!({ "addMember": ["d"], "notify": false })).await;
    assert_eq!(updated["version"], 2, "{updated}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doubled_and_trailing_slashes_do_not_matter() {
    let app = spawn_app().await;
    let created = app.session(&["a", "b", "c"]).await;
    let id = created["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    for path in ["//cgi/gettoken", "/cgi/gettoken/", "/cgi//gettoken", "///cgi///gettoken//?"] {
        let body = app.client.envelope(&time(&app.client)).to_string();
        let token = post_as(&app.client, path, None, body).await;
        let token = token["accessToken"].as_str().unwrap_or_else(|| panic!("{path}: {token}"));
        for path in ["//cgi/session/get", "/cgi/session/get/", "/cgi//session//get"] {
            let path = format!("{path}?accessToken={token}&sessionId={id}");
            assert_eq!(
                app.client.open_response(app.client.get(&path).await).await,
                created,
                "{path}"
            );
        }
    }
    let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
    assert_eq!(app.post_plain("//cgi/session/create/", body.to_string()).await["errcode"], 0);
    // The other API has one path for each call.
    let request = app.client.request(Method::GET, "//v1/limits").bearer_auth(&app.api_key);
    assert_eq!(request.send().await.unwrap().status(), 404);
}

/// Sends a request that is not part of this API and checks the whole response but its date.
async fn is_refused(app: &TestApp, method: &Method, path: &str, status: u16, allow: Option<&str>) {
    let response = app.client.request(method.clone(), path).body("{}").send().await.unwrap();
    assert_eq!(response.status(), status, "{method} {path}");
    let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("allow"), allow, "{method} {path}");
    assert_eq!(header("content-type"), Some("application/json"), "{method} {path}");
    assert_eq!(header("x-request-id").unwrap().len(), 32, "{method} {path}");
    if *method != Method::HEAD {
        let errmsg = allow.map_or("path: no such endpoint".to_owned(), |allow| {
            format!("method: only {allow}, got \"{method}\"")
        });
        let body = response.json::<Value>().await.unwrap();
        assert_eq!(body, refusal(100_003, &errmsg), "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_path_is_404_with_an_errcode() {
    let app = spawn_app().await;
    for path in [
        "/",
        "/cgi",
        "/cgi/",
        "/cgi/nothing/",
        "/cgi/session",
        "/cgi/session/delete",
        "/CGI/gettoken",
        "//CGI/gettoken",
        "/cgi//session/",
        "/x//cgi/gettoken",
        "/cgi/session/get/%7B%7D",
        "/favicon.ico?x=1",
        "/%00",
        "/%ff",
    ] {
        for method in [Method::GET, Method::POST, Method::HEAD, Method::DELETE] {
            is_refused(&app, &method, path, 404, None).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_the_vendor_that_muster_lacks_are_501() {
    let app = spawn_app().await;
    for path in [
        "/cgi/msg/send",
        "/cgi/media/upload",
        "/cgi/media/get?accessToken=x",
        "/cgi/dept/create",
        "/cgi/dept/user/listall",
        "/cgi/user/enable/state",
        "/cgi/group/ismember",
        "/cgi/org/replaceall",
        "/cgi/avatar/get",
        "/cgi/identify?token=x",
        "/cgi/session/send",
        "/cgi/session/msg/download.zip",
        "/cgi/set.ent.notice",
        "//cgi/popwindow/",
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let response =
                app.client.request(method.clone(), path).body("{}").send().await.unwrap();
            assert_eq!(response.status(), 501, "{method} {path}");
            assert_eq!(response.headers()["content-type"], "application/json");
            let errmsg = "path: Muster has only gettoken and session/create, get and update";
            assert_eq!(response.json::<Value>().await.unwrap(), refusal(100_003, errmsg), "{path}");
        }
    }
    // Many clients show nothing but the reason phrase.
    let request = "POST /cgi/msg/send HTTP/1.1\r\nHost: muster\r\nConnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut got = String::new();
    stream.read_to_string(&mut got).await.unwrap();
    assert!(got.starts_with("HTTP/1.1 501 Not Implemented\r\n"), "{got}");
    // The vendor has no such calls.
    for path in ["/cgi/msg", "/cgi/msg/", "/cgi/message/send", "/cgi/session/sent", "/msg/send"] {
        let response = app.client.post(path, "{}").await;
        assert_eq!(response.status(), 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_method_is_405_with_allow_and_an_errcode() {
    let app = spawn_app().await;
    let purge = Method::from_bytes(b"PURGE").unwrap();
    for (path, right) in [
        (GETTOKEN, Method::POST),
        ("/cgi/session/create", Method::POST),
        ("/cgi/session/get", Method::GET),
        ("/cgi/session/update", Method::POST),
    ] {
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::HEAD,
            Method::OPTIONS,
            purge.clone(),
        ] {
            if method != right {
                is_refused(&app, &method, path, 405, Some(right.as_str())).await;
            }
        }
    }
}
