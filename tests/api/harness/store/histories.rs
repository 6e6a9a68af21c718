//! Long and large histories, and the snapshots of sessions.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::execute;
use crate::harness::TestApp;

/// A history that a test writes into the tables, one second for each version.
#[derive(Clone, Copy, Debug)]
pub struct StoredHistory {
    pub buin: i64,
    /// The time of the first version.
    pub created_at: DateTime<Utc>,
    /// The number of versions.
    pub versions: i64,
    /// The number of accounts that version 2 adds and version 3 removes, and so on.
    pub toggled_accounts: usize,
    /// The length of each of these accounts, in bytes of at most 256.
    pub account_bytes: usize,
}

impl StoredHistory {
    /// A history of `versions` versions that change the title.
    pub fn of_titles(app: &TestApp, versions: i64) -> Self {
        Self::of_accounts(app, versions, 0)
    }

    /// A history of `versions` versions that add and remove accounts of 64 bytes.
    pub fn of_accounts(app: &TestApp, versions: i64, toggled_accounts: usize) -> Self {
        let (buin, created_at) = (app.client.buin, app.clock.now());
        Self { buin, created_at, versions, toggled_accounts, account_bytes: 64 }
    }

    /// The accounts that come and go.
    pub fn accounts(&self) -> Vec<String> {
        // 64 characters of 4 bytes are the longest account.
        let width =
            if self.account_bytes > 64 { self.account_bytes / 4 } else { self.account_bytes };
        let fill = if self.account_bytes > 64 { '𠮷' } else { 'm' };
        let account = |number: usize| {
            let number = format!("{number}");
            let rest = width - number.len();
            std::iter::repeat_n(fill, rest).collect::<String>() + &number
        };
        (0..self.toggled_accounts).map(account).collect()
    }

    /// The title at a version.
    pub fn title(&self, version: i64) -> String {
        if self.toggled_accounts == 0 { format!("t{version}") } else { "t1".to_owned() }
    }

    /// The members at a version.
    pub fn members(&self, version: i64) -> Vec<String> {
        let toggled = if version % 2 == 0 { self.accounts() } else { Vec::new() };
        ["a", "b", "c"].map(str::to_owned).into_iter().chain(toggled).collect()
    }

    fn changes(&self) -> [Value; 3] {
        let accounts = self.accounts();
        let created = json!({ "title": "t1", "owner": "a", "member": ["a", "b", "c"] });
        if accounts.is_empty() {
            return [created, json!({}), json!({})];
        }
        [created, json!({ "addMember": accounts }), json!({ "delMember": accounts })]
    }

    /// Writes the session and its events, and returns the id of the session.
    pub async fn insert(&self, app: &TestApp) -> Uuid {
        let id = Uuid::from_u128(rand::random());
        let (last, members) = (self.versions, self.members(self.versions));
        let sql = "insert into session (session_id, buin, title, owner, version, state, \
                                        member_count, created_at, updated_at) \
                   values ($1, $2, $3, 'a', $4, 'active', $5, $6, \
                           $6 + ($4 - 1) * interval '1 second')";
        let session = sqlx::query(sql).bind(id).bind(self.buin).bind(self.title(last)).bind(last);
        let count = i32::try_from(members.len()).unwrap();
        session.bind(count).bind(self.created_at).execute(&app.pool).await.unwrap();
        let sql = "insert into session_member (session_id, buin, account, joined_version, position) \
                   select $1, $2, account, 1, place \
                   from unnest($3::text[]) with ordinality as member (account, place)";
        let rows = sqlx::query(sql).bind(id).bind(self.buin).bind(&members);
        rows.execute(&app.pool).await.unwrap();
        let sql = "insert into session_title (session_id, buin, folded) values ($1, $2, 't')";
        sqlx::query(sql).bind(id).bind(self.buin).execute(&app.pool).await.unwrap();
        let [created, even, odd] = self.changes();
        let sql = "insert into session_event (session_id, version, buin, kind, operator, app_id, \
                                              title, owner, changes, created_at) \
                   select $1, version, $2, case version when 1 then 'created' else 'updated' end, \
                          'a', 'x', 't', 'a', \
                          case when version = 1 then $3::jsonb \
                               when $7 then jsonb_build_object('title', 't' || version) \
                               when version % 2 = 0 then $4 else $5::jsonb end, \
                          $6::timestamptz + (version - 1) * interval '1 second' \
                   from generate_series(1, $8::bigint) as version";
        let events = sqlx::query(sql).bind(id).bind(self.buin).bind(created).bind(even).bind(odd);
        let events = events.bind(self.created_at).bind(self.toggled_accounts == 0).bind(last);
        events.execute(&app.pool).await.unwrap();
        id
    }
}

/// The versions of which a session has snapshots, and the sizes of the texts in them.
pub async fn snapshots(app: &TestApp, id: Uuid) -> Vec<(i64, i64)> {
    let sql = "select version, octet_length(members::text)::bigint from session_snapshot \
               where session_id = $1 order by version";
    sqlx::query_as(sql).bind(id).fetch_all(&app.pool).await.unwrap()
}

/// Removes an event of a session.
pub async fn delete_event(app: &TestApp, id: Uuid, version: i64) {
    let sql = "delete from session_event where session_id = $1 and version = $2";
    sqlx::query(sql).bind(id).bind(version).execute(&app.pool).await.unwrap();
}

/// Makes it impossible to store a snapshot.
pub async fn refuse_snapshots(app: &TestApp) {
    execute(&app.pool, "alter table session_snapshot add constraint refused check (false)").await;
}

/// Gives all sessions attributes of about this size.
pub async fn set_attributes(app: &TestApp, bytes: i32) {
    let sql = "update session set attributes = json_build_object('x', repeat('x', $1))";
    sqlx::query(sql).bind(bytes).execute(&app.pool).await.unwrap();
}
