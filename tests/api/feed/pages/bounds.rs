//! The rows that a page reads and its response have bounds.

use serde_json::{Value, json};

use super::reader::Reader;
use super::{append_other_changes, caller, events, id_of, next, seq};
use crate::feed::complete_feed;
use crate::harness::{spawn_app, spawn_app_directly_with, store, wait_until};

const PAGE_BYTES: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn removal_of_a_member_is_the_last_change_of_that_member() {
    let app = spawn_app().await;
    let caller = caller(&app);
    let id = caller.create(&["a", "b", "c", "d"]).await;
    caller.change(&id, "a", json!({ "delMember": ["d"] })).await;
    caller.change(&id, "a", json!({ "title": "without d" })).await;
    caller.change(&id, "a", json!({ "owner": "b" })).await;
    caller.change(&id, "b", json!({ "addMember": ["d"], "title": "with d" })).await;
    caller.change(&id, "b", json!({ "title": "again" })).await;
    caller.change(&id, "b", json!({ "delMember": ["d"] })).await;
    complete_feed(&app.pool).await;
    for is_far in [false, true] {
        if is_far {
            append_other_changes(&app).await;
        }
        for (filter, expected) in [
            ("&member=d", vec![1, 2, 5, 6, 7]),
            ("&member=c", vec![1, 2, 3, 4, 5, 6, 7]),
            ("&owner=a", vec![1, 2, 3, 4]),
            ("&owner=b", vec![4, 5, 6, 7]),
            ("&member=d&owner=b", vec![5, 6, 7]),
            ("&member=d&kind=created", vec![1]),
        ] {
            for limit in [1, 2, 100] {
                let found = Reader::new(&caller, filter, "0").rest(limit).await;
                let found: Vec<i64> = found.iter().map(seq).collect();
                assert_eq!(found, expected, "{filter} {limit}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filter_that_matches_nothing_resumes_in_one_statement() {
    const CHANGES: i64 = 20_000;
    // One connection reports the rows that all requests have read.
    let app = spawn_app_directly_with(|settings| settings.database.max_connections = 1).await;
    let caller = caller(&app);
    let id = caller.create(&["a", "b", "c", "former"]).await;
    caller.change(&id, "a", json!({ "delMember": ["former"] })).await;
    complete_feed(&app.pool).await;
    let start = next(&caller.page("").await);
    store::append_changes(&app, &id, CHANGES).await;
    for filter in [
        "&member=nobody",
        "&owner=nobody",
        "&member=former",
        "&kind=restored",
        "&app=unknown",
        "&app=unknown&kind=created",
        "&sessionId={8AD595F3-73B3-4B56-90AF-F336F9222FC5}",
    ] {
        // The other connections of the server report late the rows that they have read, so a query may seem to
        // read more, but never less.
        wait_until(&format!("a query with few rows: {filter}"), async || {
            let before = store::feed_rows_read(&app.pool).await;
            let page = caller.page(&format!("after={start}{filter}")).await;
            let rows = store::feed_rows_read(&app.pool).await - before;
            assert_eq!((events(&page).len(), &page["caughtUp"]), (0, &json!(true)), "{filter}");
            assert_eq!(page["headSeq"], CHANGES + 2, "{filter}");
            rows < 50
        })
        .await;
    }
    // Every other page reads a bounded number of rows.
    for filter in
        ["", "&member=a", "&owner=a", "&app=x", "&kind=updated", "&member=a&kind=restored"]
    {
        wait_until(&format!("a page of few rows: {filter}"), async || {
            let before = store::feed_rows_read(&app.pool).await;
            caller.page(&format!("after={start}&limit=10{filter}")).await;
            store::feed_rows_read(&app.pool).await - before < 3_000
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn change_before_a_page_is_found_without_the_changes_between() {
    const CHANGES: i64 = 20_000;
    // One connection reports what all requests have read.
    let app = spawn_app_directly_with(|settings| settings.database.max_connections = 1).await;
    let caller = caller(&app);
    let id = caller.create(&["a", "b", "c", "former"]).await;
    complete_feed(&app.pool).await;
    let other = caller.create(&["o", "p", "q"]).await;
    complete_feed(&app.pool).await;
    caller.change(&id, "a", json!({ "delMember": ["former"] })).await;
    caller.change(&id, "a", json!({ "owner": "b" })).await;
    complete_feed(&app.pool).await;
    store::append_changes(&app, &id, CHANGES).await;
    let start = next(&caller.page("").await);
    // The cursor of a page without a filter does not tell the last change of another filter.
    caller.change(&id, "b", json!({ "addMember": ["former"] })).await;
    caller.change(&id, "b", json!({ "owner": "a" })).await;
    complete_feed(&app.pool).await;
    caller.change(&other, "o", json!({ "title": "after" })).await;
    complete_feed(&app.pool).await;
    caller.create(&["m", "n", "o"]).await;
    complete_feed(&app.pool).await;
    let first = caller.page("after=0&limit=1").await;
    let app_id = events(&first)[0]["app"].as_str().unwrap();
    for (filter, found, before) in [
        ("&member=former", 1, 3),
        ("&owner=a", 2, 4),
        (format!("&sessionId={other}").as_str(), 3, 2),
        ("&kind=created", 4, 2),
        (format!("&app={app_id}").as_str(), 1, 4),
        (format!("&sessionId={id}&member=former").as_str(), 1, 3),
        ("&member=former&kind=updated", 1, 3),
        ("&member=former&owner=b", 1, 0),
        ("&member=b&kind=created", 0, 0),
        ("&member=o&kind=created", 4, 2),
        ("&member=a&kind=reverted", 0, 0),
        (format!("&sessionId={id}&app={app_id}").as_str(), 1, 4),
    ] {
        wait_until(&format!("a query with few rows: {filter}"), async || {
            let reading = store::feed_rows_read(&app.pool).await;
            let page = caller.page(&format!("after={start}&limit=1{filter}")).await;
            let rows = store::feed_rows_read(&app.pool).await - reading;
            if found > 0 {
                let event = &events(&page)[0];
                assert_eq!(seq(event), CHANGES + 4 + found, "{filter}");
                assert_eq!(event["prevSeq"], before, "{filter}");
            }
            // A page reads up to 1,000 changes of a stream.
            rows < 1_500
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn change_before_a_page_is_found_in_several_statements() {
    const CHANGES: i64 = 25_000;
    let app = spawn_app().await;
    let caller = caller(&app);
    let id = caller.create(&["a", "b", "m"]).await;
    caller.change(&id, "a", json!({ "title": "of m" })).await;
    complete_feed(&app.pool).await;
    let other = caller.create(&["o", "p", "q"]).await;
    complete_feed(&app.pool).await;
    // Since then the session of `m` has only changes of another kind, and this kind only other sessions.
    store::append_changes_of_kind(&app, &id, CHANGES, "reverted").await;
    store::append_changes(&app, &other, CHANGES).await;
    let start = next(&caller.page("").await);
    caller.change(&id, "a", json!({ "title": "of m again" })).await;
    complete_feed(&app.pool).await;
    for (filter, before) in [
        ("&member=m&kind=updated", 2),
        ("&owner=a&kind=updated", 2),
        ("&member=m&owner=a", CHANGES + 3),
        (format!("&sessionId={id}&kind=updated").as_str(), 2),
        (format!("&sessionId={id}&member=m&owner=a&kind=updated").as_str(), 2),
    ] {
        let page = caller.page(&format!("after={start}&limit=1{filter}")).await;
        let event = &events(&page)[0];
        assert_eq!((seq(event), &event["prevSeq"]), (2 * CHANGES + 4, &json!(before)), "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn size_of_a_page_is_bounded() {
    let app = spawn_app().await;
    let caller = caller(&app);
    let id = caller.create(&["a", "b", "c"]).await;
    // Random text is stored in its full size.
    for _ in 0..80 {
        let text: String = (0..15_000).map(|_| rand::random_range('a'..='z')).collect();
        caller.change(&id, "a", json!({ "attributes": { "text": text } })).await;
    }
    // Repeated text is stored in a small part of its size.
    for number in 0..80 {
        let text = number.to_string().repeat(15_000 / number.to_string().len());
        caller.change(&id, "a", json!({ "attributes": { "text": text } })).await;
    }
    complete_feed(&app.pool).await;
    for filter in ["", "&include=session", "&member=b"] {
        let mut reader = Reader::new(&caller, filter, "0");
        let (mut pages, mut found) = (0, Vec::new());
        while found.len() < 161 {
            let page = reader.page(1_000).await;
            pages += 1;
            assert!(!events(&page).is_empty(), "{filter}");
            let sizes = |name: &str| -> usize {
                events(&page).iter().map(|event| event[name].to_string().len()).sum()
            };
            assert!(sizes("changes") < PAGE_BYTES + 100_000, "{filter}");
            assert!(sizes("session") < PAGE_BYTES + 100_000, "{filter}");
            assert_eq!(page["caughtUp"], found.len() + events(&page).len() == 161, "{filter}");
            found.extend(events(&page).iter().map(seq));
        }
        assert_eq!(found, (1..=161).collect::<Vec<i64>>(), "{filter}");
        assert!((3..6).contains(&pages), "{filter} {pages}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_is_that_of_the_change_even_if_others_are_left_out() {
    let app = spawn_app().await;
    let caller = caller(&app);
    let id = caller.create(&["a", "b", "c"]).await;
    for number in 2..=40 {
        let members = if number % 2 == 0 { "addMember" } else { "delMember" };
        caller.change(&id, "a", json!({ "title": format!("t {number}"), members: ["d"] })).await;
        if number % 10 == 0 {
            caller.create(&["a", "b", "c"]).await;
        }
    }
    complete_feed(&app.pool).await;
    for filter in ["&member=d", "&kind=created", "&kind=updated", ""] {
        let found = Reader::new(&caller, &format!("{filter}&include=session"), "0").rest(7).await;
        assert!(!found.is_empty());
        for event in &found {
            let path = format!("/v1/sessions/{}?version={}", id_of(event), event["version"]);
            let session = caller.send(reqwest::Method::GET, &path, &Value::Null).await;
            assert_eq!(event["session"], crate::v1::result(session).await, "{filter}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_of_a_snapshot_has_at_most_200_sessions() {
    let app = spawn_app().await;
    store::insert_many_sessions(&app, crate::harness::test_start_time(), 401).await;
    let caller = caller(&app);
    let (mut sizes, mut query) = (Vec::new(), "snapshot=true&limit=1000".to_owned());
    loop {
        let page = caller.page(&query).await;
        sizes.push(page["sessions"].as_array().unwrap().len());
        query = format!("after={}&limit=1000", next(&page));
        if page["snapshot"] == "done" {
            break;
        }
    }
    assert_eq!(sizes, [200, 200, 1]);
}
