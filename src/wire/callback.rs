//! Callbacks: the message, its signature, and the forms of an acknowledgement.

use serde::Serialize;
use serde_json::Value;
use sha1::{Digest as _, Sha1};

use super::object::JsonObject;

/// Some editors and libraries put this mark before a text in UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The content of a callback, before it is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The operator: the creator or `opUser`.
    pub from_user: &'a str,
    /// The time of the change, in Unix seconds.
    pub create_time: i64,
    /// The id of the delivery, the same in every attempt. The official receivers in C#, Go and PHP
    /// require it: the first one refuses a message without it, the others acknowledge by it.
    pub package_id: &'a str,
    /// The id of the session, in the form of every response.
    pub session_id: &'a str,
    /// The version that the change made.
    pub version: i64,
    /// The change.
    pub event: CallbackEvent<'a>,
}

/// A change of a session, as a callback reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackEvent<'a> {
    /// A session was created.
    Created {
        /// The title.
        title: &'a str,
        /// All members.
        member: &'a [String],
    },
    /// A session was changed.
    Updated {
        /// The owner after the change.
        owner: &'a str,
        /// The title after the change.
        title: &'a str,
        /// The accounts that became members.
        add_member: &'a [String],
        /// The accounts that were removed.
        del_member: &'a [String],
        /// The state, if the state changed. The vendor's protocol does not have this field.
        state: Option<&'a str>,
    },
    /// No change: an operator tests whether callbacks arrive.
    Test,
}

impl Message<'_> {
    /// The JSON to seal, with its fields in the order of the protocol description.
    #[must_use]
    pub fn to_json(&self) -> String {
        let head = MessageHeader {
            from_user: self.from_user,
            create_time: self.create_time,
            package_id: self.package_id,
            session_id: self.session_id,
            version: self.version,
        };
        let json = match self.event {
            CallbackEvent::Created { title, member } => serde_json::to_string(&CreatedMessage {
                head,
                msg_type: "session_create",
                session_create: CreatedBody { r#type: "multi", title, member },
            }),
            CallbackEvent::Updated { owner, title, add_member, del_member, state } => {
                serde_json::to_string(&UpdatedMessage {
                    head,
                    msg_type: "session_update",
                    session_update: UpdatedBody { owner, title, add_member, del_member, state },
                })
            }
            CallbackEvent::Test => {
                serde_json::to_string(&TestMessage { head, msg_type: "muster_test" })
            }
        };
        // Text, numbers and lists of text always serialize.
        json.unwrap_or_default()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageHeader<'a> {
    from_user: &'a str,
    create_time: i64,
    package_id: &'a str,
    session_id: &'a str,
    version: i64,
}

#[derive(Serialize)]
struct CreatedMessage<'a> {
    #[serde(flatten)]
    head: MessageHeader<'a>,
    #[serde(rename = "msgType")]
    msg_type: &'static str,
    session_create: CreatedBody<'a>,
}

#[derive(Serialize)]
struct CreatedBody<'a> {
    r#type: &'static str,
    title: &'a str,
    member: &'a [String],
}

#[derive(Serialize)]
struct UpdatedMessage<'a> {
    #[serde(flatten)]
    head: MessageHeader<'a>,
    #[serde(rename = "msgType")]
    msg_type: &'static str,
    session_update: UpdatedBody<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UpdatedBody<'a> {
    owner: &'a str,
    title: &'a str,
    add_member: &'a [String],
    del_member: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
}

#[derive(Serialize)]
struct TestMessage<'a> {
    #[serde(flatten)]
    head: MessageHeader<'a>,
    #[serde(rename = "msgType")]
    msg_type: &'static str,
}

/// The body of a callback, with its fields in the order of the protocol description.
#[must_use]
pub fn callback_body(buin: i64, app_id: &str, encrypt: &str) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct SealedBody<'a> {
        to_buin: i64,
        to_app: &'a str,
        encrypt: &'a str,
    }
    // Text and a number always serialize.
    serde_json::to_string(&SealedBody { to_buin: buin, to_app: app_id, encrypt })
        .unwrap_or_default()
}

/// Whether the body of a response with HTTP status 200 acknowledges the callback `package_id`. These
/// texts do, in UTF-8, with white space and byte order marks around them:
///
/// - `ok` in any case, or the package id; each also as a JSON string, with white space in it;
/// - a JSON object whose `errcode` is the number 0, in any notation: some languages write `0.0`. No
///   field of the object may appear twice.
#[must_use]
pub fn is_acknowledgement(body: &[u8], package_id: &str) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    // Each file of a PHP program may print a mark or a line end before the answer.
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == BYTE_ORDER_MARK);
    let names_it = |text: &str| text.eq_ignore_ascii_case("ok") || text == package_id;
    names_it(text)
        || match serde_json::from_str(text) {
            Ok(Value::String(text)) => names_it(text.trim()),
            Ok(Value::Object(answer)) => {
                answer.get("errcode").and_then(Value::as_f64) == Some(0.0)
                    && has_errcode_once(text.as_bytes())
            }
            _ => false,
        }
}

/// Whether the strict reader of messages accepts the object and finds its `errcode`. Of a field that
/// appears twice, a receiver may mean either value.
fn has_errcode_once(object: &[u8]) -> bool {
    JsonObject::parse(object, &["errcode"]).is_ok_and(|object| object.has("errcode"))
}

/// `msg_signature`: the lower-case hexadecimal SHA-1 of token, timestamp, nonce and encrypted
/// message, sorted bytewise and concatenated.
#[must_use]
pub fn sign(token: &str, timestamp: &str, nonce: &str, encrypt: &str) -> String {
    let mut parts = [token, timestamp, nonce, encrypt];
    parts.sort_unstable();
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_match_the_protocol_byte_for_byte() {
        let member = ["a".to_owned(), "b".to_owned()];
        let event = CallbackEvent::Created { title: "项目", member: &member };
        let message = Message {
            from_user: "a",
            create_time: 7,
            package_id: "x.1.app",
            session_id: "{X}",
            version: 1,
            event,
        };
        assert_eq!(
            message.to_json(),
            r#"{"fromUser":"a","createTime":7,"packageId":"x.1.app","sessionId":"{X}","version":1,"msgType":"session_create","session_create":{"type":"multi","title":"项目","member":["a","b"]}}"#
        );
        let del_member = &member[1..];
        let event = CallbackEvent::Updated {
            owner: "a",
            title: "t",
            add_member: &[],
            del_member,
            state: None,
        };
        assert_eq!(
            Message { version: 2, event, ..message }.to_json(),
            r#"{"fromUser":"a","createTime":7,"packageId":"x.1.app","sessionId":"{X}","version":2,"msgType":"session_update","session_update":{"owner":"a","title":"t","addMember":[],"delMember":["b"]}}"#
        );
        let state = Some("dissolved");
        let event = CallbackEvent::Updated {
            owner: "a",
            title: "t",
            add_member: &[],
            del_member: &[],
            state,
        };
        assert_eq!(
            Message { version: 3, event, ..message }.to_json(),
            r#"{"fromUser":"a","createTime":7,"packageId":"x.1.app","sessionId":"{X}","version":3,"msgType":"session_update","session_update":{"owner":"a","title":"t","addMember":[],"delMember":[],"state":"dissolved"}}"#
        );
    }

    #[test]
    fn body_matches_the_protocol_byte_for_byte() {
        let body = callback_body(14_731_009, "yd01", "YQ==");
        assert_eq!(body, r#"{"toBuin":14731009,"toApp":"yd01","encrypt":"YQ=="}"#);
    }

    const ID: &str = "8ad595f3-73b3-4b56-90af-f336f9222fc5.12.yd01";

    fn acknowledges(body: &str) -> bool {
        is_acknowledgement(body.as_bytes(), ID)
    }

    #[test]
    fn ok_package_id_and_errcode_0_acknowledge() {
        let forms = [
            "ok",
            "OK",
            "\"ok\"",
            r#""OK""#,
            r#"" Ok\r\n""#,
            r#""\u006fk""#,
            ID,
            &format!("{ID:?}"),
            &format!("\"{ID}\\n\""),
            r#"{"errcode":0}"#,
            r#"{"errcode": 0, "x": []}"#,
            r#"{"errmsg": "ok", "errcode": 0.0}"#,
            r#"{"errcode":0.00}"#,
            r#"{"errcode":-0}"#,
            r#"{"errcode":-0.0}"#,
            r#"{"errcode":0e0}"#,
            r#"{"errcode":0E+5}"#,
        ];
        let margins = [
            ("", ""),
            ("\u{feff}", ""),
            ("\u{feff}\u{feff}", "\n"),
            ("\u{feff}\r\n", "\r\n"),
            ("\r\n\u{feff} ", "\u{feff}"),
            (" \t", "\u{a0}\u{3000}"),
        ];
        for form in forms {
            for (before, after) in margins {
                let body = format!("{before}{form}{after}");
                assert!(acknowledges(&body), "{body:?}");
            }
        }
        for body in [
            "",
            &ID.to_uppercase(),
            &ID[1..],
            &ID.replace(".12.", ".1."),
            &format!("{ID}{ID}"),
            "okay",
            "o k",
            "'ok'",
            "\"ok",
            "\"o k\"",
            "\"\\\"ok\\\"\"",
            "[\"ok\"]",
            "ok\u{feff}ok",
            "\u{feff}",
            "0",
            "0.0",
            r#""0""#,
            "true",
            "[0]",
            "null",
            r#"{"errcode":1}"#,
            r#"{"errcode":"0"}"#,
            r#"{"errcode":0.1}"#,
            r#"{"errcode":1e-9}"#,
            r#"{"errcode":false}"#,
            r#"{"errcode":null}"#,
            r#"{"errcode":[0]}"#,
            r#"{"Errcode":0}"#,
            r#"[{"errcode":0}]"#,
            r#"{"x":{"errcode":0}}"#,
            r#"{"errcode":0"#,
            r#"{"errcode":1,"errcode":0}"#,
            r#"{"errcode":0,"errcode":0}"#,
            r#"{"errcode":0,"errmsg":"a","errmsg":"b"}"#,
            r#"{"errcode":0,"\u0065rrcode":1}"#,
            r#"{"\u0065rrcode":1,"errcode":0}"#,
            r#"{"$serde_json::private::RawValue":"{\"errcode\":0}"}"#,
            "<html>ok</html>",
        ] {
            assert!(!acknowledges(body), "{body}");
        }
        for bytes in [&b"\xff\xfe"[..], b"\xff\xfeo\0k\0", b"ok\xff", b"\xef\xbbok"] {
            assert!(!is_acknowledgement(bytes, ID), "{bytes:?}");
        }
    }

    #[test]
    fn signature_matches_other_implementations() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("envelope_vectors.json")).unwrap();
        let vector = &vectors["signature"];
        let part = |name: &str| vector[name].as_str().unwrap();
        let signature = sign(part("token"), part("timestamp"), part("nonce"), part("encrypt"));
        assert_eq!(signature, part("msg_signature"));
    }
}
