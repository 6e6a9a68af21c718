//! Every errcode of the two tables is provoked at least once. Its errmsg helps the caller and
//! reveals no internals.

use std::collections::BTreeSet;
use std::time::Duration;

use muster::domain::Permission;
use serde_json::{Value, json};

use crate::harness::client::{Client, read_response};
use crate::harness::{BUIN, TestApp, new_app, refusal, spawn_app, spawn_app_with, store};

/// The errcodes of both tables.
const CODES: [i32; 24] = [
    0, -1, 3, 4, 100_000, 100_001, 100_002, 100_003, 100_004, 100_005, 100_006, 100_008, 100_009,
    100_010, 100_011, 100_012, 100_013, 100_014, 400_001, 400_002, 400_003, 400_004, 400_005,
    400_006,
];
const CONFLICT: i32 = 400_009;

const CANNOT_OPEN: &str = "encrypt: cannot be opened with this app's key, or is not a JSON object";

const NO_PROOF: &str =
    "encrypt: cannot be opened with this app's key, or its time is more than 300 s off";

const NOWHERE: &str = "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}";

/// The provoked errcodes.
struct Table {
    app: TestApp,
    session: Value,
    provoked: BTreeSet<i32>,
}

impl Table {
    async fn new() -> Self {
        let app = spawn_app_with(|settings| {
            settings.limits.max_members = 5;
            // Tests change sessions without the server's knowledge.
            settings.cache.enabled = false;
        })
        .await;
        let session = app.session(&["a", "b", "c"]).await;
        Self { app, session, provoked: BTreeSet::new() }
    }

    /// Checks that the response has this errcode and errmsg and no other field.
    fn assert_errcode(&mut self, errcode: i32, errmsg: &str, got: &Value) {
        assert_eq!(*got, refusal(errcode, errmsg));
        assert!(errmsg.is_ascii() && errmsg.len() < 100, "short and English: {errmsg}");
        let (field, _) = errmsg.split_once(": ").unwrap_or(("none", ""));
        assert!(errcode == -1 || !field.contains(' '), "names its field: {errmsg}");
        self.provoked.insert(errcode);
    }

    async fn raw(&self, call: &str, token: &str, body: &Value) -> Value {
        let path = format!("/cgi/{call}?accessToken={token}");
        read_response(self.app.client.post(&path, body.to_string()).await).await
    }

    async fn create(&self, fields: Value) -> Value {
        let mut body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.app.create(&body).await
    }

    async fn change(&self, operator: &str, changes: Value) -> Value {
        self.app.change(&self.session, operator, changes).await
    }

    async fn tokens(&mut self) {
        let client = self.app.client.clone();
        let token = client.token().await;
        let granted = client.gettoken().await;
        assert_eq!((&granted["errcode"], &granted["errmsg"]), (&json!(0), &json!("ok")));
        self.provoked.insert(0);
        let id = NOWHERE;
        let got = client.get_session("", id).await;
        self.assert_errcode(100_000, "accessToken: access token is missing", &got);
        let got = client.get_session("forged", id).await;
        self.assert_errcode(100_001, "accessToken: access token does not exist", &got);
        self.app.clock.advance(Duration::from_secs(7200 + 61));
        let got = client.get_session(&token, id).await;
        self.assert_errcode(100_002, "accessToken: access token expired", &got);
        let unknown_app = Client { app_id: "nobody".to_owned(), ..client.clone() };
        self.assert_errcode(
            100_005,
            "appId: unknown or disabled app",
            &unknown_app.gettoken().await,
        );
        let mut stored = new_app(BUIN, &[]);
        stored.app.disabled = true;
        let (disabled, key) = self.app.add(&stored).await;
        self.assert_errcode(100_005, "appId: unknown or disabled app", &disabled.gettoken().await);
        let got = disabled.get_session(&key, id).await;
        self.assert_errcode(100_001, "accessToken: access token does not exist", &got);
    }

    async fn envelopes(&mut self) {
        let client = self.app.client.clone();
        let token = client.token().await;
        let envelope = client.envelope("{}");
        for (field, value, errcode, errmsg) in [
            ("buin", json!(null), 100_008, "buin: is missing"),
            ("buin", json!(1), 100_009, "buin: not the enterprise of this app"),
            ("buin", json!("1"), 100_012, "buin: must be a whole number, got text"),
            ("appId", json!(null), 100_010, "appId: is missing"),
            ("appId", json!(1), 100_013, "appId: must be text, got a whole number"),
            ("encrypt", json!(null), 100_011, "encrypt: is missing"),
            ("encrypt", json!(1), 100_014, "encrypt: must be text, got a whole number"),
            ("encrypt", json!("AA=="), 100_006, CANNOT_OPEN),
        ] {
            let mut body = envelope.clone();
            body[field] = value;
            for call in ["gettoken", "session/create", "session/update"] {
                let got = self.raw(call, &token, &body).await;
                let errmsg = match (call, errcode) {
                    ("gettoken", 100_006) => NO_PROOF,
                    _ => errmsg,
                };
                self.assert_errcode(errcode, errmsg, &got);
            }
        }
        let (other, _) = self.app.another_app(BUIN, &[Permission::SessionsWrite]).await;
        let got = self.raw("session/create", &token, &other.envelope("{}")).await;
        self.assert_errcode(100_005, "appId: not the app of the access token", &got);
        let got = self.raw("gettoken", "", &json!([])).await;
        self.assert_errcode(100_004, "body: must be a JSON object, got a list", &got);
        let got = self.raw("session/create", &token, &client.envelope("[]")).await;
        self.assert_errcode(100_006, CANNOT_OPEN, &got);
    }

    async fn permissions(&mut self) {
        let id = self.session["sessionId"].as_str().unwrap().to_owned();
        let bare = id.trim_matches(['{', '}']);
        let body = json!({
            "sessionId": id, "opUser": "a", "title": "x", "creator": "a", "member": ["b", "c"],
        });
        for (permissions, reads, writes) in [
            (&[][..], false, false),
            (&[Permission::Callbacks][..], false, false),
            (&[Permission::SessionsRead][..], true, false),
            (&[Permission::SessionsWrite][..], false, true),
        ] {
            let (client, key) = self.app.another_app(BUIN, permissions).await;
            for token in [client.token().await, key] {
                let path = format!("/cgi/session/get?accessToken={token}&sessionId={bare}");
                let got = read_response(client.get(&path).await).await;
                if reads {
                    assert_eq!(got["errcode"], 0, "{got}");
                } else {
                    self.assert_errcode(
                        3,
                        "appId: the app lacks the permission sessions:read",
                        &got,
                    );
                }
                for path in ["/cgi/session/create", "/cgi/session/update"] {
                    let got = client.post_sealed(&token, path, &body).await;
                    if writes {
                        assert_eq!(got["errcode"], 0, "{got}");
                    } else {
                        self.assert_errcode(
                            3,
                            "appId: the app lacks the permission sessions:write",
                            &got,
                        );
                    }
                }
            }
        }
    }

    async fn sessions(&mut self) {
        let got = self.change("x", json!({})).await;
        self.assert_errcode(4, "opUser: x is not a member of the session", &got);
        let got = self.change("b", json!({ "delMember": ["c"] })).await;
        self.assert_errcode(4, "delMember: only the owner may remove c", &got);
        let got = self.create(json!({ "title": "会".repeat(65) })).await;
        self.assert_errcode(100_003, "title: at most 64 characters, got 65", &got);
        let got = self.create(json!({ "creator": null })).await;
        self.assert_errcode(100_003, "creator: is missing", &got);
        let got = self.create(json!({ "member": [true] })).await;
        self.assert_errcode(100_003, "member[0]: must be text or an integer, got a boolean", &got);
        let got = self.change("a", json!({ "addMember": ["x"], "delMember": ["x"] })).await;
        self.assert_errcode(100_003, "delMember: x is also in addMember", &got);
        let got = self.app.update(&json!({ "opUser": "a" })).await;
        self.assert_errcode(400_001, "sessionId: is missing", &got);
        let got = self.app.get("").await;
        self.assert_errcode(400_001, "sessionId: is missing", &got);
        let got = self.app.update(&json!({ "sessionId": "x", "opUser": "a" })).await;
        self.assert_errcode(400_002, "sessionId: must be a UUID, got \"x\"", &got);
        let got = self.app.get("x").await;
        self.assert_errcode(400_002, "sessionId: must be a UUID, got \"x\"", &got);
        let got = self.app.update(&json!({ "sessionId": NOWHERE, "opUser": "a" })).await;
        self.assert_errcode(400_003, "sessionId: no such session", &got);
        let got = self.app.get(NOWHERE.trim_matches(['{', '}'])).await;
        self.assert_errcode(400_003, "sessionId: no such session", &got);
        let too_few = "member: at least 3 members in the session, got 2";
        let got = self.create(json!({ "member": ["b"] })).await;
        self.assert_errcode(400_004, too_few, &got);
        let got = self.change("b", json!({ "delMember": ["b"] })).await;
        self.assert_errcode(400_004, too_few, &got);
        let got = self.create(json!({ "member": [1, 2, 3, 4, 5] })).await;
        self.assert_errcode(400_005, "member: at most 5 members, got 6", &got);
        let got = self.change("b", json!({ "addMember": [1, 2, 3, 4] })).await;
        self.assert_errcode(400_005, "member: at most 5 members, got 7", &got);
        let got = self.change("b", json!({ "title": "t", "version": 7 })).await;
        let now = self.app.current(&self.session).await["version"].clone();
        let errmsg = format!("version: expected 7, the current version is {now}");
        self.assert_errcode(CONFLICT, &errmsg, &got);
    }

    async fn dissolved(&mut self) {
        store::dissolve_sessions(&self.app).await;
        // A dissolved session can still be read.
        let before = self.app.current(&self.session).await;
        assert_eq!(before["errcode"], 0, "{before}");
        for changes in [json!({ "title": "late" }), json!({}), json!({ "version": 99 })] {
            let got = self.change("a", changes).await;
            self.assert_errcode(400_006, "sessionId: the session is dissolved", &got);
        }
        assert_eq!(self.app.current(&self.session).await, before);
    }

    async fn failures(&mut self) {
        let token = self.app.client.token().await;
        let id = self.session["sessionId"].as_str().unwrap().to_owned();
        // First a title that Muster never stores, then a missing column.
        for spoiled in [true, false] {
            match spoiled {
                true => store::set_invalid_titles(&self.app).await,
                false => store::rename_title_column(&self.app).await,
            }
            let got = self.app.client.get_session(&token, &id).await;
            self.assert_errcode(-1, "internal error", &got);
            let got = self.change("a", json!({ "title": "x" })).await;
            self.assert_errcode(-1, "internal error", &got);
        }
        let got = self.create(json!({})).await;
        self.assert_errcode(-1, "internal error", &got);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_errcode_can_be_provoked() {
    let mut table = Table::new().await;
    table.tokens().await;
    table.envelopes().await;
    table.permissions().await;
    table.sessions().await;
    table.dissolved().await;
    table.failures().await;
    let all: BTreeSet<i32> = CODES.into_iter().chain([CONFLICT]).collect();
    assert_eq!(table.provoked, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_write_leaves_no_trace_and_no_details() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    store::rename_event_table(&app).await;
    let internal = refusal(-1, "internal error");
    let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
    assert_eq!(app.create(&body).await, internal);
    assert_eq!(app.change(&session, "a", json!({ "addMember": ["d"] })).await, internal);
    let token = app.client.token().await;
    let sealed = app.client.post_sealed(&token, "/cgi/session/create", &body).await;
    assert_eq!(sealed, internal, "an internal error is not sealed");

    store::restore_event_table(&app).await;
    assert_eq!(app.current(&session).await, session, "a failed change changes nothing");
    assert_eq!(store::count_sessions(&app.pool).await, 1);
    assert_eq!(app.change(&session, "a", json!({ "addMember": ["d"] })).await["version"], 2);
}
