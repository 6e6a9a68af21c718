//! A response whose JSON was written on another thread.

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use serde::Serialize;

use crate::http::v1::problem::Problem;

/// The JSON of a response with the status 200.
pub(crate) struct JsonText(Vec<u8>);

impl JsonText {
    /// Writes a value.
    ///
    /// # Errors
    /// If the value has no JSON form.
    pub(crate) fn new(value: &impl Serialize) -> Result<Self, Problem> {
        serde_json::to_vec(value).map(Self).map_err(|error| Problem::internal(&error))
    }
}

impl From<JsonText> for HttpResponse {
    fn from(JsonText(text): JsonText) -> Self {
        Self::Ok().content_type(ContentType::json()).body(text)
    }
}
