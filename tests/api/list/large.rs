//! Lists over more sessions than one page can scan.

use std::collections::BTreeSet;
use std::time::Duration;

use muster::domain::{Session, SessionFilter, State, TitlePart};

use super::{ORDERS, World, account};
use crate::harness::{BUIN, test_start_time};

const SESSIONS: i32 = 12_000;

/// Writes sessions one second apart, all owned by `bot` and with `a` in the title. Every 3000th is
/// dissolved, every 4000th was changed later, and every 500th has `rare` in its title.
async fn fill(world: &World) {
    let begin = test_start_time() - chrono::TimeDelta::days(30);
    for sql in [
        "create table seed as \
         select n, ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid as session_id, \
                'a' || case when n % 500 = 0 then ' rare' else '' end as title, \
                case when n % 3000 = 0 then 'dissolved' else 'active' end as state, \
                $1::timestamptz + n * interval '1 second' as created_at, \
                $1::timestamptz + (n + case when n % 4000 = 0 then 2000000 else 0 end) \
                    * interval '1 second' as updated_at, \
                $2::bigint as buin, 1 + (n % 4000 = 0)::int as version \
         from generate_series(1, $3::int) as n",
        "insert into session (session_id, buin, title, owner, version, state, member_count, \
                              created_at, updated_at) \
         select session_id, buin, title, 'bot', version, state, 3, created_at, updated_at \
         from seed",
        "insert into session_member (session_id, buin, account, joined_version, position) \
         select session_id, buin, account, 1, place from seed \
         cross join unnest(array['bot', 'x', 'y']) with ordinality as member (account, place)",
        "insert into session_event (session_id, version, buin, kind, operator, app_id, title, \
                                    owner, changes, created_at) \
         select session_id, number, buin, 'updated', 'bot', 'x', title, 'bot', '{}', \
                case when number = 1 then created_at else updated_at end \
         from seed cross join generate_series(1, version) as number",
        // The n-grams of the two different titles.
        "insert into session_title (session_id, buin, folded, grams) \
         select session_id, buin, title, grams from seed \
         cross join lateral ( \
             select array_agg(ascii(substr(title, place, 1))::bigint << 21) || array_agg( \
                        (ascii(substr(title, place, 1))::bigint << 21) \
                            + ascii(substr(title, place + 1, 1))) as grams \
             from generate_series(1, length(title)) as place \
         ) as grams",
    ] {
        let mut query = sqlx::query(sql);
        if sql.contains("$1") {
            query = query.bind(begin).bind(BUIN).bind(SESSIONS);
        }
        query.execute(&world.app.pool).await.unwrap();
    }
}

fn number(session: &Session) -> u128 {
    session.id.uuid().as_u128() & 0xFFFF_FFFF
}

#[tokio::test(flavor = "multi_thread")]
async fn rare_sessions_are_found_among_many() {
    let world = World::begin().await;
    fill(&world).await;
    let lately = Some(test_start_time() - chrono::TimeDelta::days(8));
    let all = SessionFilter::default;
    let bot = || Some(account("bot"));
    let part = |text: &str| Some(TitlePart::new(text).unwrap());
    let dissolved = Some(State::Dissolved);
    let every = |step: usize| (step..=SESSIONS as usize).step_by(step).collect::<BTreeSet<_>>();
    for (filter, expected) in [
        (SessionFilter { member: bot(), state: dissolved, ..all() }, every(3000)),
        (SessionFilter { owner: bot(), state: dissolved, title: part("a"), ..all() }, every(3000)),
        (SessionFilter { title: part("rare"), ..all() }, every(500)),
        (SessionFilter { title: part("a"), updated_since: lately, ..all() }, every(4000)),
        (SessionFilter { member: bot(), updated_since: lately, ..all() }, every(4000)),
        (
            SessionFilter { member: bot(), title: part("a r"), state: dissolved, ..all() },
            every(3000),
        ),
        (SessionFilter { title: part("a a"), ..all() }, BTreeSet::new()),
    ] {
        for order in ORDERS {
            let (found, pages) = world.all(&filter, order, 200).await;
            let numbers: Vec<_> = found.iter().map(|session| number(session) as usize).collect();
            let distinct: BTreeSet<_> = numbers.iter().copied().collect();
            assert_eq!(numbers.len(), distinct.len(), "{filter:?} {order:?}");
            assert_eq!(distinct, expected, "{filter:?} {order:?}");
            // A page scans at least 10,000 of the 12,000 sessions, or finds all matches.
            assert!(pages <= 2, "{filter:?} {order:?}: {pages}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_ends_at_the_member_limit() {
    let world = World::begin().await;
    for title in ["1", "2", "3", "4", "5"] {
        world.create(title, &["a", "b", "c"]).await;
        world.app.clock.advance(Duration::from_millis(1));
    }
    let sql = "update session set member_count = case title when '1' then 10001 else 4000 end";
    sqlx::query(sql).execute(&world.app.pool).await.unwrap();
    for (order, expected) in ORDERS.into_iter().zip([[2, 2, 1], [1, 2, 2]].into_iter().cycle()) {
        let (mut cursor, mut sizes) = (None, Vec::new());
        loop {
            let (items, next) =
                world.page(&SessionFilter::default(), order, 200, cursor.as_deref()).await;
            sizes.push(items.len());
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(sizes, expected, "{order:?}");
    }
}
