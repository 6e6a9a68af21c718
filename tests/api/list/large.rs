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
    let pool = harness::connect(&service.app.database, &settings);
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
