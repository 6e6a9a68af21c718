//! The rights on its tables that a server needs. They are few, so that an operator may grant no more.
//!
//! A row lock needs the right to update.

/// The rights by table. Commands of operators need more.
const RIGHTS: [(&str, &[&str]); 21] = [
    ("_sqlx_migrations", &["SELECT"]),
    ("api_key", &["SELECT", "UPDATE"]),
    ("app", &["SELECT"]),
    ("audit", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("consumer", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("consumer_event", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("consumer_held_event", &["SELECT", "INSERT", "DELETE"]),
    ("consumer_position", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("delivery", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("delivery_attempt", &["SELECT", "INSERT", "DELETE"]),
    ("feed", &["SELECT", "INSERT"]),
    ("feed_state", &["SELECT"]),
    ("idempotency", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("outbox", &["SELECT", "INSERT", "DELETE"]),
    ("role_change", &["SELECT", "INSERT"]),
    ("sealing", &["SELECT"]),
    ("session", &["SELECT", "INSERT", "UPDATE"]),
    ("session_event", &["SELECT", "INSERT"]),
    ("session_member", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("session_snapshot", &["SELECT", "INSERT"]),
    ("session_title", &["SELECT", "INSERT", "UPDATE"]),
];

/// The pairs of table and right, as two lists of the same length.
#[must_use]
pub fn pairs() -> (Vec<&'static str>, Vec<&'static str>) {
    RIGHTS.iter().flat_map(|(table, rights)| rights.iter().map(|right| (*table, *right))).unzip()
}
