//! `GET /v1/sessions/{sessionId}/members`, and `…/members/{account}`.

use muster::domain::{Account, Action, SessionId, Update};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    SESSIONS, all, found, invalid_field, out_of_range, page, refused, session_not_found, texts,
    with,
};
use crate::harness::BUIN;
use crate::list::TestService;
use crate::v1::problem;

fn members(id: SessionId) -> String {
    format!("{SESSIONS}/{}/members", id.uuid())
}

/// The path of one member, with every special character encoded.
fn member(id: SessionId, account: &str) -> String {
    format!("{}/{}", members(id), utf8_percent_encode(account, NON_ALPHANUMERIC))
}

fn shown(account: &str, joined_version: i64, owner: bool) -> Value {
    json!({ "account": account, "joinedVersion": joined_version, "owner": owner })
}

fn member_not_found(account: &str) -> (u16, String, Value) {
    let detail = format!("account: {account} is not a member of the session");
    let rest = json!({ "detail": detail, "field": "account" });
    (404, "member_not_found".to_owned(), rest)
}

async fn update(service: &TestService, id: SessionId, add: &[&str], remove: &[&str]) {
    let accounts = |names: &[&str]| names.iter().map(|name| Account::new(name).unwrap()).collect();
    let update = Update::for_members(accounts(add), accounts(remove)).unwrap();
    service.act(id, Action::Update(update)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_paged_in_order() {
    let service = TestService::start().await;
    let id = service.create("t", &["f", "b", "张三", "a"]).await.id;
    update(&service, id, &["c"], &["b"]).await;
    let path = members(id);
    let expected = json!({
        "items": [shown("f", 1, true), shown("张三", 1, false), shown("a", 1, false), shown("c", 2, false)],
        "nextCursor": null
    });
    assert_eq!(found(&service.app, &path).await, expected);
    for limit in ["1", "2", "3", "4"] {
        let items = all(&service.app, &path, &[("limit", limit)]).await;
        assert_eq!(json!(items), expected["items"], "{limit}");
    }

    // Members that stay are listed once while others join and leave.
    let (mut items, cursor) = page(&service.app, &path, &[("limit", "2")]).await;
    update(&service, id, &["d"], &["张三"]).await;
    service.act(id, Action::Dissolve).await.unwrap();
    let query = [("limit", "9"), ("cursor", cursor.as_deref().unwrap())];
    let (more, next) = page(&service.app, &path, &query).await;
    items.extend(more);
    assert_eq!((texts(&items, "account"), next), (vec!["f", "张三", "a", "c", "d"], None));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_page_parameters_are_refused() {
    let service = TestService::start().await;
    let id = service.create("t", &["a", "b", "c"]).await.id;
    let other = service.create("t", &["a", "b", "c"]).await.id;
    let (_, cursor) = page(&service.app, &members(other), &[("limit", "1")]).await;
    let of_other = cursor.as_deref().unwrap();
    let (_, cursor) = page(&service.app, SESSIONS, &[("limit", "1")]).await;
    let of_sessions = cursor.as_deref().unwrap();
    let another = "belongs to another list: filters and sort must stay the same on every page";
    for (name, value, expected) in [
        ("limit", "0", out_of_range("limit", "at least 1, got 0", 1, 0)),
        ("limit", "201", out_of_range("limit", "at most 200, got 201", 200, 201)),
        (
            "cursor",
            "x",
            invalid_field("cursor", "must be the nextCursor of another page, got \"x\""),
        ),
        ("cursor", of_other, invalid_field("cursor", another)),
        ("cursor", of_sessions, invalid_field("cursor", another)),
    ] {
        let path = with(&members(id), &[(name, value)]);
        assert_eq!(refused(&service.app, &path).await, expected, "{name}={value}");
    }
    for path in [with(&members(id), &[("sort", "a")]), with(&member(id, "a"), &[("limit", "1")])] {
        assert_eq!(refused(&service.app, &path).await.1, "unknown_parameter", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn member_is_found_by_any_account_name() {
    const ODD: [&str; 11] =
        ["a/b", "100%", "a%2Fb", "a+b", "a b", "张三", "?a#b&c=d", " ", "{account}", "%", "../x"];
    let service = TestService::start().await;
    let id = service.create("t", &ODD).await.id;
    update(&service, id, &["é@例子"], &[]).await;
    for name in ODD {
        let expected = shown(name, 1, name == ODD[0]);
        assert_eq!(found(&service.app, &member(id, name)).await, expected, "{name}");
        let items = all(&service.app, SESSIONS, &[("member", name)]).await;
        assert_eq!(texts(&items, "sessionId"), [id.to_string()], "{name}");
    }
    assert_eq!(found(&service.app, &member(id, "é@例子")).await, shown("é@例子", 2, false));
    // `+` need not be encoded in a path.
    assert_eq!(found(&service.app, &format!("{}/a+b", members(id))).await, shown("a+b", 1, false));
    for name in ["a", "b", "A/B", "a  b", "张"] {
        assert_eq!(
            refused(&service.app, &member(id, name)).await,
            member_not_found(name),
            "{name}"
        );
    }
    service.act(id, Action::Dissolve).await.unwrap();
    assert_eq!(found(&service.app, &member(id, "a b")).await, shown("a b", 1, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_account_is_refused() {
    let service = TestService::start().await;
    let id = service.create("t", &["a", "b", "c"]).await.id;
    let long = "项".repeat(65);
    let path = format!("{}/{}", members(id), utf8_percent_encode(&long, NON_ALPHANUMERIC));
    let expected = out_of_range("account", "at most 64 characters, got 65", 64, 65);
    assert_eq!(refused(&service.app, &path).await, expected);
    let percent = "`%` must be followed by two hexadecimal digits";
    for (part, why) in [("%ff", "must be UTF-8"), ("%zz", percent), ("a%", percent)] {
        let path = format!("{}/{part}", members(id));
        assert_eq!(refused(&service.app, &path).await, invalid_field("account", why), "{part}");
    }
    let (status, code, rest) = refused(&service.app, &format!("{}/%00", members(id))).await;
    assert_eq!(
        (status, code.as_str(), &rest["field"]),
        (400, "invalid_parameter", &json!("account"))
    );
    assert_eq!(refused(&service.app, &format!("{}/", members(id))).await.1, "endpoint_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_an_unknown_session_are_not_found() {
    let service = TestService::start().await;
    let id = service.create("t", &["a", "b", "c"]).await.id;
    let unknown = SessionId::new(uuid::Uuid::from_u128(7));
    for path in [members(unknown), member(unknown, "a")] {
        assert_eq!(refused(&service.app, &path).await, session_not_found(), "{path}");
    }
    let (_, key) = service.app.another_app(BUIN + 1, &[super::Permission::SessionsRead]).await;
    for path in [members(id), member(id, "a"), member(id, "x")] {
        let builder = service.app.client.request(Method::GET, &path).bearer_auth(&key);
        assert_eq!(problem(builder.send().await.unwrap()).await, session_not_found(), "{path}");
    }
    for part in ["members", "members/a"] {
        let (status, code, _) = refused(&service.app, &format!("{SESSIONS}/x/{part}")).await;
        assert_eq!((status, code.as_str()), (400, "invalid_session_id"));
    }
}
