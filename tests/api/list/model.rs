//! Random sessions, and random changes while a client reads the pages of a list. A session that
//! matches the filter all the time must be listed once, in its state at that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use muster::domain::{
    Action, Request, Session, SessionFilter, SessionId, Sort, SortKey, State, Title, TitlePart,
    Update,
};
use muster::service::{Error, WriteOptions};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::{ORDERS, TestService, account};

const ACCOUNTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const TITLES: [&str; 6] = ["alpha", "Alpha beta", "beta", "会议 alpha", "会", "gamma"];
const PARTS: [&str; 6] = ["a", "alpha", "BETA", "会", "a b", "zz"];

struct ModelTest {
    service: TestService,
    rng: StdRng,
    /// The sessions as they are now.
    sessions: BTreeMap<SessionKey, Session>,
}

/// A session id that can be ordered.
type SessionKey = uuid::Uuid;

impl ModelTest {
    async fn start(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let service = TestService::start().await;
        let mut test = Self { service, rng, sessions: BTreeMap::new() };
        for _ in 0..20 {
            test.create().await;
        }
        for _ in 0..30 {
            test.change().await;
        }
        test
    }

    /// Advances the clock. Often no time passes between two changes.
    fn advance_clock(&mut self) {
        let millis = *[0, 0, 1, 1_000, 700_000].choose(&mut self.rng).unwrap();
        self.service.app.clock.advance(Duration::from_millis(millis));
    }

    fn random_accounts(&mut self, count: usize) -> Vec<&'static str> {
        ACCOUNTS.sample(&mut self.rng, count).copied().collect()
    }

    async fn create(&mut self) {
        self.advance_clock();
        let count = self.rng.random_range(3..=6);
        let members = self.random_accounts(count);
        let title = *TITLES.choose(&mut self.rng).unwrap();
        let session = self.service.create(title, &members).await;
        self.sessions.insert(session.id.uuid(), session);
    }

    /// Performs a random action on a random session. A rejected action has no effect.
    async fn change(&mut self) {
        self.advance_clock();
        let keys: Vec<_> = self.sessions.keys().copied().collect();
        let key = *keys.choose(&mut self.rng).unwrap();
        let owner = self.sessions[&key].owner.clone();
        let mut update = Update::default();
        let action = match self.rng.random_range(0..10) {
            0..4 => {
                let title = *TITLES.choose(&mut self.rng).unwrap();
                update.title = Some(Title::new(title).unwrap());
                Action::Update(update)
            }
            4..7 => {
                let accounts = self.random_accounts(2);
                let (add, remove) = (vec![account(accounts[0])], vec![account(accounts[1])]);
                Action::Update(Update::for_members(add, remove).unwrap())
            }
            7 => {
                let members = self.sessions[&key].members.clone();
                update.owner = members.choose(&mut self.rng).cloned();
                Action::Update(update)
            }
            8 => Action::Dissolve,
            _ => Action::Restore,
        };
        let request = Request::for_member(owner, action);
        let options = WriteOptions::default();
        let id = SessionId::new(key);
        match self.service.sessions.update(&self.service.caller, id, request, &options).await {
            Ok(done) => drop(self.sessions.insert(key, (**done.session.unwrap()).clone())),
            Err(Error::Rejected(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    fn random_filter(&mut self) -> SessionFilter {
        let rng = &mut self.rng;
        let mut with = |chance| rng.random_bool(chance);
        let conditions = [with(0.3), with(0.2), with(0.3), with(0.3), with(0.2)];
        let name = |rng: &mut StdRng| account(ACCOUNTS.choose(rng).unwrap());
        let times: Vec<_> = self.sessions.values().map(|session| session.updated_at).collect();
        SessionFilter {
            member: conditions[0].then(|| name(rng)),
            owner: conditions[1].then(|| name(rng)),
            title: conditions[2].then(|| TitlePart::new(PARTS.choose(rng).unwrap()).unwrap()),
            state: conditions[3].then(|| *State::ALL.choose(rng).unwrap()),
            updated_since: conditions[4].then(|| *times.choose(rng).unwrap()),
        }
    }

    fn matching(&self, filter: &SessionFilter) -> BTreeSet<SessionKey> {
        let matching = self.sessions.iter().filter(|(_, session)| matches_filter(session, filter));
        matching.map(|(key, _)| *key).collect()
    }

    /// Reads the pages of one list during random changes.
    async fn read_pages(&mut self) {
        let filter = self.random_filter();
        let sort = *ORDERS.choose(&mut self.rng).unwrap();
        let query = format!("{filter:?} {sort:?}");
        let sort_times: BTreeMap<_, _> =
            self.sessions.iter().map(|(key, session)| (*key, sort_time(session, sort))).collect();
        let mut always = self.matching(&filter);
        let (mut cursor, mut listed) = (None, Vec::new());
        loop {
            let size = self.rng.random_range(1..4);
            let (items, next) = self.service.page(&filter, sort, size, cursor.as_deref()).await;
            for item in items {
                assert_eq!(item, self.sessions[&item.id.uuid()], "{query}");
                assert!(matches_filter(&item, &filter), "{query}: {item:?}");
                listed.push(item.id.uuid());
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
            // A change after the first page is later than its horizon.
            self.service.app.clock.advance(Duration::from_millis(1));
            for _ in 0..self.rng.random_range(0..4) {
                if self.rng.random_bool(0.2) {
                    self.create().await;
                } else {
                    self.change().await;
                }
                always = &always & &self.matching(&filter);
            }
        }
        let distinct: BTreeSet<_> = listed.iter().copied().collect();
        assert_eq!(distinct.len(), listed.len(), "duplicates: {query}");
        assert!(distinct.is_superset(&always), "missing: {query}: {:?}", &always - &distinct);
        let known: Vec<_> =
            listed.iter().filter_map(|key| Some((*sort_times.get(key)?, *key))).collect();
        let ordered = match sort.newest_first {
            true => known.is_sorted_by(|one, next| one > next),
            false => known.is_sorted_by(|one, next| one < next),
        };
        assert!(ordered, "{query}: {known:?}");
    }
}

/// The time by which a list that begins now sorts a session; the id sorts by the creation.
fn sort_time(session: &Session, sort: Sort) -> Option<DateTime<Utc>> {
    (sort.by == SortKey::UpdatedAt).then_some(session.updated_at)
}

fn matches_filter(session: &Session, filter: &SessionFilter) -> bool {
    let SessionFilter { member, owner, title, state, updated_since } = filter;
    let has = |part: &TitlePart| {
        session.title.as_str().to_lowercase().contains(&part.as_str().to_lowercase())
    };
    member.as_ref().is_none_or(|account| session.members.contains(account))
        && owner.as_ref().is_none_or(|account| session.owner == *account)
        && title.as_ref().is_none_or(has)
        && state.is_none_or(|state| session.state == state)
        && updated_since.is_none_or(|since| session.updated_at >= since)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_skip_nor_repeat_during_changes() {
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(6);
    for seed in 0..seeds {
        // The output of a failed test names the seed.
        println!("seed {seed}");
        let mut test = ModelTest::start(seed).await;
        for _ in 0..25 {
            test.read_pages().await;
        }
    }
}
