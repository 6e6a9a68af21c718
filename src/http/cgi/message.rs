//! The body of a request: an envelope, or the bare message if the caller has an API key.

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Bytes;

use super::error::CgiError;
use crate::domain::quoted;
use crate::http::body::Body;
use crate::http::body::budget::BytesInFlight;
use crate::http::shared::json_error;
use crate::wire::{Errcode, FieldError, Integer, JsonObject, Malformed};

/// The fields of an envelope. A body that is the bare message has none of them.
const ENVELOPE_FIELDS: [&str; 3] = ["buin", "appId", "encrypt"];
/// The content type of a form.
const FORM_MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// The whole body of a request.
pub(super) struct RequestBody {
    bytes: Bytes,
    is_form: bool,
    in_flight: Option<BytesInFlight>,
}

/// The three fields of an envelope, unchecked.
#[derive(Debug)]
pub(super) struct EnvelopeFields<'a> {
    /// The enterprise; `None` if the integer exceeds 64 bits, as that of no enterprise does.
    pub(super) buin: Option<i64>,
    pub(super) app_id: &'a str,
    pub(super) encrypt: &'a str,
}

impl RequestBody {
    pub(super) fn new(request: &HttpRequest, body: Body) -> Self {
        // The turn ends here: the body is parsed before the next request has one.
        let Body { bytes, in_flight, turn: _ } = body;
        // Old clients send forms. `curl -d '{…}'` sends JSON with the content type of a form.
        let is_form = request.headers().get(CONTENT_TYPE).is_some_and(|kind| {
            kind.as_bytes()
                .get(..FORM_MEDIA_TYPE.len())
                .is_some_and(|kind| kind.eq_ignore_ascii_case(FORM_MEDIA_TYPE.as_bytes()))
        });
        let is_form = is_form && !bytes.trim_ascii_start().starts_with(b"{");
        Self { bytes, is_form, in_flight }
    }

    /// The body with the fields of an envelope, if it has some.
    pub(super) fn object(&self) -> Result<JsonObject<'_>, CgiError> {
        let object = if self.is_form {
            JsonObject::from_form(form_urlencoded::parse(&self.bytes), &ENVELOPE_FIELDS)
        } else {
            JsonObject::parse(&self.bytes, &ENVELOPE_FIELDS)
        };
        object.map_err(|error| match error {
            Malformed::NotJson(reason) => {
                let reason = json_error::find(&self.bytes).unwrap_or(reason);
                CgiError::malformed("body", &Malformed::NotJson(reason))
            }
            Malformed::NotAnObject(_) | Malformed::Duplicate(_) | Malformed::TooManyFields(_) => {
                CgiError::malformed("body", &error)
            }
        })
    }

    /// The fields of the envelope in the body.
    pub(super) fn envelope_fields<'a>(
        &self,
        object: &'a JsonObject<'_>,
    ) -> Result<EnvelopeFields<'a>, CgiError> {
        let to_error = |errcode| move |error: FieldError| CgiError::new(errcode, error.to_string());
        let buin = if self.is_form {
            let text = object.text("buin").ok().flatten();
            let number = text.map(|text| {
                text.parse::<i128>().map_err(|_| {
                    let errmsg = format!("buin: must be a whole number, got {}", quoted(text));
                    CgiError::new(Errcode::BuinNotInteger, errmsg)
                })
            });
            number.transpose()?.map(|number| number.try_into().ok())
        } else {
            let integer = object.integer("buin").map_err(to_error(Errcode::BuinNotInteger))?;
            integer.map(Integer::to_i64)
        };
        let buin = buin.ok_or_else(|| CgiError::missing(Errcode::BuinMissing, "buin"))?;
        let app_id = object
            .text("appId")
            .map_err(to_error(Errcode::AppIdNotString))?
            .ok_or_else(|| CgiError::missing(Errcode::AppIdMissing, "appId"))?;
        let encrypt = object
            .text_or_empty("encrypt")
            .map_err(to_error(Errcode::EncryptNotString))?
            .ok_or_else(|| CgiError::missing(Errcode::EncryptMissing, "encrypt"))?;
        Ok(EnvelopeFields { buin, app_id, encrypt })
    }

    /// The bytes, and the guard that counts them as in flight.
    pub(super) fn into_parts(self) -> (Bytes, Option<BytesInFlight>) {
        (self.bytes, self.in_flight)
    }
}
