//! Titles and accounts are returned byte for byte.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::harness::client::Client;
use crate::harness::{TestApp, spawn_app, store};

/// Texts that a step on the way might change.
const TEXTS: [&str; 26] = [
    "项目周会",
    "Grüße, Ærøskøbing",
    "\u{202e}rtl override\u{202c}",
    "\u{200f}שלום\u{200e}",
    "ﷺ العربية",
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈 🇨🇳 👍🏽",
    "e\u{301}\u{302}\u{303}\u{304}",
    "\u{e9}",
    "Å \u{212b}",
    "ﬁ ½ ①",
    "\u{feff}bom\u{feff}",
    "\u{200b}zero\u{200d}width",
    "\u{fffd}\u{fffe}\u{ffff}",
    "\u{10ffff}\u{10fffe}\u{e000}\u{f8ff}",
    "\u{1f600}\u{d7ff}\u{e000}",
    "\u{2028}\u{2029}x",
    "\u{a0}nbsp\u{3000}",
    " both ends ",
    "\"quotes\" \\back\\ /slash/ \\u0041",
    "'; drop table session; --",
    "%00 %s ${x} {{x}} <b>&amp;</b>",
    "{\"a\":[1]}",
    "null",
    "ß ẞ ſ İ ı",
    "\u{ad}soft\u{34f}joiner\u{e0001}",
];

/// Sends a text in every field, sealed and plain, and compares it in every response.
async fn survives(app: &TestApp, client: &Client, token: &str, text: &str) {
    let titled = text.chars().any(|c| !c.is_whitespace());
    let title = if titled { text } else { "t" };
    let body = json!({ "title": title, "creator": text, "member": [1, "b", text] });
    let expected = json!([text, "1", "b"]);
    let open = app.create(&body).await;
    let sealed = client.post_sealed(token, "/cgi/session/create", &body).await;
    for created in [&open, &sealed] {
        assert_eq!(created["errcode"], 0, "{text:?}: {created}");
        assert_eq!(created["title"], title);
        assert_eq!(created["owner"], text);
        assert_eq!(created["member"], expected, "{text:?}");
        let id = created["sessionId"].as_str().unwrap();
        assert_eq!(app.current(created).await, *created);
        assert_eq!(client.get_session(token, id).await, *created);
    }
    // The stored bytes are unchanged, and the text finds its row.
    let id = open["sessionId"].as_str().unwrap();
    let bytes = store::stored_owner(app, id).await;
    assert_eq!(bytes, text.as_bytes());
    let fields = json!({ "delMember": [text], "addMember": ["c"] });
    let left = app.change(&open, text, fields).await;
    assert_eq!(left["member"], json!(["1", "b", "c"]), "{text:?}: {left}");
    let changes = &store::stored_changes(&app.pool, id).await[1].1;
    assert_eq!(changes["delMember"], json!([text]));
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_texts_round_trip() {
    let app = spawn_app().await;
    let token = app.client.token().await;
    for text in TEXTS {
        survives(&app, &app.client, &token, text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_text_round_trips() {
    let app = spawn_app().await;
    let token = app.client.token().await;
    let mut runner = TestRunner::default();
    let character = any::<char>().prop_filter("control", |c| !c.is_control());
    // Accounts 1 and b are in every session.
    let text = prop::collection::vec(character, 2..=64).prop_map(String::from_iter);
    for _ in 0..64 {
        let text = text.new_tree(&mut runner).unwrap().current();
        survives(&app, &app.client, &token, &text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lookalike_accounts_are_different() {
    let app = spawn_app().await;
    // Composed and decomposed, wide and narrow, Latin and Cyrillic, with and without a diacritic.
    let alike = ["\u{e9}", "e\u{301}", "ａ", "a", "а", "A", "a\u{200b}", "ß", "ss", "İ", "i", "ı"];
    let session = app.session(&alike).await;
    assert_eq!(session["member"], json!(alike));
    let got = app.change(&session, "a", json!({ "delMember": ["а"] })).await;
    assert_eq!(got["errcode"], 4, "the owner is another: {got}");
    let got = app.change(&session, "а", json!({ "delMember": ["а"] })).await;
    assert_eq!(got["member"].as_array().unwrap().len(), alike.len() - 1);
    assert!(got["member"].as_array().unwrap().contains(&json!("a")));
}

#[tokio::test(flavor = "multi_thread")]
async fn lookup_by_name_does_not_depend_on_the_locale() {
    let app = spawn_app().await;
    let columns = store::key_collations(&app).await;
    assert_eq!(columns, ["idempotency.key C", "session.owner C", "session_member.account C"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_escapes_are_decoded() {
    let app = spawn_app().await;
    let body = r#"{"t\u0069tle": "\ud83d\ude00\u4f1a\/\"\\", "creator": "\u0061", "member": ["b", "\u0063", "c"]}"#;
    let created = app.post_plain("/cgi/session/create", body).await;
    assert_eq!(created["title"], "😀会/\"\\", "{created}");
    assert_eq!(created["member"], json!(["a", "b", "c"]));
}
