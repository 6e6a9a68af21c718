//! Lists over more sessions than one page can scan.

use std::collections::BTreeSet;
use std::time::Duration;

use muster::domain::{Session, SessionFilter, State, TitlePart};

use super::{ORDERS, TestService, account, titled};
use crate::harness::{self, BUIN, store, test_start_time};

const SESSIONS: i32 = 12_000;

/// Writes sessions that have existed for 30 days. [`store::insert_many_sessions`] describes them.
async fn insert_sessions(service: &TestService) {
    let begin = test_start_time() - chrono::TimeDelta::days(30);
    store::insert_many_sessions(&service.app, begin, SESSIONS).await;
}

fn number(session: &Session) -> u128 {
    session.id.uuid().as_u128() & 0xFFFF_FFFF
}

#[tokio::test(flavor = "multi_thread")]
async fn rare_sessions_are_found_among_many() {
    let service = TestService::start().await;
    insert_sessions(&service).await;
    let recently = Some(test_start_time() - chrono::TimeDelta::days(8));
    let all = SessionFilter::default;
    let bot = || Some(account("bot"));
    let part = |text: &str| Some(TitlePart::new(text).unwrap());
    let dissolved = Some(State::Dissolved);
    let multiples = |step: usize| (step..=SESSIONS as usize).step_by(step).collect::<BTreeSet<_>>();
    for (filter, expected) in [
        (SessionFilter { member: bot(), state: dissolved, ..all() }, multiples(3000)),
        (
            SessionFilter { owner: bot(), state: dissolved, title: part("a"), ..all() },
            multiples(3000),
        ),
        (SessionFilter { title: part("rare"), ..all() }, multiples(500)),
        (SessionFilter { title: part("a"), updated_since: recently, ..all() }, multiples(4000)),
        (SessionFilter { member: bot(), updated_since: recently, ..all() }, multiples(4000)),
        (
            SessionFilter { member: bot(), title: part("a r"), state: dissolved, ..all() },
            multiples(3000),
        ),
        (SessionFilter { title: part("a a"), ..all() }, BTreeSet::new()),
    ] {
        for order in ORDERS {
            let (found, pages) = service.all(&filter, order, 200).await;
            let numbers: Vec<_> = found.iter().map(|session| number(session) as usize).collect();
            let distinct: BTreeSet<_> = numbers.iter().copied().collect();
            assert_eq!(numbers.len(), distinct.len(), "{filter:?} {order:?}");
            assert_eq!(distinct, expected, "{filter:?} {order:?}");
            // A page scans at least 10,000 of the 12,000 sessions, or finds all matches.
            assert!(pages <= 2, "{filter:?} {order:?}: {pages}");
        }
    }
}

/// A search reads the titles of one enterprise, however many of another one would match.
#[tokio::test(flavor = "multi_thread")]
async fn search_reads_no_title_of_another_enterprise() {
    const FOREIGN: i32 = 15_000;
    let mut service = TestService::start().await;
    insert_sessions(&service).await;
    let mut settings = service.app.settings.clone();
    settings.database.max_connections = 1;
    let pool = harness::connect_directly(&service.app.database, &settings);
    service.use_pool(&pool);
    let filter = titled("rare");
    let expected: BTreeSet<_> = (500..=SESSIONS as usize).step_by(500).collect();
    for foreign in [0, FOREIGN] {
        store::insert_foreign_titles(&service.app, BUIN + 1, foreign).await;
        store::vacuum_titles(&service.app).await;
        for order in ORDERS {
            let before = store::title_rows_read(&pool).await;
            let (found, pages) = service.all(&filter, order, 200).await;
            let read = store::title_rows_read(&pool).await - before;
            let numbers: BTreeSet<_> =
                found.iter().map(|session| number(session) as usize).collect();
            assert_eq!((numbers, pages), (expected.clone(), 1), "{foreign} {order:?}");
            // The first window of 1,000 sessions, and each match in the index and by its key.
            assert!(read < 1_100, "{foreign} {order:?}: {read}");
        }
    }
}

/// A list by creation reads no session before the first title that it searches, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn search_begins_where_its_titles_are() {
    // More than a statement reads, of each kind.
    const OLD: i32 = 11_000;
    const NEW: i32 = 12_000;
    let mut service = TestService::start().await;
    let begin = test_start_time() - chrono::TimeDelta::days(300);
    store::insert_sessions_of_two_ages(&service.app, begin, OLD, NEW).await;
    let mut settings = service.app.settings.clone();
    settings.database.max_connections = 1;
    let pool = harness::connect_directly(&service.app.database, &settings);
    service.use_pool(&pool);
    let [newest_first, oldest_first] = [ORDERS[0], ORDERS[1]];
    for (title, order, first) in [("legacy", newest_first, OLD), ("recent", oldest_first, OLD + 1)]
    {
        for filter in
            [titled(title), SessionFilter { member: Some(account("bot")), ..titled(title) }]
        {
            let before = store::title_rows_read(&pool).await;
            let (items, next) = service.page(&filter, order, 50, None).await;
            let read = store::title_rows_read(&pool).await - before;
            let numbers: Vec<_> = items.iter().map(number).collect();
            assert_eq!((numbers.len(), next.is_some()), (50, true), "{filter:?}");
            assert_eq!(numbers[0], u128::try_from(first).unwrap(), "{filter:?}");
            // The first window, the titles until they are too many, the last window, and the parts of
            // the history.
            assert!(read < 1_000 + 2 * 10_000 + 200, "{filter:?}: {read}");
        }
    }
    for (title, count) in [("legacy", OLD), ("recent", NEW), ("a", OLD + NEW)] {
        for order in [newest_first, oldest_first] {
            let (found, pages) = service.all(&titled(title), order, 200).await;
            let distinct: BTreeSet<_> = found.iter().map(number).collect();
            let count = usize::try_from(count).unwrap();
            assert_eq!((found.len(), distinct.len()), (count, count), "{title} {order:?}");
            assert!(pages <= count / 200 + 2, "{title} {order:?}: {pages}");
        }
    }
    // Many titles match, and no session.
    let nothing = SessionFilter { state: Some(State::Dissolved), ..titled("legacy") };
    for order in ORDERS {
        let (found, pages) = service.all(&nothing, order, 200).await;
        assert!(found.is_empty() && pages <= 4, "{order:?}: {pages}");
    }
}

/// A list of the changes since a time reads none of the earlier ones.
#[tokio::test(flavor = "multi_thread")]
async fn changes_since_a_time_are_read_from_that_time_on() {
    let mut service = TestService::start().await;
    let begin = test_start_time() - chrono::TimeDelta::days(100);
    store::insert_sessions_of_two_ages(&service.app, begin, 1, SESSIONS).await;
    let mut settings = service.app.settings.clone();
    settings.database.max_connections = 1;
    let pool = harness::connect_directly(&service.app.database, &settings);
    service.use_pool(&pool);
    let count = 20;
    let since = begin + chrono::TimeDelta::minutes(10) * (SESSIONS + 1 - count + 1);
    let filter = SessionFilter { updated_since: Some(since), ..SessionFilter::default() };
    for order in &ORDERS[2..] {
        let before = store::change_index_pages_read(&pool).await;
        let (items, next) = service.page(&filter, *order, 50, None).await;
        let read = store::change_index_pages_read(&pool).await - before;
        assert_eq!((items.len(), next), (usize::try_from(count).unwrap(), None), "{order:?}");
        assert!((1..20).contains(&read), "{order:?}: {read} of about 80");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_ends_at_the_member_limit() {
    const TITLES: [&str; 5] = ["1", "2", "3", "4", "5"];
    let service = TestService::start().await;
    for title in TITLES {
        service.create(title, &["a", "b", "c"]).await;
        service.app.clock.advance(Duration::from_millis(1));
    }
    for title in TITLES {
        let count = if title == "1" { 10_001 } else { 4_000 };
        store::set_member_count(&service.app, title, count).await;
    }
    for (order, expected) in ORDERS.into_iter().zip([[2, 2, 1], [1, 2, 2]].into_iter().cycle()) {
        let (mut cursor, mut sizes) = (None, Vec::new());
        loop {
            let (items, next) =
                service.page(&SessionFilter::default(), order, 200, cursor.as_deref()).await;
            sizes.push(items.len());
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(sizes, expected, "{order:?}");
    }
}
