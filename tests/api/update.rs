//! Updates of sessions: the seven rules.

use std::time::Duration;

use muster::config::RemoveMembers;
use muster::domain::Permission;
use serde_json::{Value, json};

use crate::harness::client::read_response;
use crate::harness::{BUIN, refusal, spawn_app, spawn_app_with};

fn invalid(errmsg: &str) -> Value {
    refusal(100_003, errmsg)
}

/// `session` with other values for some of its fields.
fn with(session: &Value, fields: &Value) -> Value {
    let mut session = session.clone();
    session.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_1_only_members_may_act() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c", "d"]).await;
    let not_a_member = refusal(4, "opUser: x is not a member of the session");
    for fields in [
        json!({}),
        json!({ "title": "mine" }),
        json!({ "title": "before" }),
        json!({ "addMember": ["x"] }),
        json!({ "delMember": ["x"] }),
        json!({ "delMember": ["a"] }),
    ] {
        assert_eq!(app.change(&session, "x", fields.clone()).await, not_a_member, "{fields}");
    }
    // Accounts that differ in case are different.
    assert_eq!(app.change(&session, "A", json!({ "title": "mine" })).await["errcode"], 4);
    assert_eq!(app.current(&session).await, session);

    // An account that left is no member. An account that was added is one.
    let left = app.change(&session, "d", json!({ "delMember": ["d"], "addMember": ["x"] })).await;
    assert_eq!(left["member"], json!(["a", "b", "c", "x"]));
    let got = app.change(&session, "d", json!({ "addMember": ["d"] })).await;
    assert_eq!(got, refusal(4, "opUser: d is not a member of the session"));
    let got = app.change(&session, "x", json!({ "addMember": ["d"] })).await;
    assert_eq!(got["member"], json!(["a", "b", "c", "x", "d"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_2_members_change_add_and_leave_but_only_the_owner_removes() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c", "d", "e"]).await;
    for (fields, account) in [
        (json!({ "delMember": ["c"] }), "c"),
        (json!({ "delMember": ["a"] }), "a"),
        (json!({ "delMember": ["b", "d"] }), "d"),
        (json!({ "delMember": ["nobody", "e"], "title": "t", "addMember": ["f"] }), "e"),
    ] {
        let got = app.change(&session, "b", fields.clone()).await;
        let errmsg = format!("delMember: only the owner may remove {account}");
        assert_eq!(got, refusal(4, &errmsg), "{fields}");
    }
    assert_eq!(app.current(&session).await, session);

    let got = app.change(&session, "b", json!({ "title": "after" })).await;
    assert_eq!(got, with(&session, &json!({ "version": 2, "title": "after" })));
    let got = app.change(&session, "c", json!({ "addMember": ["f", "g"] })).await;
    assert_eq!(got["member"], json!(["a", "b", "c", "d", "e", "f", "g"]));
    let got = app.change(&session, "d", json!({ "delMember": ["d"] })).await;
    assert_eq!(got["member"], json!(["a", "b", "c", "e", "f", "g"]));
    let got = app.change(&session, "a", json!({ "delMember": ["g", "b"] })).await;
    assert_eq!(got["member"], json!(["a", "c", "e", "f"]));
    assert_eq!((&got["owner"], &got["version"]), (&json!("a"), &json!(5)));
    // All changes in one update.
    let fields = json!({ "title": "all", "addMember": ["h"], "delMember": ["e", "f"] });
    let got = app.change(&session, "a", fields).await;
    let all = json!({ "version": 6, "title": "all", "member": ["a", "c", "h"] });
    assert_eq!(got, with(&session, &all));
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_2_may_let_every_member_remove() {
    let app = spawn_app_with(|settings| settings.policy.remove_members = RemoveMembers::Member);
    let app = app.await;
    let session = app.session(&["a", "b", "c", "d", "e"]).await;
    let got = app.change(&session, "b", json!({ "delMember": ["c"] })).await;
    assert_eq!(got["member"], json!(["a", "b", "d", "e"]));
    let got = app.change(&session, "e", json!({ "delMember": ["a"] })).await;
    assert_eq!((&got["owner"], &got["member"]), (&json!("b"), &json!(["b", "d", "e"])));
    let got = app.change(&session, "a", json!({ "delMember": ["b"] })).await;
    assert_eq!(got["errcode"], 4, "still members only: {got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_3_no_op_is_accepted_and_contradiction_refused() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    for fields in [
        json!({ "addMember": ["b"] }),
        json!({ "addMember": ["c", "a", "c"] }),
        json!({ "delMember": ["x"] }),
        json!({ "addMember": ["b"], "delMember": ["x", "y"] }),
    ] {
        // A removal without effect needs no permission.
        assert_eq!(app.change(&session, "b", fields.clone()).await, session, "{fields}");
    }
    // Only the parts that change something are done.
    let fields = json!({ "addMember": ["b", "d", "d", "a", "e"], "delMember": ["x", "c", "c"] });
    let got = app.change(&session, "a", fields).await;
    assert_eq!(got, with(&session, &json!({ "version": 2, "member": ["a", "b", "d", "e"] })));

    for (fields, account) in [
        (json!({ "addMember": ["b"], "delMember": ["b"] }), "b"),
        (json!({ "addMember": ["x", "y"], "delMember": ["z", "y", "x"] }), "y"),
        (json!({ "addMember": [7], "delMember": ["7"] }), "7"),
        (json!({ "addMember": ["a"], "delMember": ["a"], "title": "t" }), "a"),
    ] {
        let got = app.change(&session, "a", fields.clone()).await;
        let errmsg = format!("delMember: {account} is also in addMember");
        assert_eq!(got, invalid(&errmsg), "{fields}");
    }
    assert_eq!(app.current(&session).await["version"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_4_member_limits_hold_after_the_update() {
    let app = spawn_app_with(|settings| settings.limits.max_members = 5).await;
    let session = app.session(&["a", "b", "c"]).await;
    let too_few = |got: usize| {
        refusal(400_004, &format!("member: at least 3 members in the session, got {got}"))
    };
    let got = app.change(&session, "b", json!({ "delMember": ["b"], "title": "t" })).await;
    assert_eq!(got, too_few(2));
    let got = app.change(&session, "a", json!({ "delMember": ["a", "b", "c"] })).await;
    assert_eq!(got, too_few(0));
    let fields = json!({ "delMember": ["b", "c"], "addMember": ["d"] });
    assert_eq!(app.change(&session, "a", fields).await, too_few(2));
    let too_many = refusal(400_005, "member: at most 5 members, got 6");
    let got = app.change(&session, "b", json!({ "addMember": ["d", "e", "f"] })).await;
    assert_eq!(got, too_many);
    assert_eq!(app.current(&session).await, session);

    // The limit applies to the distinct members after the update.
    let got = app.change(&session, "c", json!({ "delMember": ["c"], "addMember": ["d"] })).await;
    assert_eq!(got["member"], json!(["a", "b", "d"]));
    let got = app.change(&session, "a", json!({ "addMember": ["a", "b", "c", "e", "e"] })).await;
    assert_eq!(got["member"], json!(["a", "b", "d", "c", "e"]));
    assert_eq!(app.change(&session, "a", json!({ "addMember": ["f"] })).await, too_many);
    let fields = json!({ "addMember": ["f", "g"], "delMember": ["b", "c"] });
    assert_eq!(app.change(&session, "a", fields).await["member"], json!(["a", "d", "e", "f", "g"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_5_longest_member_succeeds_the_owner() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c", "d"]).await;
    let step = async |operator: &str, fields: Value, owner: &str, members: Value| {
        let got = app.change(&session, operator, fields).await;
        assert_eq!((&got["owner"], &got["member"]), (&json!(owner), &members), "{got}");
        assert_eq!(app.current(&session).await, got);
    };
    step("a", json!({ "delMember": ["a"] }), "b", json!(["b", "c", "d"])).await;
    // An account that returns goes to the end of the order.
    step("c", json!({ "addMember": ["z", "a"] }), "b", json!(["b", "c", "d", "z", "a"])).await;
    // The owner removes the next member too.
    step("b", json!({ "delMember": ["c", "b"] }), "d", json!(["d", "z", "a"])).await;
    // A member that was added by the same update comes last.
    let fields = json!({ "delMember": ["d"], "addMember": ["A"] });
    step("d", fields, "z", json!(["z", "a", "A"])).await;
    step("z", json!({ "addMember": ["y", "x"] }), "z", json!(["z", "a", "A", "y", "x"])).await;
    step("z", json!({ "delMember": ["z", "a"] }), "A", json!(["A", "y", "x"])).await;
    // The former owner has lost the rights of the owner.
    let fields = json!({ "delMember": ["x"], "addMember": ["q"] });
    assert_eq!(app.change(&session, "y", fields).await["errcode"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_5_all_members_can_be_replaced() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    let fields = json!({ "delMember": ["a", "b", "c"], "addMember": ["x", "y", "z"] });
    let got = app.change(&session, "a", fields).await;
    let expected = json!({ "version": 2, "owner": "x", "member": ["x", "y", "z"] });
    assert_eq!(got, with(&session, &expected));
    assert_eq!(app.current(&session).await, got);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_a_version_is_one_change() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    app.clock.advance(Duration::from_secs(10));
    let changed = app.change(&session, "a", json!({ "title": "after", "addMember": ["d"] })).await;
    let created_at = session["activeTime"].as_i64().unwrap();
    let expected = json!({
        "version": 2, "title": "after", "member": ["a", "b", "c", "d"], "activeTime": created_at + 10,
    });
    assert_eq!(changed, with(&session, &expected));
    // An update that is refused or changes nothing keeps even the time.
    app.clock.advance(Duration::from_secs(10));
    for fields in [
        json!({}),
        json!({ "title": "after" }),
        json!({ "title": "after", "addMember": ["d"], "delMember": ["x"] }),
    ] {
        assert_eq!(app.change(&session, "b", fields.clone()).await, changed, "{fields}");
    }
    for fields in [json!({ "title": "" , "delMember": ["a"] }), json!({ "title": " " })] {
        assert_ne!(app.change(&session, "b", fields).await["errcode"], 0);
    }
    assert_eq!(app.current(&session).await, changed);
    for version in 3..=12 {
        let title = format!("after {version}");
        let got = app.change(&session, "c", json!({ "title": title })).await;
        assert_eq!((&got["version"], &got["title"]), (&json!(version), &json!(title)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_7_expected_version_must_be_current() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    let got = app.change(&session, "a", json!({ "title": "2", "version": 1 })).await;
    assert_eq!((&got["errcode"], &got["version"]), (&json!(0), &json!(2)));
    for (named, fields) in [
        (1, json!({ "title": "3" })),
        (3, json!({ "title": "3" })),
        (i64::MAX, json!({ "addMember": ["d"] })),
        // An update without effect is refused too.
        (1, json!({})),
        (1, json!({ "title": "2" })),
    ] {
        let got = app.change(&session, "a", with(&fields, &json!({ "version": named }))).await;
        let errmsg = format!("version: expected {named}, the current version is 2");
        assert_eq!(got, refusal(400_009, &errmsg), "{fields}");
    }
    let now = app.current(&session).await;
    assert_eq!((&now["version"], &now["title"]), (&json!(2), &json!("2")));
    // The current version is accepted by an update without effect.
    for _ in 0..2 {
        assert_eq!(app.change(&session, "b", json!({ "title": "2", "version": 2 })).await, now);
    }
    assert_eq!(
        app.change(&session, "b", json!({ "title": "3", "version": 2 })).await["version"],
        3
    );

    // A whole number may be written with a fraction or an exponent.
    for (text, version) in [("3.0", 4), ("4e0", 5), ("0.5e1", 6)] {
        let text: Value = serde_json::from_str(text).unwrap();
        let changes = json!({ "title": version.to_string(), "version": text });
        assert_eq!(app.change(&session, "b", changes).await["version"], version);
    }

    let beyond: Value = serde_json::from_str("18446744073709551616").unwrap();
    let no_integer = "must be a whole number, got a number that is not a 64-bit integer";
    for (version, why) in [
        (json!(0), "at least 1, got 0"),
        (json!(-1), "at least 1, got -1"),
        (json!("3"), "must be a whole number, got text"),
        (json!(3.5), no_integer),
        (json!(-0.0), no_integer),
        (json!(9_007_199_254_740_994.0), no_integer),
        (beyond, no_integer),
        (json!(u64::MAX), "at most 9223372036854775807, got 18446744073709551615"),
        (json!(true), "must be a whole number, got a boolean"),
        (json!({}), "must be a whole number, got an object"),
        (json!([3]), "must be a whole number, got a list"),
    ] {
        let got = app.change(&session, "a", json!({ "title": "4", "version": version })).await;
        assert_eq!(got, invalid(&format!("version: {why}")), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_field_has_four_forms() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    for absent in [Value::Null, json!(""), json!([])] {
        for field in ["title", "addMember", "delMember", "version"] {
            let got = app.change(&session, "a", json!({ field: absent })).await;
            assert_eq!(got, session, "{field}: {absent}");
        }
        let all = json!({
            "title": absent, "addMember": absent, "delMember": absent, "version": absent,
        });
        assert_eq!(app.change(&session, "b", all).await, session, "{absent}");
        let got = app.change(&session, "a", json!({ "opUser": absent, "title": "t" })).await;
        assert_eq!(got, invalid("opUser: is missing"), "{absent}");
    }
    // PHP and Go clients send this if only members change.
    let fields = json!({ "title": "", "addMember": ["d"], "delMember": null });
    let got = app.change(&session, "a", fields).await;
    assert_eq!(got, with(&session, &json!({ "version": 2, "member": ["a", "b", "c", "d"] })));
    let got = app.update(&json!({ "sessionId": session["sessionId"] })).await;
    assert_eq!(got, invalid("opUser: is missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_are_accounts_in_updates() {
    let app = spawn_app().await;
    let body = json!({ "title": "t", "creator": 1, "member": [2, 3, "4"] });
    let session = app.create(&body).await;
    let fields = json!({ "opUser": 1, "addMember": [10232, "b"], "delMember": [2, "3"] });
    let got = app.change(&session, "", fields).await;
    assert_eq!(got["member"], json!(["1", "4", "10232", "b"]), "{got}");
    assert_eq!(app.change(&session, "10232", json!({ "title": "u" })).await["version"], 3);
    for (value, kind) in [
        (json!(true), "a boolean"),
        (json!(0.5), "a number that is not a 64-bit integer"),
        (json!({ "userId": 1 }), "an object"),
        (json!([1]), "a list"),
    ] {
        let got = app.change(&session, "", json!({ "opUser": value })).await;
        assert_eq!(got, invalid(&format!("opUser: must be text or an integer, got {kind}")));
        for field in ["addMember", "delMember"] {
            let got = app.change(&session, "1", json!({ field: ["x", value] })).await;
            assert_eq!(
                got,
                invalid(&format!("{field}[1]: must be text or an integer, got {kind}"))
            );
            if !value.is_array() {
                let got = app.change(&session, "1", json!({ field: value })).await;
                assert_eq!(
                    got,
                    invalid(&format!("{field}: must be a list of accounts, got {kind}"))
                );
            }
        }
        let got = app.change(&session, "1", json!({ "title": value })).await;
        assert_eq!(got, invalid(&format!("title: must be text, got {kind}")));
    }
}

/// The answer to a change shows no content to an app that may not read sessions.
#[tokio::test(flavor = "multi_thread")]
async fn app_that_only_writes_reads_nothing() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    let (writer, key) = app.another_app(BUIN, &[Permission::SessionsWrite]).await;
    let token = writer.token().await;
    let update =
        |fields: Value| with(&json!({ "sessionId": session["sessionId"], "opUser": "a" }), &fields);
    let path = "/cgi/session/update";
    for (version, fields) in [
        (2, json!({ "addMember": ["d"] })),
        (3, json!({ "title": "after" })),
        // Nothing changes.
        (3, json!({ "title": "after" })),
    ] {
        let sealed = writer.post_sealed(&token, path, &update(fields.clone())).await;
        assert_eq!((&sealed["errcode"], &sealed["version"]), (&json!(0), &json!(version)));
        for hidden in ["title", "owner", "member", "activeTime"] {
            assert!(sealed.get(hidden).is_none(), "{sealed}");
        }
        let body = update(fields).to_string();
        let plain = read_response(writer.post(&format!("{path}?accessToken={key}"), body).await);
        let expected = json!({
            "errcode": 0, "errmsg": "ok", "sessionId": session["sessionId"], "version": version
        });
        assert_eq!(plain.await, expected);
    }
    let got = writer.post_sealed(&token, path, &update(json!({}))).await;
    assert_eq!(got, refusal(3, "appId: the app lacks the permission sessions:read"));
}
