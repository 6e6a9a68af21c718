//! The envelope over real HTTP: valid and invalid envelopes, and the envelopes of responses.

use std::collections::BTreeSet;

use muster::domain::Permission;
use muster::wire::AesKey;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::harness::client::{Client, pad, read_response};
use crate::harness::{BUIN, TestApp, new_app, refusal, spawn_app};

const CREATE: &str = "/cgi/session/create";

/// The whole response to every token request that proves nothing.
const NO_PROOF: &str = r#"{"errcode":100006,"errmsg":"encrypt: cannot be opened with this app's key, or its time is more than 300 s off"}"#;

/// The whole response to every message that does not open.
const CANNOT_OPEN: &str = r#"{"errcode":100006,"errmsg":"encrypt: cannot be opened with this app's key, or is not a JSON object"}"#;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../src/wire/envelope_vectors.json")).unwrap()
}

/// The app for which the vectors were sealed.
async fn app_of_the_vectors(app: &TestApp) -> Client {
    let vectors = vectors();
    let mut stored = new_app(BUIN, &[Permission::SessionsRead, Permission::SessionsWrite]);
    stored.app.app_id = vectors["appId"].as_str().unwrap().parse().unwrap();
    stored.aes_key = AesKey::from_base64(vectors["key"].as_str().unwrap()).unwrap();
    app.add(&stored).await.0
}

async fn send(client: &Client, path: &str, encrypt: &str) -> Response {
    let envelope = json!({ "buin": client.buin, "appId": client.app_id, "encrypt": encrypt });
    client.post(path, envelope.to_string()).await
}

async fn send_form(client: &Client, path: &str, encrypt: &str) -> Response {
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("buin", &client.buin.to_string())
        .append_pair("appId", &client.app_id)
        .append_pair("encrypt", encrypt)
        .finish();
    let request = client.request(reqwest::Method::POST, path);
    let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    request.body(form).send().await.unwrap()
}

/// Everything in a response that could distinguish two causes.
pub async fn visible_response(response: Response) -> (u16, Vec<String>, String) {
    let mut headers: Vec<String> = response
        .headers()
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    (response.status().as_u16(), headers, response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn envelopes_of_other_implementations_are_accepted() {
    let app = spawn_app().await;
    let client = app_of_the_vectors(&app).await;
    let path = format!("{CREATE}?accessToken={}", client.token().await);
    let no_object: Value = serde_json::from_str(CANNOT_OPEN).unwrap();
    for vector in vectors()["good"].as_array().unwrap() {
        let encrypt = vector["encrypt"].as_str().unwrap();
        let got = client.open_response(send(&client, &path, encrypt).await).await;
        match vector["plain_utf8"].as_str().unwrap() {
            "1718000000" => {
                assert_eq!(got, no_object, "{vector}");
                let token =
                    client.open_response(send(&client, "/cgi/gettoken", encrypt).await).await;
                assert_eq!(token["errcode"], 0, "{vector}: {token}");
            }
            text if text.is_empty() || text.starts_with('x') => {
                assert_eq!(got, no_object, "{vector}");
            }
            _ => {
                assert_eq!(got["title"], "项目周会", "{vector}: {got}");
                assert_eq!(got["member"], json!(["zhang.san", "li.si", "wang.wu"]), "{vector}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_envelopes_get_one_answer() {
    let app = spawn_app().await;
    let client = app_of_the_vectors(&app).await;
    let token = client.token().await;

    let vectors = vectors();
    let mut invalid: Vec<(String, String)> = vectors["bad"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vector| (vector["name"].to_string(), vector["encrypt"].as_str().unwrap().to_owned()))
        .collect();
    assert!(!invalid.is_empty());
    let valid = client.seal("1718000000");
    let sealed_with = |length: u32, message: &[u8], tail: &str| {
        let mut plain = vec![7; 16];
        plain.extend(length.to_be_bytes());
        plain.extend(message);
        plain.extend(tail.as_bytes());
        client.encrypt(&pad(plain), client.iv())
    };
    let id = client.app_id.as_str();
    for (why, encrypt) in [
        ("not UTF-8", sealed_with(2, &[0xff, 0xfe], id)),
        ("half a character", sealed_with(2, &"项".as_bytes()[..2], id)),
        ("no tail", sealed_with(2, b"{}", "")),
        ("a longer tail", sealed_with(2, b"{}", &format!("{id}x"))),
        ("a shorter tail", sealed_with(2, b"{}", &id[1..])),
        ("the tail in another case", sealed_with(2, b"{}", &id.to_lowercase())),
        ("the tail counted as message", sealed_with(2 + 12, b"{}", id)),
        ("the message counted as tail", sealed_with(0, b"{}", id)),
        ("no padding of base64", valid.trim_end_matches('=').to_owned()),
        ("too much padding of base64", format!("{valid}=")),
        ("a control character", format!("{}\u{1}{}", &valid[..20], &valid[20..])),
        ("a multiple of 16 only", sealed_with(2, b"{}", id)[..64].to_owned()),
        ("base64 for URLs", "-_-_".repeat(16)),
        ("other characters", "密文".to_owned()),
        ("a list", client.seal("[]")),
        ("two objects", client.seal("{}{}")),
        ("half an object", client.seal("{\"title\": \"t\"")),
        ("a field twice", client.seal("{\"title\": \"t\", \"title\": \"t\"}")),
        ("a second later than allowed", client.seal("1718000301")),
        ("no time", client.seal("now")),
    ] {
        invalid.push((why.to_owned(), encrypt));
    }
    let mut answers = BTreeSet::new();
    for (why, encrypt) in &invalid {
        for call in ["gettoken", "session/create", "session/update"] {
            let path = format!("/cgi/{call}?accessToken={token}");
            let expected = if call == "gettoken" { NO_PROOF } else { CANNOT_OPEN };
            for response in
                [send(&client, &path, encrypt).await, send_form(&client, &path, encrypt).await]
            {
                let all = visible_response(response).await;
                assert_eq!((all.0, all.2.as_str()), (200, expected), "{call}: {why}");
                answers.insert(all);
            }
        }
    }
    // One response to token requests, and one to all other calls.
    assert_eq!(answers.len(), 2, "{answers:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn line_breaks_and_blanks_in_base64_are_ignored() {
    let app = spawn_app().await;
    let client = &app.client;
    let time = client.clock.now().timestamp().to_string();
    for (width, end) in [(76, "\r\n"), (64, "\n"), (4, " \t"), (1_000, "\n"), (1_000, " ")] {
        let mime = |sealed: String| {
            let lines: Vec<_> = sealed.as_bytes().chunks(width).map(<[u8]>::to_vec).collect();
            format!("{end}{}{end}", String::from_utf8(lines.join(end.as_bytes())).unwrap())
        };
        for post in [true, false] {
            let text = mime(client.seal(&time));
            let answer = match post {
                true => send(client, "/cgi/gettoken", &text).await,
                false => send_form(client, "/cgi/gettoken", &text).await,
            };
            let token =
                client.open_response(answer).await["accessToken"].as_str().unwrap().to_owned();
            let path = format!("{CREATE}?accessToken={token}");
            let message = json!({ "title": "周会", "creator": "a", "member": ["b", "c"] });
            let answer = send(client, &path, &mime(client.seal(&message.to_string()))).await;
            assert_eq!(client.open_response(answer).await["title"], "周会");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_iv_is_accepted() {
    let app = spawn_app().await;
    let client = &app.client;
    let time = client.clock.now().timestamp().to_string();
    for iv in [[0; 16], [0xff; 16], rand::random(), rand::random()] {
        let answer = send(client, "/cgi/gettoken", &client.seal_with(time.as_bytes(), iv)).await;
        let answer = answer.json::<Value>().await.unwrap();
        // Two of the clients ignore the IV when they open, so any IV works.
        let opened = client.open_with(answer["encrypt"].as_str().unwrap(), rand::random());
        let token: Value = serde_json::from_str(&opened).unwrap();

        let path = format!("{CREATE}?accessToken={}", token["accessToken"].as_str().unwrap());
        let message = json!({ "title": "周会", "creator": "a", "member": ["b", "c"] }).to_string();
        let answer = send(client, &path, &client.seal_with(message.as_bytes(), iv)).await;
        assert_eq!(client.open_response(answer).await["title"], "周会");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_any_length_are_opened_and_sealed() {
    let app = spawn_app().await;
    let token = app.client.token().await;
    // Covers every remainder modulo 32 and every length of padding, in both directions.
    for length in 1..=64 {
        let message = json!({ "title": "x".repeat(length), "creator": "a", "member": ["b", "c"] });
        let created = app.client.post_sealed(&token, CREATE, &message).await;
        assert_eq!(created["title"], message["title"], "{created}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_response_has_new_random_bytes() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    let token = app.client.token().await;
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let path = format!("/cgi/session/get?accessToken={token}&sessionId={id}");
    let first = read_response(app.client.get(&path).await).await;
    let second = read_response(app.client.get(&path).await).await;
    let sealed = |answer: &Value| answer["encrypt"].as_str().unwrap().to_owned();
    assert_eq!(first, json!({ "errcode": 0, "errmsg": "ok", "encrypt": sealed(&first) }));
    assert_ne!(sealed(&first), sealed(&second), "each response has new random bytes");
    assert_eq!(app.client.open(&sealed(&first)), app.client.open(&sealed(&second)));
    let message: Value = serde_json::from_str(&app.client.open(&sealed(&first))).unwrap();
    let mut fields = session.as_object().unwrap().clone();
    fields.remove("errcode");
    fields.remove("errmsg");
    assert_eq!(
        message,
        Value::Object(fields),
        "errcode and errmsg are only outside of the envelope"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn envelope_fields_are_required_and_typed() {
    let app = spawn_app().await;
    let (other, _) = app.another_app(BUIN, &[Permission::SessionsWrite]).await;
    let token = app.client.token().await;
    let path = format!("{CREATE}?accessToken={token}");
    let sealed = app.client.envelope("{}");
    let huge: Value = serde_json::from_str("18446744073709551615").unwrap();
    let beyond: Value = serde_json::from_str("18446744073709551616").unwrap();
    for (field, value, errcode, errmsg) in [
        ("buin", Value::Null, 100_008, "buin: is missing"),
        ("buin", json!(""), 100_008, "buin: is missing"),
        ("buin", json!("14731009"), 100_012, "buin: must be a whole number, got text"),
        ("buin", json!(true), 100_012, "buin: must be a whole number, got a boolean"),
        ("buin", json!({}), 100_012, "buin: must be a whole number, got an object"),
        (
            "buin",
            json!(14_731_009.5),
            100_012,
            "buin: must be a whole number, got a number that is not a 64-bit integer",
        ),
        (
            "buin",
            beyond,
            100_012,
            "buin: must be a whole number, got a number that is not a 64-bit integer",
        ),
        ("buin", json!(14_731_010), 100_009, "buin: not the enterprise of this app"),
        ("buin", json!(0), 100_009, "buin: not the enterprise of this app"),
        ("buin", json!(-14_731_009), 100_009, "buin: not the enterprise of this app"),
        ("buin", huge, 100_009, "buin: not the enterprise of this app"),
        ("appId", Value::Null, 100_010, "appId: is missing"),
        ("appId", json!(""), 100_010, "appId: is missing"),
        ("appId", json!(7), 100_013, "appId: must be text, got a whole number"),
        ("appId", json!(["a"]), 100_013, "appId: must be text, got a list"),
        ("appId", json!(other.app_id), 100_005, "appId: not the app of the access token"),
        ("appId", json!("nobody"), 100_005, "appId: not the app of the access token"),
        ("encrypt", Value::Null, 100_011, "encrypt: is missing"),
        ("encrypt", json!(7), 100_014, "encrypt: must be text, got a whole number"),
        ("encrypt", json!({}), 100_014, "encrypt: must be text, got an object"),
        ("encrypt", json!(["a"]), 100_014, "encrypt: must be text, got a list"),
    ] {
        let mut body = sealed.clone();
        body[field] = value;
        let got = read_response(app.client.post(&path, body.to_string()).await).await;
        assert_eq!(got, refusal(errcode, errmsg), "{body}");
        if errcode != 100_005 {
            let got = read_response(app.client.post("/cgi/gettoken", body.to_string()).await).await;
            assert_eq!(got, refusal(errcode, errmsg), "{body}");
        }
        if body[field].is_null() {
            body.as_object_mut().unwrap().remove(field);
            let got = read_response(app.client.post(&path, body.to_string()).await).await;
            assert_eq!(got, refusal(errcode, errmsg), "{body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn form_fields_are_required_and_typed() {
    let app = spawn_app().await;
    let path = "/cgi/gettoken";
    for (form, errcode, errmsg) in [
        ("", 100_008, "buin: is missing"),
        ("buin=&appId=a&encrypt=a", 100_008, "buin: is missing"),
        ("buin=x&appId=a&encrypt=a", 100_012, "buin: must be a whole number, got \"x\""),
        ("buin=1.0&appId=a&encrypt=a", 100_012, "buin: must be a whole number, got \"1.0\""),
        ("buin=14731009&encrypt=a", 100_010, "appId: is missing"),
        ("buin=14731009&appId=a", 100_011, "encrypt: is missing"),
        ("buin=14731009&appId=a&encrypt=a", 100_005, "appId: unknown or disabled app"),
        ("buin=1&buin=1&appId=a&encrypt=a", 100_003, "buin: appears more than once"),
    ] {
        let request = app.client.request(reqwest::Method::POST, path);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let got = read_response(request.body(form).send().await.unwrap()).await;
        assert_eq!(got, refusal(errcode, errmsg), "{form}");
    }
}
