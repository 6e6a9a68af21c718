//! Names of sessions, apps and deliveries: a parsed name is written in one form and can be parsed
//! again.

use muster::domain::{AppId, Buin, DeliveryId, SessionId};
use uuid::Uuid;

pub fn session_id(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        check_names(text);
    }
    if let Some(bytes) = data.first_chunk() {
        check_forms(Uuid::from_bytes(*bytes));
    }
}

fn check_names(text: &str) {
    if let Ok(id) = text.parse::<SessionId>() {
        let digits = |text: &str| text.replace(['{', '}', '-'], "").to_uppercase();
        assert_eq!(digits(&id.to_string()), digits(text));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(matches!(text.len(), 32 | 34 | 36 | 38));
        check_forms(id.uuid());
    }
    if let Ok(id) = text.parse::<AppId>() {
        assert_eq!(id.as_str(), text);
        assert!((1..=64).contains(&text.len()));
    }
    if let Ok(buin) = text.parse::<Buin>() {
        assert!(buin.get() > 0);
        assert_eq!(buin.to_string().parse(), Ok(buin));
    }
    if let Ok(id) = text.parse::<DeliveryId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}

/// Every form of a UUID names the same session.
fn check_forms(uuid: Uuid) {
    let (plain, hyphens) = (uuid.simple().to_string(), uuid.hyphenated().to_string());
    for form in [plain.clone(), hyphens.clone(), format!("{{{plain}}}"), format!("{{{hyphens}}}")] {
        assert_eq!(form.parse(), Ok(SessionId::new(uuid)));
        assert_eq!(form.to_uppercase().parse(), Ok(SessionId::new(uuid)));
    }
}
