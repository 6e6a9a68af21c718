//! The decision: the changes that a request makes to a session, or the rule that forbids them.
//!
//! The rules are those of the wire protocol. The operator must be a member. Any member may change
//! the title, add members and leave. Only the owner may remove other members, unless the policy
//! allows every member to do so. Only the owner may hand the session over, dissolve it and restore
//! it. A request that changes nothing succeeds without a new version.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::session::{check_min, dedup_stable};
use super::{
    Account, Action, Authority, Changes, EventKind, OwnerOnlyAction, RemovePolicy, Request,
    RuleViolation, Rules, Session, State, Update,
};

/// The effect of a request that changes the session.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The session after the change.
    pub after: Session,
    /// The kind of change.
    pub kind: EventKind,
    /// The changed fields.
    pub changes: Changes,
}

impl Session {
    /// Decides a request: its change, or `None` if it changes nothing.
    ///
    /// # Errors
    /// The first [`RuleViolation`].
    pub fn decide(
        &self,
        request: &Request,
        rules: &Rules,
        at: DateTime<Utc>,
    ) -> Result<Option<Change>, RuleViolation> {
        let changes_state = matches!(request.action, Action::Dissolve | Action::Restore);
        if self.state == State::Dissolved && !changes_state {
            return Err(RuleViolation::Dissolved);
        }
        if !self.members.contains(&request.operator) && !request.is_by_admin()? {
            return Err(RuleViolation::NotAMember { operator: request.operator.clone() });
        }
        if let Some(precondition) = &request.precondition {
            let current = self.version;
            if !precondition.accepts(current) {
                let expected = precondition.clone();
                return Err(RuleViolation::VersionConflict { expected, current });
            }
            if precondition.excludes(current) {
                return Err(RuleViolation::VersionExcluded { current });
            }
        }

        let (kind, changes) = match &request.action {
            Action::Update(update) => (EventKind::Updated, self.requested_changes(update)),
            Action::Members(members) => {
                (EventKind::Updated, self.requested_changes(&self.diff_members(members)))
            }
            Action::Revert(target) => (EventKind::Reverted, self.changes_to(target)),
            Action::Dissolve => return self.set_state(request, State::Dissolved, at),
            Action::Restore => return self.set_state(request, State::Active, at),
        };
        let after = self.apply(kind, &changes, at);
        self.check(request, &changes, &after, rules)?;
        // The first member has been in the session longest. The rules never leave a session without
        // members.
        let successor = match (&changes.owner, after.members.first()) {
            (None, Some(first)) if changes.removed.contains(&self.owner) => Some(first.clone()),
            _ => None,
        };
        let (after, changes) = match successor {
            None => (after, changes),
            Some(successor) => (
                Self { owner: successor.clone(), ..after },
                Changes { owner: Some(successor), ..changes },
            ),
        };
        Ok((!changes.is_empty()).then_some(Change { after, kind, changes }))
    }

    /// The changes of an update, before the rules are checked.
    fn requested_changes(&self, update: &Update) -> Changes {
        let attributes = update.attributes.as_ref();
        Changes {
            title: update.title.clone().filter(|title| *title != self.title),
            owner: update.owner.clone().filter(|owner| *owner != self.owner),
            members: None,
            added: self.to_add(&update.add),
            removed: self.to_remove(&update.remove),
            attributes: attributes
                .and_then(|patch| self.attributes.patch_to(&self.attributes.merged(patch))),
        }
    }

    /// The update that changes the members to `members`.
    fn diff_members(&self, members: &[Account]) -> Update {
        let target: HashSet<&Account> = members.iter().collect();
        let remove = self.members.iter().filter(|member| !target.contains(member));
        Update {
            remove: remove.cloned().collect(),
            add: dedup_stable(members.to_vec()),
            ..Update::default()
        }
    }

    /// The accounts of `remove` that are members, in the order of the members.
    fn to_remove(&self, remove: &[Account]) -> Vec<Account> {
        if remove.is_empty() {
            return Vec::new();
        }
        let remove: HashSet<&Account> = remove.iter().collect();
        self.members.iter().filter(|member| remove.contains(member)).cloned().collect()
    }

    /// The accounts of `add` that are not members yet.
    fn to_add(&self, add: &[Account]) -> Vec<Account> {
        if add.is_empty() {
            return Vec::new();
        }
        let members: HashSet<&Account> = self.members.iter().collect();
        add.iter().filter(|account| !members.contains(account)).cloned().collect()
    }

    fn check(
        &self,
        request: &Request,
        changes: &Changes,
        after: &Self,
        rules: &Rules,
    ) -> Result<(), RuleViolation> {
        let other = changes.removed.iter().find(|account| **account != request.operator);
        if let Some(account) = other
            && rules.remove_members == RemovePolicy::Owner
            && !self.has_owner_rights(request)?
        {
            return Err(RuleViolation::RemovalNotAllowed { account: account.clone() });
        }
        // A session that has too few members already, since a rule was changed, may exchange some.
        if after.members.len() < self.members.len() {
            // An administrator who gives a reason may remove members down to one.
            let min = match (request.authority, &request.reason) {
                (Authority::Admin, Some(_)) => 1,
                _ => rules.min_remaining,
            };
            check_min(min, after.members.len())?;
        }
        if !changes.added.is_empty() {
            rules.check_max_members(after.members.len())?;
        }
        if let Some(owner) = &changes.owner {
            if !self.has_owner_rights(request)? {
                return Err(RuleViolation::OwnerOnly { act: OwnerOnlyAction::HandOver });
            }
            if !after.members.contains(owner) {
                return Err(RuleViolation::OwnerNotAMember { owner: owner.clone() });
            }
        }
        match &changes.attributes {
            Some(_) => after.attributes.check(),
            None => Ok(()),
        }
    }

    /// Whether the operator is the owner, or an administrator.
    fn has_owner_rights(&self, request: &Request) -> Result<bool, RuleViolation> {
        Ok(request.operator == self.owner || request.is_by_admin()?)
    }

    /// The change of the state to `state`.
    fn set_state(
        &self,
        request: &Request,
        state: State,
        at: DateTime<Utc>,
    ) -> Result<Option<Change>, RuleViolation> {
        let (kind, act) = match state {
            State::Dissolved => (EventKind::Dissolved, OwnerOnlyAction::Dissolve),
            State::Active => (EventKind::Restored, OwnerOnlyAction::Restore),
        };
        if !self.has_owner_rights(request)? {
            return Err(RuleViolation::OwnerOnly { act });
        }
        if self.state == state {
            return Ok(None);
        }
        let changes = Changes::default();
        Ok(Some(Change { after: self.apply(kind, &changes, at), kind, changes }))
    }
}

impl Request {
    /// Whether the operator acts as an administrator. Callers ask only if the request needs these
    /// rights, because the history must then hold a reason.
    fn is_by_admin(&self) -> Result<bool, RuleViolation> {
        match (self.authority, &self.reason) {
            (Authority::Member, _) => Ok(false),
            (Authority::Admin, Some(_)) => Ok(true),
            (Authority::Admin, None) => Err(RuleViolation::MissingReason),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{
        Attributes, AttributesPatch, Buin, Event, NewSession, Reason, Replay, SessionId, Title,
        Version, VersionPrecondition,
    };

    const RULES: Rules = Rules {
        min_members: 3,
        min_remaining: 3,
        max_members: 6,
        remove_members: RemovePolicy::Owner,
    };

    fn account(name: &str) -> Account {
        Account::new(name).unwrap()
    }

    fn accounts(names: &[&str]) -> Vec<Account> {
        names.iter().copied().map(account).collect()
    }

    fn session(creator: &str, others: &[&str]) -> Session {
        let new = NewSession {
            title: Title::new("before").unwrap(),
            creator: account(creator),
            members: accounts(others),
            attributes: Attributes::default(),
            reason: None,
        };
        let id = SessionId::new(uuid::Uuid::nil());
        Session::create(id, Buin::new(1).unwrap(), new, &RULES, DateTime::UNIX_EPOCH).unwrap()
    }

    fn update(operator: &str, add: &[&str], remove: &[&str]) -> Request {
        let update = Update::for_members(accounts(add), accounts(remove)).unwrap();
        Request::for_member(account(operator), Action::Update(update))
    }

    fn decide(session: &Session, request: &Request) -> Result<Option<Change>, RuleViolation> {
        session.decide(request, &RULES, DateTime::UNIX_EPOCH)
    }

    fn done(session: &Session, request: &Request) -> Session {
        decide(session, request).unwrap().unwrap().after
    }

    #[test]
    fn non_member_is_refused_even_without_a_change() {
        let session = session("a", &["b", "c"]);
        let refusal = RuleViolation::NotAMember { operator: account("x") };
        assert_eq!(decide(&session, &update("x", &[], &[])), Err(refusal.clone()));
        assert_eq!(decide(&session, &update("x", &["x"], &[])), Err(refusal));
    }

    #[test]
    fn a_member_may_add_and_leave_but_not_remove_others() {
        let session = session("a", &["b", "c", "d"]);
        let change = decide(&session, &update("b", &["e"], &["b"])).unwrap().unwrap();
        assert_eq!(change.after.members, accounts(&["a", "c", "d", "e"]));
        assert_eq!(change.changes.owner, None);
        let refusal = RuleViolation::RemovalNotAllowed { account: account("c") };
        assert_eq!(decide(&session, &update("b", &[], &["c"])), Err(refusal.clone()));
        assert_eq!(decide(&session, &update("b", &[], &["b", "c"])), Err(refusal));
        assert_eq!(decide(&session, &update("b", &[], &["nobody"])), Ok(None));
    }

    #[test]
    fn member_policy_lets_members_remove_others() {
        let rules = Rules { remove_members: RemovePolicy::Member, ..RULES };
        let change = session("a", &["b", "c", "d"])
            .decide(&update("b", &[], &["a"]), &rules, DateTime::UNIX_EPOCH)
            .unwrap()
            .unwrap();
        assert_eq!(change.changes.owner, Some(account("b")));
        assert_eq!(change.after.members, accounts(&["b", "c", "d"]));
    }

    #[test]
    fn longest_member_becomes_owner_when_the_owner_leaves() {
        let session = session("a", &["b", "c", "d"]);
        let change = decide(&session, &update("a", &["e"], &["b", "a"])).unwrap().unwrap();
        assert_eq!(change.changes.owner, Some(account("c")));
        assert_eq!(change.after.owner, account("c"));
        assert_eq!(change.changes.removed, accounts(&["a", "b"]));
    }

    #[test]
    fn update_without_effect_is_no_change() {
        let session = session("a", &["b", "c"]);
        assert_eq!(decide(&session, &update("a", &["b"], &["x"])), Ok(None));
        let title = Some(session.title.clone());
        let same = Action::Update(Update { title, ..Update::default() });
        assert_eq!(decide(&session, &Request::for_member(account("a"), same)), Ok(None));
    }

    #[test]
    fn member_limits_hold_after_an_update() {
        let session = session("a", &["b", "c"]);
        assert_eq!(
            decide(&session, &update("b", &[], &["b"])),
            Err(RuleViolation::TooFewMembers { min: 3, got: 2 })
        );
        assert_eq!(
            decide(&session, &update("b", &["d", "e", "f", "g"], &[])),
            Err(RuleViolation::TooManyMembers { max: 6, got: 7 })
        );
        // One member out, one in: the number after the change counts.
        assert!(decide(&session, &update("b", &["d"], &["b"])).unwrap().is_some());
    }

    #[test]
    fn members_may_leave_down_to_the_configured_number() {
        let session = session("a", &["b", "c"]);
        let rules = Rules { min_remaining: 1, ..RULES };
        let left = session.decide(&update("b", &[], &["b"]), &rules, DateTime::UNIX_EPOCH);
        let left = left.unwrap().unwrap().after;
        assert_eq!(left.members, accounts(&["a", "c"]));
        let left = left.decide(&update("a", &[], &["a"]), &rules, DateTime::UNIX_EPOCH);
        let left = left.unwrap().unwrap().after;
        assert_eq!((left.owner.clone(), left.members.clone()), (account("c"), accounts(&["c"])));
        assert_eq!(
            left.decide(&update("c", &[], &["c"]), &rules, DateTime::UNIX_EPOCH),
            Err(RuleViolation::TooFewMembers { min: 1, got: 0 })
        );
        // With fewer members than the rule demands, members may still be exchanged and join.
        assert_eq!(done(&left, &update("c", &["d"], &["c"])).members, accounts(&["d"]));
        assert_eq!(done(&left, &update("c", &["d"], &[])).members, accounts(&["c", "d"]));
    }

    #[test]
    fn administrator_removes_members_down_to_one() {
        let session = session("a", &["b", "c"]);
        let remove = |names: &[&str], reason: Option<Reason>| {
            let request =
                Request { authority: Authority::Admin, reason, ..update("a", &[], names) };
            decide(&session, &request)
        };
        let reason = || Some(Reason::new("left the company").unwrap());
        let after = remove(&["b", "c"], reason()).unwrap().unwrap().after;
        assert_eq!(after.members, accounts(&["a"]));
        let too_few = |min, got| Err(RuleViolation::TooFewMembers { min, got });
        assert_eq!(remove(&["a", "b", "c"], reason()), too_few(1, 0));
        // Without a reason, the operator acts as a member.
        assert_eq!(remove(&["b", "c"], None), too_few(3, 1));
    }

    #[test]
    fn account_cannot_be_added_and_removed() {
        let both = Update::for_members(accounts(&["x", "b"]), accounts(&["c", "b"]));
        assert_eq!(both, Err(RuleViolation::AddedAndRemoved { account: account("b") }));
    }

    #[test]
    fn expected_version_must_be_current() {
        let session = session("a", &["b", "c"]);
        let at = |version| {
            let expected = Some(VersionPrecondition::from(Version::new(version).unwrap()));
            Request { precondition: expected, ..update("a", &["d"], &[]) }
        };
        assert!(decide(&session, &at(1)).unwrap().is_some());
        assert_eq!(
            decide(&session, &at(2)),
            Err(RuleViolation::VersionConflict {
                expected: Version::new(2).unwrap().into(),
                current: Version::FIRST
            })
        );
    }

    #[test]
    fn a_dissolved_session_refuses_changes() {
        let session = Session { state: State::Dissolved, ..session("a", &["b", "c"]) };
        assert_eq!(decide(&session, &update("a", &["d"], &[])), Err(RuleViolation::Dissolved));
    }

    #[test]
    fn time_never_goes_back() {
        let later = DateTime::from_timestamp(100, 0).unwrap();
        let session = Session { updated_at: later, ..session("a", &["b", "c"]) };
        let change = decide(&session, &update("a", &["d"], &[])).unwrap().unwrap();
        assert_eq!(change.after.updated_at, later);
    }

    fn attributes(value: serde_json::Value) -> AttributesPatch {
        let serde_json::Value::Object(map) = value else { panic!("no object") };
        AttributesPatch::new(map)
    }

    #[test]
    fn only_the_owner_hands_over_and_only_to_a_member() {
        let session = session("a", &["b", "c"]);
        let to = |operator, owner, add: &[&str], remove: &[&str]| {
            let update = Update::for_members(accounts(add), accounts(remove)).unwrap();
            let update = Update { owner: Some(account(owner)), ..update };
            decide(&session, &Request::for_member(account(operator), Action::Update(update)))
        };
        assert_eq!(to("a", "b", &[], &[]).unwrap().unwrap().after.owner, account("b"));
        assert_eq!(to("a", "d", &["d"], &[]).unwrap().unwrap().after.owner, account("d"));
        assert_eq!(to("a", "c", &["d"], &["a"]).unwrap().unwrap().after.owner, account("c"));
        assert_eq!(to("a", "a", &[], &[]), Ok(None));
        let refusal = |act| Err(RuleViolation::OwnerOnly { act });
        assert_eq!(to("b", "b", &[], &[]), refusal(OwnerOnlyAction::HandOver));
        let not_a_member = |owner| Err(RuleViolation::OwnerNotAMember { owner: account(owner) });
        assert_eq!(to("a", "x", &[], &[]), not_a_member("x"));
        assert_eq!(to("a", "b", &["d"], &["b"]), not_a_member("b"));
    }

    #[test]
    fn replacing_the_member_list_is_one_change() {
        let session = session("a", &["b", "c", "d"]);
        let replace = |operator, members: &[&str]| {
            decide(
                &session,
                &Request::for_member(account(operator), Action::Members(accounts(members))),
            )
        };
        let change = replace("a", &["e", "c", "a", "f", "c"]).unwrap().unwrap();
        assert_eq!(change.after.members, accounts(&["a", "c", "e", "f"]));
        assert_eq!(change.changes.removed, accounts(&["b", "d"]));
        // The same members in another order change nothing.
        assert_eq!(replace("b", &["d", "c", "b", "a"]), Ok(None));
        assert_eq!(replace("a", &[]), Err(RuleViolation::TooFewMembers { min: 3, got: 0 }));
        assert_eq!(
            replace("b", &["a", "b", "d"]),
            Err(RuleViolation::RemovalNotAllowed { account: account("c") })
        );
    }

    #[test]
    fn only_the_owner_dissolves_and_restores_idempotently() {
        let session = session("a", &["b", "c"]);
        let by = |operator, action| Request::for_member(account(operator), action);
        let dissolve = by("a", Action::Dissolve);
        let refusal = |act| Err(RuleViolation::OwnerOnly { act });
        assert_eq!(
            decide(&session, &by("b", Action::Dissolve)),
            refusal(OwnerOnlyAction::Dissolve)
        );
        assert_eq!(decide(&session, &by("a", Action::Restore)), Ok(None));
        let dissolved = done(&session, &dissolve);
        assert_eq!((dissolved.state, dissolved.version.get()), (State::Dissolved, 2));
        assert_eq!(decide(&dissolved, &dissolve), Ok(None));
        assert_eq!(
            decide(&dissolved, &by("b", Action::Restore)),
            refusal(OwnerOnlyAction::Restore)
        );
        assert_eq!(done(&dissolved, &by("a", Action::Restore)).state, State::Active);
    }

    #[test]
    fn administrator_must_give_a_reason() {
        let session = session("a", &["b", "c", "d"]);
        let admin = |request| Request { authority: Authority::Admin, ..request };
        let because = |request| {
            let reason = Some(Reason::new("ticket 7").unwrap());
            Request { reason, ..admin(request) }
        };
        for request in [
            update("x", &["e"], &[]),
            update("b", &[], &["c"]),
            Request::for_member(account("b"), Action::Dissolve),
        ] {
            assert_eq!(
                decide(&session, &admin(request.clone())),
                Err(RuleViolation::MissingReason)
            );
            assert!(decide(&session, &because(request)).unwrap().is_some());
        }
        // If the rights of a member are enough, no reason is needed.
        assert!(decide(&session, &admin(update("b", &["e"], &[]))).unwrap().is_some());
    }

    #[test]
    fn a_revert_restores_the_order_too() {
        let first = session("a", &["b", "c", "d"]);
        let second = done(&first, &update("a", &["e"], &["b"]));
        let revert = |operator, target: &Session| {
            Request::for_member(account(operator), Action::Revert(Box::new(target.clone())))
        };
        let change = decide(&second, &revert("a", &first)).unwrap().unwrap();
        assert_eq!(change.after.members, first.members);
        assert_eq!((change.kind, change.after.version.get()), (EventKind::Reverted, 3));
        assert_eq!(change.changes.added, accounts(&["b"]));
        assert_eq!(change.changes.removed, accounts(&["e"]));
        assert_eq!(decide(&change.after, &revert("c", &first)), Ok(None));
        let refusal = RuleViolation::RemovalNotAllowed { account: account("e") };
        assert_eq!(decide(&second, &revert("c", &first)), Err(refusal));
    }

    #[test]
    fn attribute_change_holds_only_real_differences() {
        let session = session("a", &["b", "c"]);
        let patch = |session: &Session, value| {
            let update = Update { attributes: Some(attributes(value)), ..Update::default() };
            decide(session, &Request::for_member(account("b"), Action::Update(update)))
        };
        let json = serde_json::json!({ "ticket": 7, "none": null });
        let change = patch(&session, json.clone()).unwrap().unwrap();
        let least = attributes(serde_json::json!({ "ticket": 7 }));
        assert_eq!(change.changes.attributes, Some(least));
        assert_eq!(patch(&change.after, json), Ok(None));
        let large = patch(&change.after, serde_json::json!({ "a": "x".repeat(16_384) }));
        assert!(matches!(large, Err(RuleViolation::AttributesTooLarge { .. })), "{large:?}");
    }

    fn name() -> impl Strategy<Value = Account> {
        prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "g", "h"]).prop_map(account)
    }

    fn names() -> impl Strategy<Value = Vec<Account>> {
        prop::collection::vec(name(), 0..5)
    }

    /// A request. A revert names its version by number.
    #[derive(Clone, Debug)]
    enum TestRequest {
        For(Action),
        Revert(usize),
    }

    fn any_update() -> impl Strategy<Value = Update> {
        let title = prop::option::of(prop::sample::select(vec!["before", "after"]));
        let owner = prop::option::weighted(0.2, name());
        let patch = prop::option::weighted(
            0.3,
            prop::sample::select(vec![
                serde_json::json!({ "x": 1 }),
                serde_json::json!({ "x": { "y": [null] } }),
                serde_json::json!({ "x": null, "z": "" }),
            ]),
        );
        (title, owner, patch, names(), names()).prop_filter_map(
            "contradictory",
            |(title, owner, patch, add, remove)| {
                let title = title.map(|title| Title::new(title).unwrap());
                let attributes = patch.map(attributes);
                let update = Update::for_members(add, remove).ok()?;
                Some(Update { title, owner, attributes, ..update })
            },
        )
    }

    fn requests() -> impl Strategy<Value = Vec<(TestRequest, Account, bool, Option<i64>)>> {
        let request = prop_oneof![
            6 => any_update().prop_map(|update| TestRequest::For(Action::Update(update))),
            2 => names().prop_map(|members| TestRequest::For(Action::Members(members))),
            1 => Just(TestRequest::For(Action::Dissolve)),
            1 => Just(TestRequest::For(Action::Restore)),
            1 => (0..10_usize).prop_map(TestRequest::Revert),
        ];
        let expected = prop::option::weighted(0.1, 1_i64..4);
        prop::collection::vec((request, name(), any::<bool>(), expected), 0..30)
    }

    proptest! {
        #[test]
        fn invariants_hold_after_any_requests(
            requests in requests(),
            policy in prop::sample::select(vec![RemovePolicy::Owner, RemovePolicy::Member]),
        ) {
            let rules = Rules { remove_members: policy, ..RULES };
            let first = session("a", &["b", "c", "d"]);
            let mut versions = vec![first.clone()];
            let mut history = vec![Event {
                version: Version::FIRST,
                kind: EventKind::Created,
                operator: account("a"),
                app_id: "app".parse().unwrap(),
                reason: None,
                changes: Changes {
                    title: Some(first.title.clone()),
                    owner: Some(first.owner.clone()),
                    members: Some(first.members.clone()),
                    ..Changes::default()
                },
                at: DateTime::UNIX_EPOCH,
            }];
            for (test_request, operator, admin, expected) in requests {
                let before = versions.last().unwrap().clone();
                let action = match test_request {
                    TestRequest::For(action) => action,
                    TestRequest::Revert(to) => Action::Revert(Box::new(versions[to % versions.len()].clone())),
                };
                let request = Request {
                    authority: if admin { Authority::Admin } else { Authority::Member },
                    reason: admin.then(|| Reason::new("why").unwrap()),
                    precondition: expected.map(|version| Version::new(version).unwrap().into()),
                    ..Request::for_member(operator.clone(), action)
                };
                let Ok(Some(Change { after, kind, changes })) =
                    before.decide(&request, &rules, DateTime::UNIX_EPOCH)
                else {
                    continue;
                };
                prop_assert!(admin || before.members.contains(&operator));
                prop_assert!(changes.added.iter().all(|account| !before.members.contains(account)));
                prop_assert!(changes.removed.iter().all(|account| before.members.contains(account)));
                prop_assert_eq!(changes.owner.is_some(), after.owner != before.owner);
                prop_assert_eq!(changes.title.is_some(), after.title != before.title);
                prop_assert_eq!(after.version, before.version.next());
                let min = if admin || changes.removed.is_empty() { 1 } else { rules.min_remaining };
                let min = min.min(before.members.len());
                prop_assert!((min..=rules.max_members).contains(&after.members.len()));
                prop_assert!(after.members.contains(&after.owner));
                prop_assert_eq!(&dedup_stable(after.members.clone()), &after.members);
                if changes.members.is_none() {
                    let expected = before.next_members(&changes.added, &changes.removed);
                    prop_assert_eq!(&after.members, &expected);
                }
                history.push(Event {
                    version: after.version, kind, operator, app_id: "app".parse().unwrap(),
                    reason: request.reason, changes, at: DateTime::UNIX_EPOCH,
                });
                versions.push(after);
            }
            // A replay may start at any version.
            for start in 0..=versions.len() {
                let before = start.checked_sub(1).map(|last| versions[last].clone());
                let mut replay = Replay::new(first.id, first.buin, before);
                for (event, version) in history.iter().zip(&versions).skip(start) {
                    replay.push(event.clone()).unwrap();
                    prop_assert_eq!(replay.session(), Some(version));
                }
                for event in &history[..history.len().min(start)] {
                    prop_assert!(replay.push(event.clone()).is_err(), "an event that was applied");
                }
            }
        }
    }
}
