//! Creates and reads of sessions.

use std::time::Duration;

use muster::domain::Permission;
use serde_json::{Value, json};

use crate::harness::{BUIN, TestApp, refusal, spawn_app, spawn_app_with, test_start_time};

fn invalid(errmsg: &str) -> Value {
    refusal(100_003, errmsg)
}

/// A plain session with other values for some of its fields.
fn with(fields: &Value) -> Value {
    let mut body = json!({ "title": "项目周会", "creator": "a", "member": ["b", "c"] });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

async fn create(app: &TestApp, fields: Value) -> Value {
    app.create(&with(&fields)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_returns_the_same_session_object() {
    let app = spawn_app().await;
    app.clock.advance(Duration::from_millis(1_999));
    let token = app.client.token().await;
    let message =
        json!({ "title": "项目周会", "creator": "a", "type": "multi", "member": ["b", 10232] });
    let created = app.client.post_sealed(&token, "/cgi/session/create", &message).await;

    let id = created["sessionId"].as_str().unwrap();
    let hex = |part: &str| part.chars().all(|c| c.is_ascii_digit() || ('A'..='F').contains(&c));
    let bare = id.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    let parts: Vec<&str> = bare.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    assert!(parts.iter().all(|part| hex(part)), "{id}");
    let complete = json!({
        "errcode": 0, "errmsg": "ok",
        "sessionId": id, "title": "项目周会", "owner": "a", "version": 1, "type": "multi",
        "member": ["a", "b", "10232"], "lastMsgId": 0,
        "activeTime": test_start_time().timestamp() + 1,
    });
    assert_eq!(created, complete);
    assert!(created["activeTime"].is_i64() && created["lastMsgId"].is_i64());
    // The session is the same after reads and changes, sealed or plain.
    app.clock.advance(Duration::from_secs(60));
    assert_eq!(app.client.get_session(&token, id).await, complete);
    assert_eq!(app.current(&created).await, complete);
    let unchanged = json!({ "sessionId": id, "opUser": "a" });
    assert_eq!(app.update(&unchanged).await, complete);
    let sealed = app.client.post_sealed(&token, "/cgi/session/update", &unchanged).await;
    assert_eq!(sealed, complete);
    let changed = app.change(&created, "b", json!({ "title": "周会" })).await;
    let mut expected = complete.clone();
    expected["title"] = json!("周会");
    expected["version"] = json!(2);
    expected["activeTime"] = json!(test_start_time().timestamp() + 61);
    assert_eq!(changed, expected);
    assert_eq!(app.current(&created).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn session_ids_are_unique() {
    let app = spawn_app().await;
    let first = create(&app, json!({})).await;
    let second = create(&app, json!({})).await;
    assert_ne!(first["sessionId"], second["sessionId"]);
    assert_eq!(app.current(&first).await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn title_has_1_to_64_characters() {
    let app = spawn_app().await;
    for character in ["x", "周", "😀", "é", "\u{10ffff}"] {
        let longest = character.repeat(64);
        let created = create(&app, json!({ "title": longest })).await;
        assert_eq!(created["title"], json!(longest), "{created}");
        let got = create(&app, json!({ "title": character.repeat(65) })).await;
        assert_eq!(got, invalid("title: at most 64 characters, got 65"), "{character}");
        let got = app.change(&created, "a", json!({ "title": character.repeat(70) })).await;
        assert_eq!(got, invalid("title: at most 64 characters, got 70"), "{character}");
    }
    assert_eq!(create(&app, json!({ "title": "会" })).await["title"], "会");
    // Unicode scalar values count, not visible letters.
    let family = "👩‍👩‍👧‍👦";
    assert_eq!(create(&app, json!({ "title": family.repeat(9) })).await["errcode"], 0);
    let got = create(&app, json!({ "title": family.repeat(10) })).await;
    assert_eq!(got, invalid("title: at most 64 characters, got 70"));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_titles_and_accounts_are_refused() {
    let app = spawn_app().await;
    let session = create(&app, json!({})).await;
    let texts = [
        ("a\u{0}b", "control character U+0000 is not allowed"),
        ("\u{0}", "control character U+0000 is not allowed"),
        ("a\nb", "control character U+000A is not allowed"),
        ("a\t", "control character U+0009 is not allowed"),
        ("\u{1b}[31m", "control character U+001B is not allowed"),
        ("a\u{7f}", "control character U+007F is not allowed"),
        ("a\u{85}", "control character U+0085 is not allowed"),
    ];
    for (text, why) in texts {
        for (field, value) in
            [("title", json!(text)), ("creator", json!(text)), ("member", json!(["x", text, "y"]))]
        {
            let place = if field == "member" { "member[1]" } else { field };
            let got = create(&app, json!({ field: value })).await;
            assert_eq!(got, invalid(&format!("{place}: {why}")), "{text:?}");
        }
        for (field, value) in [
            ("title", json!(text)),
            ("opUser", json!(text)),
            ("addMember", json!([text])),
            ("delMember", json!([text])),
        ] {
            let place =
                if field.ends_with("Member") { format!("{field}[0]") } else { field.into() };
            let got = app.change(&session, "a", json!({ field: value })).await;
            assert_eq!(got, invalid(&format!("{place}: {why}")), "{text:?}");
        }
    }
    for blank in [" ", "   ", "\u{3000}", "\u{a0}\u{2003}\u{2028}"] {
        let got = create(&app, json!({ "title": blank })).await;
        assert_eq!(got, invalid("title: must not be blank"), "{blank:?}");
        let got = app.change(&session, "a", json!({ "title": blank })).await;
        assert_eq!(got, invalid("title: must not be blank"), "{blank:?}");
    }
    assert_eq!(app.current(&session).await, session);
}

#[tokio::test(flavor = "multi_thread")]
async fn account_has_1_to_64_characters() {
    let app = spawn_app().await;
    let longest = "员".repeat(64);
    let created = create(&app, json!({ "creator": longest })).await;
    assert_eq!(created["owner"], json!(longest), "{created}");
    let long = "员".repeat(65);
    let got = create(&app, json!({ "creator": long })).await;
    assert_eq!(got, invalid("creator: at most 64 characters, got 65"));
    let got = create(&app, json!({ "member": ["b", "c", long] })).await;
    assert_eq!(got, invalid("member[2]: at most 64 characters, got 65"));
    let got = create(&app, json!({ "member": ["b", "", "c"] })).await;
    assert_eq!(got, invalid("member[1]: at least 1 character, got 0"));
    // Accounts that differ in case or white space are different.
    let created = create(&app, json!({ "member": ["A", "a ", " a", "a"] })).await;
    assert_eq!(created["member"], json!(["a", "A", "a ", " a"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn required_fields_are_enforced() {
    let app = spawn_app().await;
    for field in ["title", "creator"] {
        let missing = invalid(&format!("{field}: is missing"));
        for absent in [Value::Null, json!(""), json!([])] {
            assert_eq!(create(&app, json!({ field: absent })).await, missing, "{absent}");
        }
        let mut body = with(&json!({}));
        body.as_object_mut().unwrap().remove(field);
        assert_eq!(app.create(&body).await, missing);
    }
    // Without members besides the creator, the session is too small.
    let alone = refusal(400_004, "member: at least 3 members in the session, got 1");
    for absent in [Value::Null, json!(""), json!([])] {
        assert_eq!(create(&app, json!({ "member": absent })).await, alone, "{absent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn type_is_multi_or_absent() {
    let app = spawn_app().await;
    for absent in [Value::Null, json!(""), json!([]), json!("multi")] {
        assert_eq!(create(&app, json!({ "type": absent })).await["type"], "multi", "{absent}");
    }
    for (other, errmsg) in [
        (json!("single"), "type: must be \"multi\", got \"single\""),
        (json!("Multi"), "type: must be \"multi\", got \"Multi\""),
        (json!(1), "type: must be text, got a whole number"),
        (json!(["multi"]), "type: must be text, got a list"),
    ] {
        assert_eq!(create(&app, json!({ "type": other })).await, invalid(errmsg));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_text_or_integers() {
    let app = spawn_app().await;
    let members = json!([10232, "10233", 10233, -7, 0, 18_446_744_073_709_551_615_u64]);
    let created = create(&app, json!({ "creator": 10231, "member": members })).await;
    assert_eq!(created["owner"], "10231");
    let expected = json!(["10231", "10232", "10233", "-7", "0", "18446744073709551615"]);
    assert_eq!(created["member"], expected);

    // A whole number may be written with a fraction or an exponent.
    let members = json!([10232.0, 1e3, "1000", -7.0]);
    let created = create(&app, json!({ "creator": 10231.0, "member": members })).await;
    assert_eq!(created["member"], json!(["10231", "10232", "1000", "-7"]), "{created}");

    let beyond: Value = serde_json::from_str("18446744073709551616").unwrap();
    let no_integer = "a number that is not a 64-bit integer";
    for (value, kind) in [
        (json!(true), "a boolean"),
        (json!(1.5), no_integer),
        (json!(-0.0), no_integer),
        (beyond, no_integer),
        (json!({}), "an object"),
        (json!({ "userId": "b" }), "an object"),
        (json!(["b"]), "a list"),
    ] {
        let got = create(&app, json!({ "creator": value })).await;
        assert_eq!(got, invalid(&format!("creator: must be text or an integer, got {kind}")));
        let got = create(&app, json!({ "member": ["b", value, "c"] })).await;
        assert_eq!(got, invalid(&format!("member[1]: must be text or an integer, got {kind}")));
    }
    for (absent, kind) in [(Value::Null, "null"), (json!([]), "a list")] {
        let got = create(&app, json!({ "member": ["b", "c", absent] })).await;
        assert_eq!(got, invalid(&format!("member[2]: must be text or an integer, got {kind}")));
    }
    for (value, kind) in [
        (json!("b,c"), "text"),
        (json!(7), "a whole number"),
        (json!({}), "an object"),
        (json!(false), "a boolean"),
    ] {
        let got = create(&app, json!({ "member": value })).await;
        assert_eq!(got, invalid(&format!("member: must be a list of accounts, got {kind}")));
    }
    for (value, kind) in [(json!(7), "a whole number"), (json!(["x"]), "a list")] {
        let got = create(&app, json!({ "title": value })).await;
        assert_eq!(got, invalid(&format!("title: must be text, got {kind}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_creator_and_listed_without_duplicates() {
    let app = spawn_app_with(|settings| settings.limits.max_members = 5).await;
    for (listed, members) in [
        (json!(["b", "c"]), json!(["a", "b", "c"])),
        (json!(["b", "a", "c"]), json!(["a", "b", "c"])),
        (json!(["c", "b", "c", "a", "b"]), json!(["a", "c", "b"])),
        (json!(["b", "c", "d", "e"]), json!(["a", "b", "c", "d", "e"])),
        (json!(["a", "b", "c", "d", "e", "a", "e"]), json!(["a", "b", "c", "d", "e"])),
    ] {
        let created = create(&app, json!({ "member": listed })).await;
        assert_eq!(created["member"], members, "{created}");
        assert_eq!(created["owner"], "a");
    }
    for listed in [json!(["b"]), json!(["a", "b"]), json!(["b", "a", "b"])] {
        let too_few = refusal(400_004, "member: at least 3 members in the session, got 2");
        assert_eq!(create(&app, json!({ "member": listed })).await, too_few);
    }
    for listed in [json!(["b", "c", "d", "e", "f"]), json!(["a", "b", "c", "d", "e", "f"])] {
        let too_many = refusal(400_005, "member: at most 5 members, got 6");
        assert_eq!(create(&app, json!({ "member": listed })).await, too_many);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn member_limits_are_configurable() {
    let app = spawn_app_with(|settings| settings.limits.min_members = 1).await;
    assert_eq!(create(&app, json!({ "member": [] })).await["member"], json!(["a"]));
    let everyone: Vec<usize> = (0..2000).collect();
    let created = create(&app, json!({ "creator": 0, "member": everyone })).await;
    let names: Vec<String> = everyone.iter().map(ToString::to_string).collect();
    assert_eq!(created["member"], json!(names), "members keep their order");
    assert_eq!(app.current(&created).await, created);
    let got = create(&app, json!({ "member": everyone })).await;
    assert_eq!(got, refusal(400_005, "member: at most 2000 members, got 2001"));
}

#[tokio::test(flavor = "multi_thread")]
async fn session_id_is_accepted_in_every_form() {
    let app = spawn_app().await;
    let created = create(&app, json!({})).await;
    let written = created["sessionId"].as_str().unwrap();
    let upper = written.trim_matches(['{', '}']);
    let lower = upper.to_lowercase();
    let token = app.client.token().await;
    for id in [
        written.to_owned(),
        upper.to_owned(),
        lower.clone(),
        format!("{{{lower}}}"),
        upper.replace('-', ""),
        lower.replace('-', ""),
        format!("{{{}}}", upper.replace('-', "")),
        format!("{}{}", &upper[..18], &lower[18..]),
    ] {
        assert_eq!(app.client.get_session(&token, &id).await, created, "{id}");
        assert_eq!(app.update(&json!({ "sessionId": id, "opUser": "a" })).await, created, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_and_missing_session_ids_are_distinguished() {
    let app = spawn_app().await;
    let created = create(&app, json!({})).await;
    let upper = created["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let token = app.client.token().await;
    for id in [
        "x".to_owned(),
        "{}".to_owned(),
        "0".to_owned(),
        format!("{{{upper}"),
        format!("{upper}}}"),
        format!("{{{{{upper}}}}}"),
        format!("{upper}0"),
        upper[1..].to_owned(),
        format!(" {upper}"),
        format!("urn:uuid:{upper}"),
        upper.replace('-', "_"),
        "会".repeat(12),
        "\u{0}".to_owned(),
    ] {
        let invalid = refusal(400_002, &format!("sessionId: must be a UUID, got {id:?}"));
        assert_eq!(app.client.get_session(&token, &id).await, invalid, "{id}");
        assert_eq!(app.update(&json!({ "sessionId": id, "opUser": "a" })).await, invalid, "{id}");
    }
    let missing = refusal(400_001, "sessionId: is missing");
    assert_eq!(app.client.get_session(&token, "").await, missing);
    for absent in [json!({}), json!({ "sessionId": null }), json!({ "sessionId": "" })] {
        assert_eq!(app.update(&absent).await, missing, "{absent}");
    }
    for (other, kind) in [(json!(7), "a whole number"), (json!({}), "an object")] {
        let got = app.update(&json!({ "sessionId": other, "opUser": "a" })).await;
        assert_eq!(got, refusal(400_002, &format!("sessionId: must be text, got {kind}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_of_another_enterprise_is_not_found() {
    let app = spawn_app().await;
    let created = create(&app, json!({})).await;
    let id = created["sessionId"].as_str().unwrap();
    let all = [Permission::SessionsRead, Permission::SessionsWrite];
    let (other_enterprise, _) = app.another_app(BUIN + 1, &all).await;
    let token = other_enterprise.token().await;
    let nowhere = "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}";
    let none = refusal(400_003, "sessionId: no such session");
    for id in [id, nowhere] {
        assert_eq!(other_enterprise.get_session(&token, id).await, none);
        for update in [
            json!({ "sessionId": id, "opUser": "a", "title": "taken" }),
            json!({ "sessionId": id, "opUser": "nobody" }),
            json!({ "sessionId": id, "opUser": "a", "version": 9 }),
        ] {
            assert_eq!(
                other_enterprise.post_sealed(&token, "/cgi/session/update", &update).await,
                none
            );
        }
    }
    assert_eq!(app.current(&created).await, created);
    // Apps of one enterprise share its sessions.
    let (colleague, _) = app.another_app(BUIN, &all).await;
    let token = colleague.token().await;
    assert_eq!(colleague.get_session(&token, id).await, created);
}
