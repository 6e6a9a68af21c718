//! Random changes through either API give the same state in both.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{get, request, result};
use crate::harness::{TestApp, spawn_app_with};

/// A change.
#[derive(Clone, Debug)]
enum Step {
    /// A change through `/cgi`: the fields of the body.
    Wire(Value),
    /// A change through `/v1`: the method, the path after that of the session, and the body.
    Rest(Method, String, Option<Value>),
}

fn account() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d", "e", "项"]).prop_map(str::to_owned)
}

fn title() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["one", "two", "标题", " x "]).prop_map(str::to_owned)
}

fn some_accounts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(account(), 0..4)
}

fn attributes() -> impl Strategy<Value = Value> {
    let value = prop_oneof![
        Just(Value::Null),
        Just(json!(1)),
        Just(json!([null, "x"])),
        Just(json!({ "p": 1, "q": null })),
        Just(json!({ "q": { "r": true } })),
    ];
    prop::collection::btree_map("[xyz]", value, 0..3).prop_map(|map| json!(map))
}

fn step() -> impl Strategy<Value = Step> {
    let wire = (account(), prop::option::of(title()), some_accounts(), some_accounts()).prop_map(
        |(operator, title, add, remove)| {
            let fields = json!({ "opUser": operator, "addMember": add, "delMember": remove });
            let title = title.map(|title| json!({ "title": title }));
            Step::Wire(merged(&fields, &title.unwrap_or_else(|| json!({}))))
        },
    );
    let patch = (
        account(),
        prop::option::of(title()),
        prop::option::of(account()),
        some_accounts(),
        // Removals are rare, because most are refused together with the rest of the change.
        prop_oneof![3 => Just(Vec::new()), 1 => some_accounts()],
        prop::option::of(attributes()),
    )
        .prop_map(|(operator, title, owner, add, remove, attributes)| {
            let body = json!({
                "operator": operator, "title": title, "owner": owner, "addMember": add,
                "delMember": remove, "attributes": attributes
            });
            Step::Rest(Method::PATCH, String::new(), Some(body))
        });
    let members =
        (account(), prop::collection::vec(account(), 2..6)).prop_map(|(operator, member)| {
            let body = json!({ "operator": operator, "member": member });
            Step::Rest(Method::PUT, "/members".to_owned(), Some(body))
        });
    let revert = (account(), 1..6).prop_map(|(operator, version)| {
        let body = json!({ "operator": operator, "version": version });
        Step::Rest(Method::POST, "/revert".to_owned(), Some(body))
    });
    let state = (account(), any::<bool>()).prop_map(|(operator, restores)| {
        if restores {
            let body = json!({ "operator": operator });
            Step::Rest(Method::POST, "/restore".to_owned(), Some(body))
        } else {
            let operator: String = form_urlencoded::byte_serialize(operator.as_bytes()).collect();
            Step::Rest(Method::DELETE, format!("?operator={operator}"), None)
        }
    });
    prop_oneof![4 => wire, 4 => patch, 2 => members, 2 => revert, 2 => state]
}

/// One object with the fields of both.
fn merged(one: &Value, other: &Value) -> Value {
    let mut map = one.as_object().unwrap().clone();
    map.extend(other.as_object().unwrap().clone());
    Value::Object(map)
}

/// Applies a JSON merge patch. The code follows RFC 7396 and not Muster's code.
fn patched(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut map = target.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        match value {
            Value::Null => map.remove(name),
            value => {
                let before = map.get(name).cloned().unwrap_or(Value::Null);
                map.insert(name.clone(), patched(&before, value))
            }
        };
    }
    Value::Object(map)
}

/// The session after one more event.
fn followed(before: &Map<String, Value>, event: &Value) -> Map<String, Value> {
    let (mut after, changes) = (before.clone(), &event["changes"]);
    for name in ["title", "owner", "member", "state"] {
        if let Some(value) = changes.get(name) {
            after.insert(name.to_owned(), value.clone());
        }
    }
    let list = |name: &str| changes[name].as_array().cloned().unwrap_or_default();
    if changes.get("member").is_none() {
        let removed = list("delMember");
        let mut members = after["member"].as_array().unwrap().clone();
        members.retain(|member| !removed.contains(member));
        members.extend(list("addMember"));
        after.insert("member".to_owned(), members.into());
    }
    if let Some(patch) = changes.get("attributes") {
        let attributes = patched(&after["attributes"], patch);
        after.insert("attributes".to_owned(), attributes);
    }
    if event["version"] == 1 {
        after.insert("createdAt".to_owned(), event["createdAt"].clone());
    }
    after.insert("version".to_owned(), event["version"].clone());
    after.insert("updatedAt".to_owned(), event["createdAt"].clone());
    after.insert("memberCount".to_owned(), after["member"].as_array().unwrap().len().into());
    after
}

/// The fields of a session in `/cgi` that both APIs show.
async fn cgi_fields(app: &TestApp, session: &Value) -> Value {
    let mut shown = app.current(session).await;
    let fields = shown.as_object_mut().unwrap();
    for name in ["errcode", "errmsg", "lastMsgId"] {
        fields.remove(name).unwrap();
    }
    shown
}

/// Performs a step. Returns whether the step was refused.
async fn act(app: &TestApp, path: &str, session: &Value, step: &Step) -> bool {
    match step {
        Step::Wire(fields) => {
            let operator = fields["opUser"].as_str().unwrap();
            app.change(session, operator, fields.clone()).await["errcode"] != 0
        }
        Step::Rest(method, call, body) => {
            let builder = request(app, method.clone(), &format!("{path}{call}"));
            let builder = match body {
                Some(body) => builder.json(body),
                None => builder,
            };
            let status = builder.send().await.unwrap().status();
            assert!(!status.is_server_error(), "{step:?}: {status}");
            !status.is_success()
        }
    }
}

async fn check(app: &TestApp, steps: &[Step]) -> (usize, i64) {
    let body =
        json!({ "operator": "a", "title": "one", "member": ["b", "c"], "attributes": { "x": 1 } });
    let response = super::send(app, Method::POST, "/v1/sessions", &body).await;
    let path = response.headers()["location"].to_str().unwrap().to_owned();
    let mut states = vec![result(response).await];
    let mut refused = 0;
    for step in steps {
        app.clock.advance(Duration::from_secs(1));
        let before = states.last().unwrap().clone();
        let was_refused = act(app, &path, &before, step).await;
        refused += usize::from(was_refused);
        let now = get(app, &path).await;
        let wire = cgi_fields(app, &now).await;
        for (name, value) in wire.as_object().unwrap() {
            assert_eq!(now[name], *value, "{name} after {step:?}");
        }
        match now["version"].as_i64().unwrap() - before["version"].as_i64().unwrap() {
            0 => assert_eq!(now, before, "{step:?}"),
            1 if !was_refused => states.push(now),
            more => panic!("{more} versions more after {step:?}"),
        }
    }
    // Each past version equals the state at that time, and follows from the events.
    let mut events = Vec::new();
    let mut query = "?limit=3".to_owned();
    while let page = get(app, &format!("{path}/events{query}")).await
        && let Some(items) = page["items"].as_array()
    {
        events.extend(items.clone());
        let Some(next) = page["nextCursor"].as_str() else { break };
        query = format!("?limit=3&cursor={next}");
    }
    assert_eq!(events.len(), states.len());
    let mut replayed = Map::from_iter([("attributes".to_owned(), json!({}))]);
    for (state, event) in states.iter().zip(&events) {
        let version = &state["version"];
        assert_eq!(get(app, &format!("{path}?version={version}")).await, *state);
        replayed = followed(&replayed, event);
        let mut expected = state.as_object().unwrap().clone();
        for name in ["sessionId", "type", "activeTime"] {
            expected.remove(name);
        }
        assert_eq!(replayed, expected, "version {version}");
    }
    (refused, states.len() as i64)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_apis_and_the_history_agree() {
    const SESSIONS: usize = 40;
    const STEPS: usize = 25;
    let app = spawn_app_with(|settings| settings.limits.max_members = 5).await;
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let steps = prop::collection::vec(step(), STEPS);
    let (mut refused, mut versions) = (0, 0);
    for _ in 0..SESSIONS {
        let steps = steps.new_tree(&mut runner).unwrap().current();
        let (no, made) = check(&app, &steps).await;
        (refused, versions) = (refused + no, versions + made);
    }
    // The test is useful only if many steps succeed and many are refused.
    println!("{versions} versions, {refused} of {} refused", SESSIONS * STEPS);
    assert!(versions > 150 && refused > 100, "{versions} versions, {refused} refused");
}
