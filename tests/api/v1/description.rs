//! The description of the API, and the page that shows it.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::sync::LazyLock;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::operations;
use crate::harness::process::Home;
use crate::harness::spawn_app;

/// The text of `openapi.json`, which must be the description of the program under test. It is read
/// while the tests run, so that a file that was renewed after the build of the tests is noticed.
fn committed_text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        std::fs::read_to_string(file).unwrap()
    });
    assert!(
        *TEXT == muster::http::openapi(),
        "openapi.json is not the description of the program under test. If `src` is newer, renew the \
         file:\n    cargo run -- openapi > target/openapi.json && mv target/openapi.json openapi.json\n\
         If the file is newer, build the program and its tests again:\n    \
         cargo build && cargo test --test api -- v1::"
    );
    &TEXT
}

/// The committed description.
pub fn committed() -> Value {
    serde_json::from_str(committed_text()).unwrap()
}

#[test]
fn printed_description_matches_the_committed_one() {
    let home = Home::new();
    let printed = home.run(&["openapi"]).ok().stdout;
    assert!(printed == committed_text(), "the printed text differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn served_description_matches_the_committed_one() {
    let app = spawn_app().await;
    let response = app.client.get("/v1/openapi.json").await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.text().await.unwrap() == committed_text(), "the served text differs");
}

#[test]
fn description_references_resolve() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = committed();
    assert_eq!(document["openapi"], "3.1.0");
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let mut ids = BTreeSet::new();
    for (path, calls) in document["paths"].as_object().unwrap() {
        for (method, call) in calls.as_object().unwrap() {
            let id = call["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{method} {path}: {id} appears more than once");
            assert!(call["summary"].is_string(), "{method} {path}");
            for (status, response) in call["responses"].as_object().unwrap() {
                assert!(response["headers"]["X-Request-Id"].is_object(), "{id} {status}");
            }
        }
    }
}

/// The value itself, or the target of its `$ref`.
pub fn followed<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let reference = value.get("$ref").and_then(Value::as_str);
    reference.map_or(value, |reference| document.pointer(&reference[1..]).unwrap())
}

/// Whether a schema, the target of its `$ref`, or one of its alternatives has one of these fields.
fn has_key(document: &Value, schema: &Value, names: &[&str]) -> bool {
    let schemas = schema["oneOf"].as_array().into_iter().flatten();
    [schema, followed(document, schema)]
        .into_iter()
        .chain(schemas.map(|alternative| followed(document, alternative)))
        .any(|schema| names.iter().any(|name| schema.get(name).is_some()))
}

/// `conditions_of_every_read_are_evaluated` provokes these errors.
#[test]
fn every_read_describes_the_errors_of_conditions() {
    let document = committed();
    for (path, calls) in document["paths"].as_object().unwrap() {
        let Some(read) = calls.get("get") else { continue };
        for (status, code) in [("400", "invalid_header"), ("412", "precondition_failed")] {
            let examples = "/content/application~1problem+json/examples";
            let response = &read["responses"][status];
            assert!(response.pointer(examples).unwrap().get(code).is_some(), "{path} {status}");
        }
    }
}

#[test]
fn every_operation_is_described_with_an_example() {
    const EXAMPLE: [&str; 2] = ["example", "examples"];
    let document = committed();
    let mut lacks = BTreeSet::new();
    for (path, calls) in document["paths"].as_object().unwrap() {
        for (method, call) in calls.as_object().unwrap() {
            for parameter in call["parameters"].as_array().unwrap() {
                let name = parameter["name"].as_str().unwrap();
                if parameter.get("description").is_none() {
                    lacks.insert(format!("{method} {path}: {name}: description"));
                }
                let has_example = EXAMPLE.iter().any(|it| parameter.get(it).is_some());
                if name != "cursor"
                    && !has_example
                    && !has_key(&document, &parameter["schema"], &EXAMPLE)
                {
                    lacks.insert(format!("{method} {path}: {name}: example"));
                }
            }
            let responses = call["responses"].as_object().unwrap();
            let successes = responses.iter().filter(|(status, _)| status.starts_with('2'));
            for (of, body) in successes
                .map(|(status, response)| (status.as_str(), response))
                .chain(call.get("requestBody").map(|body| ("body", body)))
            {
                if of != "body" && body["description"].as_str().is_none_or(str::is_empty) {
                    lacks.insert(format!("{method} {path}: {of}: description"));
                }
                for (kind, content) in body["content"].as_object().into_iter().flatten() {
                    if content.get("example").is_none()
                        && !has_key(&document, &content["schema"], &EXAMPLE)
                    {
                        lacks.insert(format!("{method} {path}: {of}: {kind}: example"));
                    }
                }
            }
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if schema.get("description").is_none() {
            lacks.insert(format!("{name}: description"));
        }
        for (property, of) in schema["properties"].as_object().into_iter().flatten() {
            if !has_key(&document, of, &["description"]) {
                lacks.insert(format!("{name}.{property}: description"));
            }
            // An example of the whole schema shows its properties.
            let is_shown = schema["example"].get(property).is_some();
            if !is_shown && property != "nextCursor" && !has_key(&document, of, &EXAMPLE) {
                lacks.insert(format!("{name}.{property}: example"));
            }
        }
    }
    assert!(lacks.is_empty(), "{lacks:#?}");
}

/// Calls `visit` with the place and the value of each object in a document.
fn objects(
    value: &Value,
    place: &str,
    visit: &mut impl FnMut(&str, &serde_json::Map<String, Value>),
) {
    match value {
        Value::Object(fields) => {
            visit(place, fields);
            for (name, value) in fields {
                objects(value, &format!("{place}/{}", name.replace('/', "~1")), visit);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                objects(value, &format!("{place}/{index}"), visit);
            }
        }
        _ => {}
    }
}

/// The places of the objects for which `is_wrong` holds.
fn wrong_objects(
    document: &Value,
    is_wrong: impl Fn(&str, &serde_json::Map<String, Value>) -> bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    objects(document, "", &mut |place, fields| {
        if is_wrong(place, fields) {
            wrong.push(place.to_owned());
        }
    });
    wrong
}

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// Generators make a type without members of an object schema that names none.
#[test]
fn every_object_says_which_members_it_has() {
    let names = |fields: &serde_json::Map<String, Value>| {
        ["properties", "additionalProperties"].iter().any(|name| fields.contains_key(*name))
    };
    let is_object = |kind: &Value| match kind {
        Value::Array(kinds) => kinds.iter().any(|kind| kind == "object"),
        kind => kind == "object",
    };
    let wrong = wrong_objects(&committed(), |_, fields| {
        fields.get("type").is_some_and(is_object) && !names(fields)
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    let attributes = &committed()["components"]["schemas"]["Attributes"];
    assert_eq!(attributes["additionalProperties"], true);
}

/// Generators make a name of each value of an enumeration, unless the schema has names for them.
#[test]
fn every_enumeration_has_names_for_its_values() {
    let wrong = wrong_objects(&committed(), |_, fields| {
        let texts = |name: &str| -> Option<Vec<&str>> {
            fields.get(name)?.as_array()?.iter().map(Value::as_str).collect()
        };
        let Some(values) = texts("enum") else { return false };
        let names = texts("x-enum-varnames").unwrap_or_else(|| values.clone());
        let unique: BTreeSet<_> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        !names.iter().all(|name| is_name(name)) || unique.len() != values.len()
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The client of openapi-python-client mixes up a class and its field of the same name.
#[test]
fn no_schema_has_a_field_of_its_own_name() {
    let document = committed();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for field in schema["properties"].as_object().into_iter().flatten().map(|(field, _)| field)
        {
            assert!(!field.eq_ignore_ascii_case(name), "{name}.{field}");
        }
    }
}

#[test]
fn description_names_a_server() {
    let servers = committed()["servers"].clone();
    let url = servers[0]["url"].as_str().unwrap();
    // The paths begin with `/v1`, and the page calls the server that it came from.
    assert_eq!(url, "/");
}

/// Every rule of OpenAPI 3.0 that the description for 3.1 can break. `.ci/clients` runs a validator.
#[test]
fn description_for_3_0_has_no_keyword_of_3_1() {
    let printed = Home::new().run(&["openapi", "--version", "3.0"]).ok().stdout;
    let document: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(document["openapi"], "3.0.3");
    assert!(document.get("webhooks").is_none() && document["x-webhooks"]["callback"].is_object());
    assert!(document["info"]["license"].get("identifier").is_none());
    let wrong = wrong_objects(&document, |place, fields| {
        let is_example = place.split('/').any(|part| part == "example" || part == "examples");
        let is_type_wrong =
            fields.get("type").is_some_and(|kind| kind.is_array() || kind == "null");
        let is_reference_wrong = fields.contains_key("$ref") && fields.len() > 1;
        let is_nullable_wrong = fields.contains_key("nullable") && !fields.contains_key("type");
        let is_new = ["const", "contentEncoding", "contentMediaType", "propertyNames"]
            .iter()
            .any(|name| fields.contains_key(*name));
        // Examples of a schema are a list, those of a media type are an object.
        let has_list = fields.get("examples").is_some_and(Value::is_array);
        !is_example
            && (is_type_wrong || is_reference_wrong || is_nullable_wrong || is_new || has_list)
    });
    assert!(wrong.is_empty(), "{wrong:#?}");

    // Both forms describe the same.
    let new = committed();
    for part in ["paths", "components/schemas", "components/securitySchemes"] {
        let names = |document: &Value| {
            let part = document.pointer(&format!("/{part}")).unwrap().as_object().unwrap();
            part.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(names(&document), names(&new), "{part}");
    }
    let session = &document["components"]["schemas"]["Session"];
    assert_eq!(session["example"], new["components"]["schemas"]["Session"]["example"]);
    let cursor = &document["components"]["schemas"]["SessionPage"]["properties"]["nextCursor"];
    assert_eq!((&cursor["type"], &cursor["nullable"]), (&"string".into(), &true.into()));
    let explicit = Home::new().run(&["openapi", "--version", "3.1"]).ok().stdout;
    assert!(explicit == committed_text(), "3.1 is the default");
    Home::new().run(&["openapi", "--version", "2.0"]).fails(2, &["3.1", "3.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn described_operations_exist() {
    let app = spawn_app().await;
    for (method, path, operation) in operations() {
        // Any value will do for a parameter, because the session need not exist.
        let part = |part: &str| if part.starts_with('{') { "x" } else { part }.to_owned();
        let path = path.split('/').map(part).collect::<Vec<_>>().join("/");
        let response = app.client.request(method.clone(), &path).send().await.unwrap();
        let is_open = operation["security"] == serde_json::json!([{}]);
        let status = if is_open { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        assert_eq!(response.status(), status, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documentation_page_is_self_contained() {
    let app = spawn_app().await;
    let response = app.client.get("/v1/docs").await;
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("http") && !policy.contains('*'), "{policy}");

    let page = response.text().await.unwrap();
    assert!(!page.contains("//"), "{page}");
    let references = page.split("=\"docs/").skip(1).map(|rest| rest.split('"').next().unwrap());
    let references: Vec<_> = references.collect();
    assert_eq!(references, ["swagger-ui.css", "swagger-ui-bundle.js", "start.js"]);
    let kinds = ["text/css", "text/javascript", "text/javascript"];
    for (name, kind) in references.iter().zip(kinds) {
        let response = app.client.get(&format!("/v1/docs/{name}")).await;
        let found = response.headers()["content-type"].to_str().unwrap();
        assert!(found.starts_with(kind), "{name}: {found}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
    let start = app.client.get("/v1/docs/start.js").await.text().await.unwrap();
    assert!(start.contains("new URL(\"../openapi.json\", document.currentScript.src)"), "{start}");

    // With a slash at the end of the path, the page refers to its files without `docs/`.
    let response = app.client.get("/v1/docs/").await;
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(response.text().await.unwrap(), page.replace("=\"docs/", "=\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_are_compressed_on_request() {
    let app = spawn_app().await;
    for name in ["swagger-ui.css", "swagger-ui-bundle.js"] {
        let file = async |accepted: Option<&str>| {
            let builder = app.client.request(Method::GET, &format!("/v1/docs/{name}"));
            let builder = match accepted {
                Some(accepted) => builder.header("Accept-Encoding", accepted),
                None => builder,
            };
            let response = builder.send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["vary"], "Accept-Encoding");
            let packed = response.headers().get("content-encoding").cloned();
            (packed, response.bytes().await.unwrap())
        };
        let (encoding, packed) = file(Some("gzip, deflate, br")).await;
        assert_eq!(encoding.unwrap(), "gzip");
        assert!(packed.len() < 600_000, "{name}: {} bytes", packed.len());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        for accepted in [None, Some("identity"), Some("br"), Some("gzip;q=0"), Some("é")] {
            let (encoding, plain) = file(accepted).await;
            assert!(encoding.is_none(), "{name} {accepted:?}");
            assert!(plain == unpacked, "{name} {accepted:?}");
        }
    }
}
