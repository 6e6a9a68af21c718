//! Lists of sessions and members, read page by page from the service.

mod large;
mod members;
mod model;

use std::sync::Arc;
use std::time::Duration;

use muster::clock::Clock;
use muster::domain::{
    Account, Action, Attributes, NewSession, Request, Session, SessionFilter, SessionId, Sort,
    SortKey, State, Title, TitlePart, Update,
};
use muster::service::{
    AppDirectory, Authenticator, BackgroundThreads, Caller, Error, ListQuery, PageSize,
    SessionOptions, Sessions, TokenOptions, WriteOptions,
};

use crate::harness::{BUIN, TestApp, keyring, spawn_app, spawn_app_with_clock, store};

/// The service on the database of a test, and an authenticated caller.
pub struct TestService {
    pub app: TestApp,
    sessions: Sessions,
    caller: Caller,
}

const ORDERS: [Sort; 4] = [
    Sort { by: SortKey::CreatedAt, newest_first: true },
    Sort { by: SortKey::CreatedAt, newest_first: false },
    Sort { by: SortKey::UpdatedAt, newest_first: true },
    Sort { by: SortKey::UpdatedAt, newest_first: false },
];

impl TestService {
    pub async fn start() -> Self {
        Self::with_app(spawn_app().await).await
    }

    /// The service with the clock of the machine, so that changes have the time of the database.
    async fn with_real_time() -> Self {
        Self::with_app(spawn_app_with_clock(Clock::system()).await).await
    }

    async fn with_app(app: TestApp) -> Self {
        let sessions = sessions_of(&app, &app.pool);
        let caller = authenticated(&app, &app.api_key).await;
        Self { app, sessions, caller }
    }

    /// Uses another pool for the same database.
    fn use_pool(&mut self, pool: &store::Pool) {
        self.sessions = sessions_of(&self.app, pool);
    }

    /// Creates a session of these members with the first one as owner.
    pub async fn create(&self, title: &str, members: &[&str]) -> Session {
        let new = NewSession {
            title: Title::new(title).unwrap(),
            creator: account(members[0]),
            members: members.iter().copied().map(account).collect(),
            attributes: Attributes::default(),
            reason: None,
        };
        let done = self.sessions.create(&self.caller, new, &WriteOptions::default()).await.unwrap();
        (**done.session.unwrap()).clone()
    }

    /// Performs an action as the owner.
    pub async fn act(&self, id: SessionId, action: Action) -> Result<Session, Error> {
        let owner = self.get(id).await.owner;
        let request = Request::for_member(owner, action);
        let options = WriteOptions::default();
        let done = self.sessions.update(&self.caller, id, request, &options).await?;
        Ok((**done.session.unwrap()).clone())
    }

    pub async fn rename(&self, id: SessionId, title: &str) -> Session {
        let mut update = Update::default();
        update.title = Some(Title::new(title).unwrap());
        self.act(id, Action::Update(update)).await.unwrap()
    }

    async fn get(&self, id: SessionId) -> Session {
        (**self.sessions.get_uncached(&self.caller, id).await.unwrap()).clone()
    }

    async fn page(
        &self,
        filter: &SessionFilter,
        sort: Sort,
        size: i64,
        cursor: Option<&str>,
    ) -> (Vec<Session>, Option<String>) {
        let size = PageSize::new(size).unwrap();
        let query = ListQuery::new(filter.clone(), sort, size, cursor).unwrap();
        let listing = self.sessions.list(&self.caller, &query).await.unwrap();
        assert!(listing.items.len() <= usize::from(size.get()));
        (listing.items, listing.next)
    }

    /// The items of all pages, and the number of pages.
    async fn all(&self, filter: &SessionFilter, sort: Sort, size: i64) -> (Vec<Session>, usize) {
        let (mut items, mut cursor) = self.page(filter, sort, size, None).await;
        let mut pages = 1;
        while let Some(text) = cursor {
            let (more, next) = self.page(filter, sort, size, Some(&text)).await;
            items.extend(more);
            cursor = next;
            pages += 1;
        }
        (items, pages)
    }

    /// The titles of all sessions that a filter finds, oldest first.
    async fn titles(&self, filter: &SessionFilter) -> Vec<String> {
        let mut titles = Vec::new();
        for session in self.all(filter, ORDERS[1], 2).await.0 {
            titles.push(session.title.as_str().to_owned());
        }
        titles
    }
}

fn sessions_of(app: &TestApp, pool: &store::Pool) -> Sessions {
    // The caller is authenticated once, and the timeout of each request counts from then.
    let mut settings = app.settings.clone();
    settings.server.request_timeout = Duration::from_secs(3_600);
    let options = SessionOptions::from_settings(&settings);
    let background = BackgroundThreads::start().unwrap();
    Sessions::new(pool.clone(), app.clock.clone(), options, Arc::default(), background)
}

/// The caller that has this API key.
async fn authenticated(app: &TestApp, api_key: &str) -> Caller {
    let directory =
        AppDirectory::open(app.pool.clone(), keyring(), app.clock.clone()).await.unwrap();
    let rules = TokenOptions {
        expire_in: Duration::from_secs(7200),
        max_clock_skew: Duration::from_secs(300),
    };
    let authenticator = Authenticator::new(Arc::new(directory), rules, app.clock.clone());
    authenticator.authenticate(api_key, tokio::time::Instant::now()).await.unwrap()
}

fn account(name: &str) -> Account {
    Account::new(name).unwrap()
}

fn titled(part: &str) -> SessionFilter {
    SessionFilter { title: Some(TitlePart::new(part).unwrap()), ..SessionFilter::default() }
}

/// Servers of the previous release go on until the contract of this one, and search other numbers.
#[tokio::test(flavor = "multi_thread")]
async fn earlier_index_of_titles_is_filled_as_long_as_it_exists() {
    let service = TestService::start().await;
    let members = ["a", "b", "c"];
    let before = service.create("项目 aba", &members).await.id;
    assert_eq!(store::title_grams(&service.app, before).await.0, None);
    store::add_earlier_title_index(&service.app).await;
    let meanwhile = service.create("É aba", &members).await.id;
    service.rename(before, "会议 aab").await;
    for id in [before, meanwhile] {
        let (grams, expected) = store::title_grams(&service.app, id).await;
        assert_eq!(grams, Some(expected), "{id}");
    }
    store::drop_earlier_title_index(&service.app).await;
    service.rename(before, "会议").await;
    assert_eq!(store::title_grams(&service.app, before).await.0, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_combine() {
    let service = TestService::start().await;
    let second = Duration::from_secs(1);
    let mut ids = Vec::new();
    for (title, members) in [
        ("Release 1", ["a", "b", "c"]),
        ("release 2", ["b", "c", "d"]),
        ("项目会议", ["a", "c", "d"]),
        ("ÉTÉ 会议", ["a", "b", "d"]),
    ] {
        service.app.clock.advance(second);
        ids.push(service.create(title, &members).await.id);
    }
    service.app.clock.advance(second);
    let since = service.app.clock.now();
    service.act(ids[1], Action::Dissolve).await.unwrap();
    service.app.clock.advance(second);
    service.rename(ids[0], "Release 1a").await;

    let all = SessionFilter::default;
    let of = |name: &str| SessionFilter { member: Some(account(name)), ..all() };
    let owned = |name: &str| SessionFilter { owner: Some(account(name)), ..all() };
    let [active, dissolved] = State::ALL.map(|state| SessionFilter { state: Some(state), ..all() });
    for (filter, expected) in [
        (all(), vec!["Release 1a", "release 2", "项目会议", "ÉTÉ 会议"]),
        (of("b"), vec!["Release 1a", "release 2", "ÉTÉ 会议"]),
        (of("nobody"), vec![]),
        (owned("a"), vec!["Release 1a", "项目会议", "ÉTÉ 会议"]),
        (owned("c"), vec![]),
        (active.clone(), vec!["Release 1a", "项目会议", "ÉTÉ 会议"]),
        (dissolved, vec!["release 2"]),
        (titled("RELEASE"), vec!["Release 1a", "release 2"]),
        (titled("1a"), vec!["Release 1a"]),
        (titled("会"), vec!["项目会议", "ÉTÉ 会议"]),
        (titled("e\u{301}té"), vec!["ÉTÉ 会议"]),
        (titled("ｅ １"), vec!["Release 1a"]),
        (titled("%"), vec![]),
        // `Release` has every pair of adjacent letters of this text, but not the text itself.
        (titled("easelele"), vec![]),
        (SessionFilter { updated_since: Some(since), ..all() }, vec!["Release 1a", "release 2"]),
        (SessionFilter { owner: Some(account("a")), ..of("b") }, vec!["Release 1a", "ÉTÉ 会议"]),
        (
            SessionFilter { member: Some(account("d")), ..titled("会议") },
            vec!["项目会议", "ÉTÉ 会议"],
        ),
        (SessionFilter { updated_since: Some(since), ..active }, vec!["Release 1a"]),
    ] {
        assert_eq!(service.titles(&filter).await, expected, "{filter:?}");
        for order in ORDERS {
            let mut found: Vec<_> = service.all(&filter, order, 1).await.0;
            found.sort_by_key(|session| session.id.uuid());
            let found: Vec<_> = found.iter().map(|session| session.title.as_str()).collect();
            assert_eq!(found, expected, "{filter:?} {order:?}");
        }
    }

    // The titles in each order.
    for (order, expected) in ORDERS.into_iter().zip([
        ["ÉTÉ 会议", "项目会议", "release 2", "Release 1a"],
        ["Release 1a", "release 2", "项目会议", "ÉTÉ 会议"],
        ["Release 1a", "release 2", "ÉTÉ 会议", "项目会议"],
        ["项目会议", "ÉTÉ 会议", "release 2", "Release 1a"],
    ]) {
        let (found, _) = service.all(&SessionFilter::default(), order, 3).await;
        let found: Vec<_> = found.iter().map(|session| session.title.as_str()).collect();
        assert_eq!(found, expected, "{order:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_only_the_own_enterprise() {
    let service = TestService::start().await;
    let own = service.create("own", &["a", "b", "c"]).await;
    let (_, key) = service.app.another_app(BUIN + 1, &[]).await;
    let other_app = authenticated(&service.app, &key).await;
    let since = Some(own.updated_at);
    for filter in [
        SessionFilter::default(),
        titled("own"),
        SessionFilter { member: Some(account("a")), ..SessionFilter::default() },
        SessionFilter { owner: Some(account("a")), ..SessionFilter::default() },
        SessionFilter { state: Some(State::Active), ..SessionFilter::default() },
        SessionFilter { updated_since: since, ..SessionFilter::default() },
    ] {
        for order in ORDERS {
            let query = ListQuery::new(filter.clone(), order, PageSize::DEFAULT, None).unwrap();
            let theirs = service.sessions.list(&other_app, &query).await.unwrap();
            assert_eq!((theirs.items, theirs.next), (vec![], None), "{query:?}");
            let ours = service.sessions.list(&service.caller, &query).await.unwrap();
            assert_eq!(ours.items, std::slice::from_ref(&own));
        }
    }
    assert_eq!(service.sessions.get_many(&other_app, &[own.id]).await.unwrap().sessions, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_read_in_the_requested_order() {
    let service = TestService::start().await;
    let a = service.create("a", &["a", "b", "c"]).await;
    let b = service.create("b", &["a", "b", "c"]).await;
    let unknown = SessionId::new(uuid::Uuid::from_u128(7));
    let got = service.sessions.get_many(&service.caller, &[b.id, unknown, a.id]).await.unwrap();
    assert_eq!((got.sessions, got.remaining), (vec![b, a], vec![]));
    assert_eq!(service.sessions.get_many(&service.caller, &[]).await.unwrap().sessions, []);
}

/// A transaction runs while the first page is read, and commits before the next page is read. Its
/// time is later than the horizon of the first page.
#[tokio::test(flavor = "multi_thread")]
async fn late_commit_does_not_move_list_entries() {
    let service = TestService::with_real_time().await;
    let mut ids = Vec::new();
    for title in ["1", "2", "3", "4"] {
        ids.push(service.create(title, &["a", "b", "c"]).await.id);
    }
    let mut late = store::begin_late_update(&service.app, ids[0]).await;
    // This change is committed, but is later than one that is not.
    service.rename(ids[3], "4a").await;
    let all = SessionFilter::default();
    let title = |sessions: &[Session]| sessions[0].title.as_str().to_owned();

    let (first, cursor) = service.page(&all, ORDERS[2], 1, None).await;
    assert_eq!(title(&first), "3");
    store::commit(&mut late).await;
    service.rename(ids[1], "2a").await;
    let (second, cursor) = service.page(&all, ORDERS[2], 1, cursor.as_deref()).await;
    let (third, cursor) = service.page(&all, ORDERS[2], 1, cursor.as_deref()).await;
    assert_eq!((title(&second), title(&third)), ("2a".to_owned(), "late".to_owned()));
    assert_eq!(cursor, None);

    let (sessions, _) = service.all(&all, ORDERS[2], 1).await;
    let titles: Vec<&str> = sessions.iter().map(|session| session.title.as_str()).collect();
    assert_eq!(titles, ["2a", "4a", "late", "3"]);
}
