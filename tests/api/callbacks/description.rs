//! The description of callbacks in `openapi.json`, compared with callbacks that were received.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::receiver::Call;
use super::{create, spawn_subscribed, update, worker};
use crate::v1::description::{committed, followed};

/// Checks that a callback has every part that the description requires, and no other part.
pub fn check(call: &Call) {
    let document = committed();
    let callback = &document["webhooks"]["callback"]["post"];
    let parameters = callback["parameters"].as_array().unwrap();
    let described = |place: &str, required: bool| -> BTreeSet<String> {
        let found = parameters.iter().filter(|it| it["in"] == place);
        let found = found.filter(|it| !required || it["required"] == true);
        found.map(|it| it["name"].as_str().unwrap().to_lowercase()).collect()
    };
    let query: BTreeSet<_> = call.query().into_iter().map(|(name, _)| name).collect();
    assert_eq!(query, described("query", true));
    assert_eq!(query, described("query", false));
    // Headers of HTTP itself are not described.
    let transport = ["accept", "content-length", "content-type", "host", "user-agent"];
    let headers: BTreeSet<_> =
        call.headers.keys().filter(|name| !transport.contains(&name.as_str())).cloned().collect();
    assert!(headers.is_superset(&described("header", true)), "{headers:?}");
    assert!(headers.is_subset(&described("header", false)), "{headers:?}");
    assert_eq!(call.headers["content-type"], "application/json");

    let content = &callback["requestBody"]["content"]["application/json"];
    check_object(&document, &content["schema"], &serde_json::from_str(&call.body).unwrap());
    let message: Value = serde_json::from_str(&call.message).unwrap();
    let schemas = &document["components"]["schemas"];
    check_object(&document, &schemas["CallbackMessage"], &message);
    let kinds = schemas["CallbackKind"]["enum"].as_array().unwrap();
    let kind = message["msgType"].as_str().unwrap();
    assert!(kinds.contains(&json!(kind)), "{kind}");
    // A callback has the part that is named after its kind.
    for part in ["session_create", "session_update"] {
        assert_eq!(message.get(part).is_some(), part == kind, "{part} in {kind}");
    }
}

/// Checks the fields of an object and their types, at any depth.
fn check_object(document: &Value, schema: &Value, found: &Value) {
    let schema = followed(document, schema);
    let properties = schema["properties"].as_object().unwrap();
    let fields = found.as_object().unwrap();
    for name in schema["required"].as_array().unwrap() {
        assert!(fields.contains_key(name.as_str().unwrap()), "{name} is missing in {found}");
    }
    for (name, value) in fields {
        let of = properties.get(name).unwrap_or_else(|| panic!("{name} is not described"));
        let of = followed(document, of);
        let kind = match value {
            Value::Object(_) => "object",
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Number(_) => "integer",
            Value::Bool(_) | Value::Null => "other",
        };
        assert_eq!(of["type"], kind, "{name}");
        if kind == "object" {
            check_object(document, of, value);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_match_their_description() {
    let (app, receiver, _) = spawn_subscribed().await;
    let id = create(&app).await;
    update(&app, &id, json!({ "title": "new", "addMember": ["d"], "delMember": ["b"] })).await;
    let path = format!("/v1/sessions/{}?operator=a", id.trim_matches(['{', '}']));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let dissolve = app.client.request(Method::DELETE, &path).bearer_auth(&app.api_key);
    let dissolved = dissolve.header("traceparent", traceparent).send().await.unwrap();
    assert_eq!(dissolved.status(), 200);
    worker(&app).await.drain().await.unwrap();
    let calls = receiver.calls();
    assert_eq!(calls.len(), 3);
    calls.iter().for_each(check);
    assert!(calls[2].headers.contains_key("traceparent"));
}

#[test]
fn example_of_a_callback_fits_its_schema() {
    let document = committed();
    for name in ["CallbackBody", "CallbackMessage"] {
        let schema = &document["components"]["schemas"][name];
        check_object(&document, schema, &schema["example"]);
    }
    let callback = &document["webhooks"]["callback"]["post"];
    assert_eq!(callback["security"], json!([{}]), "a callback has no API key");
}
