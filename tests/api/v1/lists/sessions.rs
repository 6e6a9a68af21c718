//! `GET /v1/sessions`.

use std::time::Duration;

use chrono::SecondsFormat;
use muster::domain::Action;
use reqwest::Method;
use serde_json::json;

use super::{SESSIONS, all, found, invalid_field, out_of_range, page, refused, texts, with};
use crate::harness::BUIN;
use crate::list::TestService;

const ORDERS: [&str; 4] = ["createdAt", "-createdAt", "updatedAt", "-updatedAt"];
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn listed_sessions_are_complete() {
    let service = TestService::start().await;
    let id = service.create("项目会议", &["b", "a", "张三"]).await.id;
    service.app.clock.advance(Duration::from_micros(10_000_001));
    service.act(id, Action::Dissolve).await.unwrap();
    let session = json!({
        "sessionId": id.to_string(),
        "title": "项目会议",
        "owner": "b",
        "version": 2,
        "type": "multi",
        "member": ["b", "a", "张三"],
        "activeTime": 1_718_000_010,
        "createdAt": "2024-06-10T06:13:20.000000Z",
        "updatedAt": "2024-06-10T06:13:30.000001Z",
        "state": "dissolved",
        "attributes": {},
        "memberCount": 3
    });
    let expected = json!({ "items": [session], "nextCursor": null });
    assert_eq!(found(&service.app, SESSIONS).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_filter_selects_its_sessions() {
    let service = TestService::start().await;
    let mut ids = Vec::new();
    for (title, members) in [
        ("Release 1", ["a", "b", "c"]),
        ("release 2", ["b", "c", "d"]),
        ("项目会议", ["a", "c", "d"]),
        ("ＥＴＥ 会议 100%", ["a", "b", "d/x"]),
    ] {
        service.app.clock.advance(SECOND);
        ids.push(service.create(title, &members).await.id);
    }
    service.app.clock.advance(SECOND);
    let since = service.app.clock.now();
    service.act(ids[1], Action::Dissolve).await.unwrap();
    service.app.clock.advance(SECOND);
    service.rename(ids[0], "Release 1a").await;

    let in_utc = since.to_rfc3339_opts(SecondsFormat::Secs, true);
    let zone = chrono::FixedOffset::east_opt(8 * 3600).unwrap();
    let in_china = since.with_timezone(&zone).to_rfc3339();
    assert!(in_china.ends_with("+08:00"), "{in_china}");
    let later = (since + Duration::from_micros(1)).to_rfc3339();
    for (filter, expected) in [
        (&[][..], &["ＥＴＥ 会议 100%", "项目会议", "release 2", "Release 1a"][..]),
        (&[("member", "b")], &["ＥＴＥ 会议 100%", "release 2", "Release 1a"]),
        (&[("member", "d/x")], &["ＥＴＥ 会议 100%"]),
        (&[("member", "nobody")], &[]),
        (&[("owner", "a")], &["ＥＴＥ 会议 100%", "项目会议", "Release 1a"]),
        (&[("owner", "c")], &[]),
        (&[("state", "active")], &["ＥＴＥ 会议 100%", "项目会议", "Release 1a"]),
        (&[("state", "dissolved")], &["release 2"]),
        (&[("title", "RELEASE")], &["release 2", "Release 1a"]),
        (&[("title", "会")], &["ＥＴＥ 会议 100%", "项目会议"]),
        (&[("title", "ete 会")], &["ＥＴＥ 会议 100%"]),
        (&[("title", "ｒｅｌ")], &["release 2", "Release 1a"]),
        (&[("title", "0%")], &["ＥＴＥ 会议 100%"]),
        (&[("updatedSince", &in_utc)], &["release 2", "Release 1a"]),
        (&[("updatedSince", &in_china)], &["release 2", "Release 1a"]),
        (&[("updatedSince", &later)], &["Release 1a"]),
        (&[("member", "b"), ("owner", "a")], &["ＥＴＥ 会议 100%", "Release 1a"]),
        (&[("state", "active"), ("updatedSince", &in_utc), ("title", "a")], &["Release 1a"]),
    ] {
        for limit in ["1", "2", "200"] {
            let query = [filter, &[("limit", limit)]].concat();
            let items = all(&service.app, SESSIONS, &query).await;
            assert_eq!(texts(&items, "title"), expected, "{query:?}");
        }
    }

    for (order, expected) in ORDERS.into_iter().zip([
        ["Release 1a", "release 2", "项目会议", "ＥＴＥ 会议 100%"],
        ["ＥＴＥ 会议 100%", "项目会议", "release 2", "Release 1a"],
        ["项目会议", "ＥＴＥ 会议 100%", "release 2", "Release 1a"],
        ["Release 1a", "release 2", "ＥＴＥ 会议 100%", "项目会议"],
    ]) {
        let items = all(&service.app, SESSIONS, &[("sort", order), ("limit", "3")]).await;
        assert_eq!(texts(&items, "title"), expected, "{order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paging_ends_during_changes() {
    let service = TestService::start().await;
    let mut ids = Vec::new();
    for number in 0..7 {
        service.app.clock.advance(SECOND);
        ids.push(service.create(&format!("{number}"), &["a", "b", "c"]).await.id);
    }
    for order in ORDERS {
        let parameters = |limit| [("sort", order), ("limit", limit), ("member", "a")];
        let all_at_once = all(&service.app, SESSIONS, &parameters("200")).await;
        assert_eq!(all_at_once.len(), 7, "{order}");
        let (mut items, mut cursor) = page(&service.app, SESSIONS, &parameters("2")).await;
        assert_eq!(items.len(), 2, "{order}");
        let (mut pages, mut changed) = (0, 0);
        while let Some(text) = cursor {
            pages += 1;
            let title = format!("{order} {pages}");
            // In every order, earlier pages have shown some of these sessions and not the others.
            for id in [ids[0], ids[3], ids[6]] {
                service.app.clock.advance(SECOND);
                service.rename(id, &title).await;
            }
            let query = [&parameters("3")[..], &[("cursor", &text)]].concat();
            let (more, next) = page(&service.app, SESSIONS, &query).await;
            // The page shows the current title of each session.
            let moving = ids.iter().step_by(3).map(ToString::to_string);
            for item in moving.filter_map(|id| more.iter().find(|item| item["sessionId"] == id)) {
                assert_eq!(item["title"], title);
                changed += 1;
            }
            items.extend(more);
            cursor = next;
        }
        assert_eq!(texts(&items, "sessionId"), texts(&all_at_once, "sessionId"), "{order}");
        assert!(pages == 2 && changed > 0, "{order}: {pages} {changed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_parameters_are_named() {
    let service = TestService::start().await;
    let long = "项".repeat(65);
    let time = |got: &str| {
        let why = "must be a time such as 2024-06-10T06:13:20Z, with + written as %2B, got";
        invalid_field("updatedSince", &format!("{why} {got:?}"))
    };
    let sort = "must be one of `createdAt`, `-createdAt`, `updatedAt`, `-updatedAt`, got \"title\"";
    let too_long = "at most 64 characters, got 65";
    let empty = "at least 1 character, got 0";
    let cursor = |got: &str| {
        invalid_field("cursor", &format!("must be the nextCursor of another page, got {got}"))
    };
    let state =
        |got: &str| invalid_field("state", &format!("must be active or dissolved, got {got:?}"));
    for (name, value, expected) in [
        ("member", "", out_of_range("member", empty, 1, 0)),
        ("member", &long, out_of_range("member", too_long, 64, 65)),
        ("owner", &long, out_of_range("owner", too_long, 64, 65)),
        ("title", "", out_of_range("title", empty, 1, 0)),
        ("title", &long, out_of_range("title", too_long, 64, 65)),
        ("state", "gone", state("gone")),
        ("state", "", state("")),
        ("updatedSince", "", time("")),
        ("updatedSince", "1718000000", time("1718000000")),
        ("updatedSince", "2024-06-10", time("2024-06-10")),
        ("sort", "title", invalid_field("sort", sort)),
        ("limit", "0", out_of_range("limit", "at least 1, got 0", 1, 0)),
        ("limit", "-1", out_of_range("limit", "at least 1, got -1", 1, -1)),
        ("limit", "201", out_of_range("limit", "at most 200, got 201", 200, 201)),
        ("limit", "many", invalid_field("limit", "must be a whole number, got \"many\"")),
        ("cursor", "", cursor("\"\"")),
        ("cursor", "null", cursor("\"null\"")),
        ("cursor", &"A".repeat(7_000), cursor(&format!("\"{}\"…", "A".repeat(64)))),
    ] {
        assert_eq!(refused(&service.app, &with(SESSIONS, &[(name, value)])).await, expected);
    }
    for (query, code, field) in [
        ("member=%01", "invalid_parameter", "member"),
        ("title=%00", "invalid_parameter", "title"),
        ("updatedSince=2024-06-10T06:13:20+08:00", "invalid_parameter", "updatedSince"),
        ("title=%ff", "malformed_query", "query"),
        ("limit=1&limit=2", "duplicate_parameter", "limit"),
        ("updated_since=2024-06-10T06:13:20Z", "unknown_parameter", "updated_since"),
    ] {
        let (status, found, rest) = refused(&service.app, &format!("{SESSIONS}?{query}")).await;
        assert_eq!((status, found.as_str(), &rest["field"]), (400, code, &json!(field)), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cursor_is_bound_to_its_query() {
    let service = TestService::start().await;
    for title in ["1", "2", "3"] {
        service.app.clock.advance(SECOND);
        service.create(title, &["a", "b", "c"]).await;
    }
    let (_, cursor) = page(&service.app, SESSIONS, &[("member", "a"), ("limit", "1")]).await;
    let cursor = ("cursor", cursor.as_deref().unwrap());
    // The limit may differ between pages, and a default value may be given explicitly.
    let query = [("member", "a"), ("limit", "2"), ("sort", "-createdAt"), cursor];
    let (items, next) = page(&service.app, SESSIONS, &query).await;
    assert_eq!((texts(&items, "title"), next), (vec!["2", "1"], None));
    let why = "belongs to another list: filters and sort must stay the same on every page";
    for query in [
        &[cursor][..],
        &[("member", "b"), cursor],
        &[("owner", "a"), cursor],
        &[("member", "a"), ("state", "active"), cursor],
        &[("member", "a"), ("sort", "createdAt"), cursor],
        &[("member", "a"), ("sort", "-updatedAt"), cursor],
    ] {
        assert_eq!(
            refused(&service.app, &with(SESSIONS, query)).await,
            invalid_field("cursor", why)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_another_enterprise_are_hidden() {
    let service = TestService::start().await;
    for title in ["1", "2"] {
        service.create(title, &["a", "b", "c"]).await;
    }
    let (_, cursor) = page(&service.app, SESSIONS, &[("limit", "1")]).await;
    let (_, key) = service.app.another_app(BUIN + 1, &[super::Permission::SessionsRead]).await;
    for query in [
        &[][..],
        &[("member", "a")],
        &[("owner", "a")],
        &[("title", "1")],
        &[("state", "active")],
        &[("updatedSince", "2024-01-01T00:00:00Z")],
        &[("sort", "updatedAt")],
        &[("cursor", cursor.as_deref().unwrap())],
    ] {
        let builder = service.app.client.request(Method::GET, &with(SESSIONS, query));
        let response = builder.bearer_auth(&key).send().await.unwrap();
        let mut found: serde_json::Value = response.json().await.unwrap();
        // The time up to which the list is complete says nothing about sessions.
        found.as_object_mut().unwrap().remove("completeUntil");
        assert_eq!(found, json!({ "items": [], "nextCursor": null }), "{query:?}");
        // The same query finds sessions with the app of the own enterprise.
        assert!(!all(&service.app, SESSIONS, query).await.is_empty(), "{query:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_size_follows_the_limits() {
    let service = TestService::start().await;
    let limits = found(&service.app, "/v1/limits").await;
    let default_limit = limits["defaultPageLimit"].as_u64().unwrap();
    for number in 0..=default_limit {
        service.create(&number.to_string(), &["a", "b", "c"]).await;
    }
    let (items, next) = page(&service.app, SESSIONS, &[]).await;
    assert_eq!((items.len() as u64, next.is_some()), (default_limit, true));
    let max_limit = limits["maxPageLimit"].as_u64().unwrap();
    let (items, next) = page(&service.app, SESSIONS, &[("limit", &max_limit.to_string())]).await;
    assert_eq!((items.len() as u64, next), (default_limit + 1, None));
    let beyond = (max_limit + 1).to_string();
    let (status, _, rest) = refused(&service.app, &with(SESSIONS, &[("limit", &beyond)])).await;
    assert_eq!((status, &rest["limit"]), (400, &json!(max_limit)));
}
