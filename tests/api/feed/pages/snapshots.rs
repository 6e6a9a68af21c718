//! A mirror: the present sessions, and then the changes.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::Value;
use tokio::sync::watch;

use super::model::{ACCOUNTS, History, ModelSession, Table, write};
use super::reader::Reader;
use super::{Caller, caller, events, id_of, next, seq};
use crate::faults::seed;
use crate::feed::complete_feed;
use crate::feed::streams::{EVENTS, EventReader};
use crate::harness::spawn_app;

/// The sessions of a filter, as a consumer builds them.
struct Mirror {
    member: Option<&'static str>,
    table: Table,
    /// The versions that the snapshot had.
    in_snapshot: BTreeMap<String, i64>,
    /// The sessions of which the consumer has heard.
    heard: BTreeSet<String>,
    /// The consumer at each change and each bookmark behind the snapshot.
    bookmarks: Vec<Bookmark>,
}

/// The state of a consumer at a position.
struct Bookmark {
    /// The last change before the position.
    seq: i64,
    table: Table,
    heard: BTreeSet<String>,
}

impl Mirror {
    fn new(member: Option<&'static str>) -> Self {
        Self {
            member,
            table: Table::new(),
            in_snapshot: BTreeMap::new(),
            heard: BTreeSet::new(),
            bookmarks: Vec::new(),
        }
    }

    fn filter(&self) -> String {
        self.member.map(|account| format!("&member={account}")).unwrap_or_default()
    }

    fn matches(&self, session: &ModelSession) -> bool {
        self.member.is_none_or(|account| session.members.iter().any(|name| name == account))
    }

    fn keep_of_snapshot(&mut self, session: &Value) {
        let version = session["version"].as_i64().unwrap();
        assert_eq!(self.in_snapshot.insert(id_of(session), version), None, "twice: {session}");
        self.keep(session);
    }

    fn keep(&mut self, session: &Value) {
        let (id, session) = (id_of(session), ModelSession::from_json(session));
        self.heard.insert(id.clone());
        if self.table.get(&id).is_some_and(|known| known.version >= session.version) {
            return;
        }
        if self.matches(&session) {
            self.table.insert(id, session);
        } else {
            self.table.remove(&id);
        }
    }

    fn mark(&mut self, seq: i64) {
        let (table, heard) = (self.table.clone(), self.heard.clone());
        self.bookmarks.push(Bookmark { seq, table, heard });
    }

    /// Checks that the consumer had the sessions of each position. A session is newer only if the
    /// snapshot had it already. It is missing only if it had left the filter before the snapshot was
    /// read.
    fn check(&self, history: &History) {
        assert!(self.bookmarks.is_sorted_by_key(|bookmark| bookmark.seq));
        for Bookmark { seq, table, heard } in &self.bookmarks {
            let then = history.table_at(*seq);
            let mut expected = Table::new();
            for id in then.keys().chain(self.in_snapshot.keys()) {
                let at_position = then.get(id).map_or(0, |session| session.version);
                let version = at_position.max(self.in_snapshot.get(id).copied().unwrap_or(0));
                let session = history.session_at(id, version);
                let leaves = history
                    .0
                    .iter()
                    .skip(usize::try_from(*seq).unwrap())
                    .any(|later| id_of(&later.event) == *id && !self.matches(&later.after));
                if self.matches(session) && (heard.contains(id) || !leaves) {
                    expected.insert(id.clone(), session.clone());
                }
            }
            assert_eq!(*table, expected, "{:?} at {seq}", self.member);
        }
    }
}

/// The position of a cursor: the number of the last change before it.
fn seq_of(cursor: &str) -> i64 {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap();
    i64::from_be_bytes(bytes[9..17].try_into().unwrap())
}

/// Keeps a mirror by pages, until it has the change `stop`.
async fn follow_pages(
    caller: Caller,
    member: Option<&'static str>,
    stop: watch::Receiver<Option<i64>>,
) -> Mirror {
    let mut mirror = Mirror::new(member);
    let filter = format!("{}&include=session", mirror.filter());
    let mut page = caller.page(&format!("snapshot=true&limit=5{filter}")).await;
    loop {
        assert_eq!(events(&page).len(), 0, "{page}");
        page["sessions"].as_array().unwrap().iter().for_each(|one| mirror.keep_of_snapshot(one));
        if page["snapshot"] == "done" {
            break;
        }
        assert_eq!(page["snapshot"], "running");
        page = caller.page(&format!("after={}&limit=5{filter}", next(&page))).await;
    }
    let mut reader = Reader::new(&caller, &filter, &next(&page));
    loop {
        let page = reader.page(3).await;
        for event in events(&page) {
            mirror.keep(&event["session"]);
            mirror.mark(seq(event));
        }
        mirror.mark(seq_of(&next(&page)));
        let stop = *stop.borrow();
        if page["caughtUp"] == true && stop.is_some_and(|stop| page["headSeq"] == stop) {
            return mirror;
        }
    }
}

/// Keeps a mirror by streams, of which each ends soon, on the two servers in turn.
async fn follow_streams(
    servers: [Caller; 2],
    member: Option<&'static str>,
    stop: watch::Receiver<Option<i64>>,
) -> Mirror {
    let mut mirror = Mirror::new(member);
    let path = format!("{EVENTS}?snapshot=true&include=session{}", mirror.filter());
    let (mut last_id, mut last_seq, mut is_complete) = (None::<String>, None, false);
    for number in 0.. {
        let Caller { client, key } = &servers[number % 2];
        let request = client.request(Method::GET, &path).bearer_auth(key);
        let mut reader = EventReader::from_request(match &last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        })
        .await;
        for _ in 0..7 {
            let event = reader.next().await.unwrap();
            let is_bookmark = event.name == "bookmark";
            match event.name.as_str() {
                "session" => mirror.keep_of_snapshot(&event.json()),
                "snapshotEnd" => is_complete = true,
                "change" => {
                    let change = event.json();
                    let prev = change["prevSeq"].as_i64().unwrap();
                    assert_eq!(prev, last_seq.unwrap_or(prev), "{change}");
                    last_seq = Some(seq(&change));
                    mirror.keep(&change["session"]);
                }
                name => assert_eq!(name, "bookmark"),
            }
            if is_complete {
                mirror.mark(seq_of(&event.id));
                if stop.borrow().is_some_and(|stop| seq_of(&event.id) == stop) {
                    return mirror;
                }
            }
            last_id = Some(event.id);
            if is_bookmark {
                break;
            }
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread")]
async fn mirror_equals_the_table_at_every_bookmark() {
    let seed = seed();
    let app = spawn_app().await;
    let (address, _shutdown_signal) = app.another_instance().await;
    let first = caller(&app);
    let second = Caller { client: first.client.at(address), ..first.clone() };
    let servers = [first.clone(), second.clone()];
    let mut shared = Vec::new();
    for _ in 0..12 {
        shared.push(first.create(&ACCOUNTS).await);
    }
    complete_feed(&app.pool).await;
    let (done, stop) = watch::channel(None);
    let mut mirrors = Vec::new();
    for (number, member) in [None, Some("b"), Some("e")].into_iter().enumerate() {
        let caller = servers[number % 2].clone();
        mirrors.push(tokio::spawn(follow_pages(caller, member, stop.clone())));
        mirrors.push(tokio::spawn(follow_streams(servers.clone(), member, stop.clone())));
    }
    let mut writers = Vec::new();
    for number in 0..6_usize {
        let (caller, seed) = (servers[number % 2].clone(), seed.wrapping_add(number as u64));
        writers.push(tokio::spawn(write(caller, seed, shared.clone(), 25)));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let head = complete_feed(&app.pool).await.len() as i64;
    done.send(Some(head)).unwrap();
    let whole = Reader::new(&first, "&include=session", "0").rest(200).await;
    let history = History::from_changes(&whole);
    let present = history.table_at(head);
    for mirror in mirrors {
        let mirror = mirror.await.unwrap();
        mirror.check(&history);
        assert!(mirror.bookmarks.len() > 20, "seed {seed}: {}", mirror.bookmarks.len());
        // At the end nothing is newer or missing.
        let expected: Table = present
            .iter()
            .filter(|(_, session)| mirror.matches(session))
            .map(|(id, session)| (id.clone(), session.clone()))
            .collect();
        assert_eq!(mirror.table, expected, "seed {seed}: {:?}", mirror.member);
    }
    let listed = app.client.request(Method::GET, "/v1/sessions?limit=200");
    let listed = crate::v1::result(listed.bearer_auth(&app.api_key).send().await.unwrap()).await;
    let listed = listed["items"].as_array().unwrap().iter();
    let listed: BTreeMap<_, _> =
        listed.map(|session| (id_of(session), ModelSession::from_json(session))).collect();
    assert_eq!(listed, present);
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_of_one_session_or_of_an_account_has_only_these() {
    let app = spawn_app().await;
    let caller = caller(&app);
    let (ab, cd) = (caller.create(&["a", "b", "x"]).await, caller.create(&["c", "d", "x"]).await);
    complete_feed(&app.pool).await;
    for (filter, expected) in [
        ("", vec![&ab, &cd]),
        ("&member=b", vec![&ab]),
        ("&owner=c", vec![&cd]),
        ("&owner=x", vec![]),
        (&format!("&sessionId={ab}"), vec![&ab]),
        (&format!("&sessionId={ab}&member=x&owner=a"), vec![&ab]),
        (&format!("&sessionId={ab}&owner=c"), vec![]),
        ("&sessionId={8AD595F3-73B3-4B56-90AF-F336F9222FC5}", vec![]),
    ] {
        let page = caller.page(&format!("snapshot=true{filter}")).await;
        let found: Vec<String> = page["sessions"].as_array().unwrap().iter().map(id_of).collect();
        // Ids of the same millisecond are in no certain order.
        assert!(found.is_sorted(), "{found:?}");
        let found: BTreeSet<&String> = found.iter().collect();
        assert_eq!(found, expected.into_iter().collect(), "{filter}");
        assert_eq!((&page["snapshot"], &page["caughtUp"]), (&"done".into(), &true.into()));
        let tail = caller.page(&format!("after={}{filter}", next(&page))).await;
        assert!(events(&tail).is_empty() && tail.get("snapshot").is_none(), "{tail}");
    }
}
