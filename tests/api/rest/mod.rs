//! `/v1`, the REST API.

mod authorisation;
mod description;
mod limits;
mod requests;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::harness::TestApp;

/// A request with the API key of the app that every test has.
pub fn request(app: &TestApp, method: Method, path: &str) -> RequestBuilder {
    app.client.request(method, path).bearer_auth(&app.api_key)
}

/// An answer without a result, if it has the shape that each of them has: its status, its code, and
/// what does not follow from these.
pub async fn problem(response: Response) -> (u16, String, Value) {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "application/problem+json");
    let body: Value = response.json().await.unwrap();
    checked(status, headers["x-request-id"].to_str().unwrap(), body)
}

/// The same of an answer that was read by hand.
pub fn checked(status: u16, request_id: &str, mut body: Value) -> (u16, String, Value) {
    let fields = body.as_object_mut().unwrap();
    let code = fields.remove("code").unwrap().as_str().unwrap().to_owned();
    assert_eq!(fields.remove("status"), Some(json!(status)));
    assert_eq!(fields.remove("type"), Some(json!(format!("urn:muster:problem:{code}"))));
    assert_eq!(fields.remove("requestId"), Some(json!(request_id)));
    assert!(fields.remove("title").unwrap().is_string());
    (status, code, body)
}
