//! `/v1`, the REST API.

mod admin;
mod agreement;
mod authorization;
mod batch;
mod compare;
mod conditions;
mod consumers;
pub mod description;
mod history;
mod idempotency;
mod limits;
mod lists;
mod members;
mod requests;
mod sessions;
mod state;
mod try_out;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::TestApp;

/// All operations of the committed description: method, path and description.
pub fn operations() -> Vec<(Method, String, Value)> {
    let document = description::committed();
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, operations)| {
        operations.as_object().unwrap().iter().map(move |(method, operation)| {
            (method.to_ascii_uppercase().parse().unwrap(), path.clone(), operation.clone())
        })
    });
    operations.collect()
}

/// A request with the API key of the default app.
pub fn request(app: &TestApp, method: Method, path: &str) -> RequestBuilder {
    app.client.request(method, path).bearer_auth(&app.api_key)
}

/// Sends a request with a body.
pub async fn send(app: &TestApp, method: Method, path: &str, body: &Value) -> Response {
    request(app, method, path).json(body).send().await.unwrap()
}

/// The result of a `GET`.
pub async fn get(app: &TestApp, path: &str) -> Value {
    result(request(app, Method::GET, path).send().await.unwrap()).await
}

/// The body of a response with status 200 or 201.
pub async fn result(response: Response) -> Value {
    let status = response.status();
    let body = response.text().await.unwrap();
    assert!([StatusCode::OK, StatusCode::CREATED].contains(&status), "{status} {body}");
    serde_json::from_str(&body).unwrap()
}

/// Creates a session of these members with the first one as owner. Returns its path and its body.
pub async fn create_session(app: &TestApp, members: &[&str]) -> (String, Value) {
    let body = json!({ "operator": members[0], "title": "before", "member": members });
    let response = send(app, Method::POST, "/v1/sessions", &body).await;
    let path = response.headers()["location"].to_str().unwrap().to_owned();
    (path, result(response).await)
}

/// Sends a request that must be refused. Returns the status, the code and the field of the error.
pub async fn refused(
    app: &TestApp,
    method: Method,
    path: &str,
    body: &Value,
) -> (u16, String, Value) {
    let (status, code, rest) = problem(send(app, method, path, body).await).await;
    (status, code, rest["field"].clone())
}

/// The expected result of [`refused`].
pub fn refusal(status: u16, code: &str, field: &str) -> (u16, String, Value) {
    (status, code.to_owned(), json!(field))
}

/// Checks the shape of an error response. Returns its status, its code, and the fields that do not
/// follow from these.
pub async fn problem(response: Response) -> (u16, String, Value) {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "application/problem+json");
    let body: Value = response.json().await.unwrap();
    checked(status, headers["x-request-id"].to_str().unwrap(), body)
}

/// Like [`problem`], for a response that was read from the socket.
pub fn checked(status: u16, request_id: &str, mut body: Value) -> (u16, String, Value) {
    let fields = body.as_object_mut().unwrap();
    let code = fields.remove("code").unwrap().as_str().unwrap().to_owned();
    assert_eq!(fields.remove("status"), Some(json!(status)));
    assert_eq!(fields.remove("type"), Some(json!(format!("urn:muster:problem:{code}"))));
    assert_eq!(fields.remove("requestId"), Some(json!(request_id)));
    assert!(fields.remove("title").unwrap().is_string());
    (status, code, body)
}
