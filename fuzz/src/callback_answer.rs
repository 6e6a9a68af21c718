//! Answers of receivers to callbacks: whether they acknowledge, and when the next attempt is. And
//! messages to receivers: a message with any text is JSON with that text.

use std::time::Duration;

use chrono::DateTime;
use muster::delivery::{RetryDecision, RetrySchedule, decide, parse_retry_after};
use muster::wire::{CallbackEvent, JsonObject, Message, is_acknowledgement, sign};
use serde_json::Value;

const HOUR: Duration = Duration::from_secs(60 * 60);
/// The time after which a delivery fails.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub fn callback_answer(data: &[u8]) {
    check_acknowledgement(data);
    if let Ok(text) = std::str::from_utf8(data) {
        check_retry_time(text);
        check_message(text);
    }
}

fn check_acknowledgement(data: &[u8]) {
    const ID: &str = "8ad595f3-73b3-4b56-90af-f336f9222fc5.12.yd01";
    let accepted = is_acknowledgement(data, ID);
    // White space and byte order marks around the answer make no difference.
    let mark = "\u{feff}".as_bytes();
    for before in [&b"\r\n\t "[..], mark, &[b"\n", mark, mark, b" "].concat()] {
        assert_eq!(is_acknowledgement(&[before, data, b"\n"].concat(), ID), accepted);
    }
    let Ok(text) = std::str::from_utf8(data) else { return assert!(!accepted) };
    let mut text = text;
    while let Some(c) = text.chars().next().filter(|c| c.is_whitespace() || *c == '\u{feff}') {
        text = &text[c.len_utf8()..];
    }
    while let Some(c) = text.chars().next_back().filter(|c| c.is_whitespace() || *c == '\u{feff}') {
        text = &text[..text.len() - c.len_utf8()];
    }
    let named = |text: &str| text.eq_ignore_ascii_case("ok") || text == ID;
    let expected = named(text)
        || serde_json::from_str::<String>(text).is_ok_and(|text| named(text.trim()))
        || serde_json::from_str::<Value>(text)
            .is_ok_and(|json| json.is_object() && json["errcode"].as_f64() == Some(0.0))
            // No field of the object appears twice.
            && JsonObject::parse(text.as_bytes(), &["errcode"]).is_ok();
    assert_eq!(accepted, expected);
}

/// The next attempt is never in the past and never after the end.
fn check_retry_time(text: &str) {
    let first = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
    let schedule = RetrySchedule { waits: vec![Duration::from_secs(5)], give_up_after: DAY };
    let retry_after = parse_retry_after(text, first);
    for (tries, into) in [(1, Duration::ZERO), (7, DAY - HOUR), (u32::MAX, DAY)] {
        let now = first + into;
        match decide(&schedule, tries, first, now, retry_after, 0.5) {
            RetryDecision::RetryAt(at) => {
                assert!(at > now && at <= first + DAY);
                // At least the requested time, limited to 4 hours and to the end.
                let max_wait = (4 * HOUR).min(DAY - into);
                assert!(at >= now + retry_after.unwrap_or_default().min(max_wait));
            }
            RetryDecision::GiveUp => assert_eq!(into, DAY),
        }
    }
    if let Ok(seconds) = text.parse() {
        assert_eq!(retry_after, Some(Duration::from_secs(seconds)));
    }
}

fn check_message(text: &str) {
    let member = [text.to_owned()];
    let (create_time, version) = (1_718_000_000, 2);
    for event in [
        CallbackEvent::Created { title: text, member: &member },
        CallbackEvent::Updated {
            owner: text,
            title: text,
            add_member: &member,
            del_member: &[],
            state: None,
        },
        CallbackEvent::Test,
    ] {
        let message = Message {
            from_user: text,
            create_time,
            package_id: text,
            session_id: "{}",
            version,
            event,
        };
        let json: Value = serde_json::from_str(&message.to_json()).unwrap();
        assert_eq!((&json["fromUser"], &json["packageId"]), (&text.into(), &text.into()));
        let kind = json["msgType"].as_str().unwrap();
        if !matches!(event, CallbackEvent::Test) {
            assert_eq!(json[kind]["title"], text);
        }
    }
    // The four parts are sorted before they are signed.
    let signature = sign(text, "1718000000", "nonce", "YQ==");
    assert_eq!(signature, sign("nonce", "YQ==", text, "1718000000"));
    assert!(signature.len() == 40 && signature.bytes().all(|byte| byte.is_ascii_hexdigit()));
}
