//! Starts of pages: cursors of this and of other histories, times, the beginning and the end.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster::domain::Permission;
use reqwest::Method;
use serde_json::{Value, json};

use super::reader::Reader;
use super::{Caller, caller, events, next, seq};
use crate::feed::complete_feed;
use crate::harness::{BUIN, TestApp, spawn_app, store};
use crate::v1::problem;

/// The status and code of a refused request.
async fn refused(caller: &Caller, query: &str) -> (u16, String, Value) {
    let request = caller.client.request(Method::GET, &format!("/v1/events?{query}"));
    let response = request.bearer_auth(&caller.key).send().await.unwrap();
    let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
    let (status, code, rest) = problem(response).await;
    let expected = (status == 410).then_some("</v1/events?snapshot=true>; rel=\"alternate\"");
    assert_eq!(link.as_deref(), expected, "{query}");
    (status, code, rest["field"].clone())
}

/// An enterprise with five changes of one session.
async fn five_changes(app: &TestApp) -> Caller {
    let caller = caller(app);
    let id = caller.create(&["a", "b", "c"]).await;
    for number in 2..=5 {
        caller.change(&id, "a", json!({ "title": format!("t {number}") })).await;
    }
    complete_feed(&app.pool).await;
    caller
}

#[tokio::test(flavor = "multi_thread")]
async fn page_starts_at_the_end_by_default() {
    let app = spawn_app().await;
    let caller = caller(&app);
    let empty = caller.page("").await;
    assert_eq!((&empty["headSeq"], &empty["caughtUp"]), (&json!(0), &json!(true)));
    five_changes(&app).await;
    let end = caller.page("limit=1").await;
    assert_eq!(
        (events(&end).len(), &end["headSeq"], &end["caughtUp"]),
        (0, &json!(5), &json!(true))
    );
    // The cursor of the empty feed is before the first change.
    let first = caller.page(&format!("after={}&limit=2", next(&empty))).await;
    assert_eq!(events(&first).iter().map(seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(first["caughtUp"], false);
    caller.create(&["a", "b", "c"]).await;
    complete_feed(&app.pool).await;
    let later = caller.page(&format!("after={}", next(&end))).await;
    assert_eq!(events(&later).iter().map(seq).collect::<Vec<_>>(), [6]);
    assert_eq!(events(&later)[0]["prevSeq"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_starts_before_the_first_later_change() {
    let app = spawn_app().await;
    let caller = five_changes(&app).await;
    // Pairs of changes have the same time.
    store::set_numbered_times(&app).await;
    for (time, expected) in [
        ("2000-01-01T00:00:00Z", vec![1, 2, 3, 4, 5]),
        ("2020-01-01T00:00:00.999999Z", vec![2, 3, 4, 5]),
        ("2020-01-01T00:00:01Z", vec![4, 5]),
        ("2020-01-01T01:00:01.5%2B01:00", vec![4, 5]),
        ("2020-01-01T00:00:02Z", vec![]),
        ("2999-01-01T00:00:00Z", vec![]),
    ] {
        for limit in [1, 100] {
            let found = Reader::new(&caller, "", time).rest(limit).await;
            assert_eq!(found.iter().map(seq).collect::<Vec<_>>(), expected, "{time}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cursor_of_another_history_has_expired() {
    let app = spawn_app().await;
    let caller = five_changes(&app).await;
    let permissions = [Permission::SessionsRead, Permission::SessionsWrite];
    let (client, key) = app.another_app(BUIN + 1, &permissions).await;
    let foreign = Caller { client, key };
    foreign.create(&["a", "b", "c"]).await;
    foreign.create(&["a", "b", "c"]).await;
    complete_feed(&app.pool).await;
    let cursors: Vec<String> = events(&caller.page("after=0").await)
        .iter()
        .map(|event| event["cursor"].as_str().unwrap().to_owned())
        .collect();
    let expired = (410, "cursor_expired".to_owned(), json!("after"));
    // Another change has the number in the other enterprise, or none has it.
    assert_eq!(refused(&foreign, &format!("after={}", cursors[1])).await, expired);
    assert_eq!(refused(&foreign, &format!("after={}", cursors[4])).await, expired);
    for cursor in &cursors {
        caller.page(&format!("after={cursor}")).await;
    }
    let snapshot = next(&caller.page("snapshot=true").await);
    store::begin_another_epoch(&app).await;
    for cursor in cursors.iter().chain([&snapshot]) {
        assert_eq!(refused(&caller, &format!("after={cursor}")).await, expired, "{cursor}");
    }
    caller.page("after=0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_cursor_is_refused_or_shows_only_the_own_enterprise() {
    let app = spawn_app().await;
    let caller = five_changes(&app).await;
    let cursor = next(&caller.page("after=0&limit=3").await);
    let bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
    let invalid = (400, "invalid_parameter".to_owned(), json!("after"));
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut forged = bytes.clone();
            forged[place] ^= 1 << bit;
            let query = format!("after={}", URL_SAFE_NO_PAD.encode(&forged));
            let request = caller.client.request(Method::GET, &format!("/v1/events?{query}"));
            let response = request.bearer_auth(&caller.key).send().await.unwrap();
            let status = response.status().as_u16();
            assert!([200, 400, 410].contains(&status), "{status} {place} {bit}");
            // Format, epoch, number and fingerprint are checked.
            assert!(place >= 21 || status != 200, "{status} {place} {bit}");
        }
    }
    for text in ["", "x", "-1", "1", "00", "null", "2024-06-10", &cursor[1..], &cursor.repeat(2)] {
        assert_eq!(refused(&caller, &format!("after={text}")).await, invalid, "{text}");
    }
    // The largest numbers.
    for format in [1_u8, 3] {
        let mut forged = vec![format];
        forged.extend(&bytes[1..9]);
        forged.extend(i64::MAX.to_be_bytes());
        forged.extend([0; 4]);
        forged.extend(if format == 3 { vec![255; 16] } else { vec![] });
        let query = format!("after={}", URL_SAFE_NO_PAD.encode(&forged));
        assert_eq!(refused(&caller, &query).await.0, 410, "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_parameters_are_refused() {
    let app = spawn_app().await;
    let caller = caller(&app);
    let running = {
        caller.create(&["a", "b", "c"]).await;
        caller.create(&["a", "b", "c"]).await;
        next(&caller.page("snapshot=true&limit=1").await)
    };
    let in_snapshot = format!("after={running}&kind=created");
    for (query, code, field) in [
        ("limit=0", "invalid_parameter", "limit"),
        ("limit=1001", "invalid_parameter", "limit"),
        ("limit=x", "invalid_parameter", "limit"),
        ("kind=renamed", "invalid_parameter", "kind"),
        ("member=", "invalid_parameter", "member"),
        ("owner=", "invalid_parameter", "owner"),
        ("app=a%20b", "invalid_parameter", "app"),
        ("sessionId=5", "invalid_session_id", "sessionId"),
        ("include=members", "invalid_parameter", "include"),
        ("snapshot=yes", "invalid_parameter", "snapshot"),
        ("snapshot=true&after=0", "invalid_parameter", "after"),
        ("snapshot=true&kind=created", "invalid_parameter", "kind"),
        ("snapshot=true&app=x", "invalid_parameter", "app"),
        (&in_snapshot, "invalid_parameter", "kind"),
        ("cursor=0", "unknown_parameter", "cursor"),
        ("after=0&after=0", "duplicate_parameter", "after"),
    ] {
        let expected = (400, code.to_owned(), json!(field));
        assert_eq!(refused(&caller, query).await, expected, "{query}");
    }
}
