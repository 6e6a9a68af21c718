//! The columns of Muster's tables. Others belong to the operator of the database.

/// The columns that any migration of this program makes, by table. A column that a later migration
/// drops stays here: a database may not have that migration yet.
pub const COLUMNS: [(&str, &[&str]); 20] = [
    (
        "api_key",
        &[
            "app_id",
            "buin",
            "created_at",
            "expires_at",
            "hash",
            "label",
            "last_used_at",
            "last_used_from",
            "networks",
            "permissions",
            "revoked_at",
        ],
    ),
    (
        "app",
        &[
            "aes_key",
            "app_id",
            "archived_at",
            "buin",
            "callback_token",
            "callback_url",
            "callbacks_paused_at",
            "created_at",
            "disabled_at",
            "forms",
            "name",
            "permissions",
            "previous_aes_key",
            "previous_aes_key_until",
        ],
    ),
    (
        "audit",
        &[
            "action",
            "actor",
            "app_id",
            "at",
            "audit_id",
            "buin",
            "details",
            "hash",
            "host",
            "pid",
            "previous_hash",
            "sudo_user",
        ],
    ),
    (
        "consumer",
        &[
            "app_id",
            "buin",
            "consumer_id",
            "created_at",
            "epoch",
            "filter_app_id",
            "filter_kind",
            "filter_member",
            "filter_owner",
            "filter_session_id",
            "lease_seconds",
            "name",
            "used_at",
        ],
    ),
    (
        "consumer_event",
        &[
            "attempts",
            "bytes",
            "consumer_id",
            "lease_until",
            "member",
            "parked_at",
            "prev_seq",
            "seq",
            "session_id",
            "state",
            "version",
        ],
    ),
    (
        "consumer_held_event",
        &[
            "attempts",
            "bytes",
            "consumer_id",
            "member",
            "parked_at",
            "prev_seq",
            "seq",
            "session_id",
            "version",
        ],
    ),
    ("consumer_position", &["consumer_id", "cursor", "held_back", "position", "ready_after"]),
    (
        "delivery",
        &[
            "app_id",
            "attempts",
            "buin",
            "created_at",
            "due_at",
            "finished_at",
            "first_tried_at",
            "lease",
            "session_id",
            "state",
            "trace",
            "tries",
            "version",
        ],
    ),
    (
        "delivery_attempt",
        &[
            "answer",
            "app_id",
            "attempt",
            "duration_ms",
            "error",
            "session_id",
            "started_at",
            "status",
            "version",
        ],
    ),
    (
        "feed",
        &["app_id", "buin", "kind", "position", "seq", "sequenced_at", "session_id", "version"],
    ),
    ("feed_state", &["epoch", "only_one"]),
    ("idempotency", &["app_id", "buin", "digest", "expires_at", "key", "session_id", "version"]),
    ("outbox", &["outbox_id", "session_ids", "versions", "written_at"]),
    ("role_change", &["account", "buin", "gained", "role", "session_id", "version"]),
    ("sealing", &["master_key_id", "only_one", "since"]),
    (
        "session",
        &[
            "attributes",
            "buin",
            "created_at",
            "member_count",
            "owner",
            "session_id",
            "state",
            "title",
            "updated_at",
            "version",
        ],
    ),
    (
        "session_event",
        &[
            "app_id",
            "attributes",
            "buin",
            "changes",
            "created_at",
            "kind",
            "operator",
            "owner",
            "reason",
            "session_id",
            "title",
            "version",
            "xid",
        ],
    ),
    ("session_member", &["account", "buin", "joined_version", "position", "session_id"]),
    (
        "session_snapshot",
        &[
            "attributes",
            "buin",
            "created_at",
            "members",
            "owner",
            "session_id",
            "state",
            "title",
            "updated_at",
            "version",
        ],
    ),
    ("session_title", &["buin", "folded", "grams", "session_id"]),
];

/// The pairs of table and column, as two lists of the same length.
pub(super) fn pairs() -> (Vec<&'static str>, Vec<&'static str>) {
    let pairs =
        COLUMNS.iter().flat_map(|(table, columns)| columns.iter().map(|name| (*table, *name)));
    pairs.unzip()
}

#[cfg(test)]
mod tests {
    use super::super::content::TABLES;
    use super::*;

    #[test]
    fn every_copied_table_has_columns() {
        assert_eq!(COLUMNS.map(|(table, _)| table), TABLES);
        assert!(COLUMNS.iter().all(|(_, columns)| columns.is_sorted()));
    }
}
