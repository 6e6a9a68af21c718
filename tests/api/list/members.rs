//! Members of one session, page by page.

use muster::domain::{Action, Member, SessionId, Update};
use muster::service::{Error, MembersQuery, Page, PageSize};
use uuid::Uuid;

use super::{TestService, account, authenticated};
use crate::harness::BUIN;

async fn page(
    service: &TestService,
    id: SessionId,
    size: i64,
    cursor: Option<&str>,
) -> Result<Page<Member>, Error> {
    let query = MembersQuery::new(id, PageSize::new(size).unwrap(), cursor).unwrap();
    service.sessions.members(&service.caller, &query, None).await
}

fn names(listing: &Page<Member>) -> Vec<&str> {
    listing.items.iter().map(|member| member.account.as_str()).collect()
}

fn update(add: &[&str], remove: &[&str]) -> Action {
    let accounts = |names: &[&str]| names.iter().copied().map(account).collect();
    Action::Update(Update::for_members(accounts(add), accounts(remove)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn staying_members_are_listed_once_during_changes() {
    let service = TestService::start().await;
    let id = service.create("t", &["f", "b", "e", "a", "d"]).await.id;
    let whole = page(&service, id, 5, None).await.unwrap();
    assert_eq!(names(&whole), ["f", "b", "e", "a", "d"]);
    assert_eq!(whole.next, None);
    assert_eq!(
        whole.items.iter().map(|m| m.is_owner).collect::<Vec<_>>(),
        [true, false, false, false, false]
    );

    let first = page(&service, id, 2, None).await.unwrap();
    assert_eq!(names(&first), ["f", "b"]);
    // The member at the cursor and a later one leave, and a new one joins.
    service.act(id, update(&["c"], &["b", "e"])).await.unwrap();
    let second = page(&service, id, 2, first.next.as_deref()).await.unwrap();
    assert_eq!(names(&second), ["a", "d"]);
    let third = page(&service, id, 2, second.next.as_deref()).await.unwrap();
    assert_eq!(names(&third), ["c"]);
    assert_eq!(third.items[0].joined_version.get(), 2);
    assert_eq!(third.next, None);
    // Meanwhile all members after the cursor have left.
    service.act(id, update(&["g"], &["c"])).await.unwrap();
    service.act(id, update(&[], &["g"])).await.unwrap();
    let last = page(&service, id, 2, second.next.as_deref()).await.unwrap();
    assert_eq!((names(&last), &last.next), (vec![], &None));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_is_found_by_account() {
    let service = TestService::start().await;
    let session = service.create("t", &["a", "b", "c"]).await;
    service.act(session.id, update(&["d"], &[])).await.unwrap();
    for (name, joined_version, is_owner) in [("a", 1, true), ("c", 1, false), ("d", 2, false)] {
        let expected = account(name);
        let member =
            service.sessions.member(&service.caller, session.id, &expected, None).await.unwrap();
        assert_eq!(member.account, expected);
        assert_eq!((member.joined_version.get(), member.is_owner), (joined_version, is_owner));
    }
    let missing = service.sessions.member(&service.caller, session.id, &account("x"), None).await;
    assert!(matches!(missing, Err(Error::MemberNotFound { .. })), "{missing:?}");

    let (_, key) = service.app.another_app(BUIN + 1, &[]).await;
    let other_app = authenticated(&service.app, &key).await;
    let unknown = SessionId::new(Uuid::from_u128(7));
    for (caller, id) in [(&other_app, session.id), (&service.caller, unknown)] {
        let member = service.sessions.member(caller, id, &account("a"), None).await;
        assert!(matches!(member, Err(Error::SessionNotFound)), "{member:?}");
        let query = MembersQuery::new(id, PageSize::DEFAULT, None).unwrap();
        let all = service.sessions.members(caller, &query, None).await;
        assert!(matches!(all, Err(Error::SessionNotFound)), "{all:?}");
    }
}
