//! What an update really does to a session.
//!
//! The rules are those of the wire protocol: who acts must be a member; any member may change the
//! title, add members and leave; removing others is the owner's, unless the policy says otherwise;
//! what changes nothing is no error, and no version either.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::session::each_once;
use super::{Account, Refusal, RemovePolicy, Rules, Session, State, Title, Version};

/// What a caller asks for when updating a session. It cannot contradict itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    operator: Account,
    title: Option<Title>,
    add: Vec<Account>,
    remove: Vec<Account>,
    expected: Option<Version>,
}

impl Update {
    /// Takes the wishes of `operator`. Lists may be empty, and lose their repeats. With `expected`
    /// the update is refused unless the session has that version.
    ///
    /// # Errors
    /// [`Refusal::AddedAndRemoved`] when one account stands in both lists.
    pub fn new(
        operator: Account,
        title: Option<Title>,
        add: Vec<Account>,
        remove: Vec<Account>,
        expected: Option<Version>,
    ) -> Result<Self, Refusal> {
        let add = each_once(add);
        let remove = each_once(remove);
        if !add.is_empty() && !remove.is_empty() {
            let added: HashSet<&Account> = add.iter().collect();
            if let Some(both) = remove.iter().find(|account| added.contains(account)) {
                return Err(Refusal::AddedAndRemoved { account: both.clone() });
            }
        }
        Ok(Self { operator, title, add, remove, expected })
    }

    /// Who acts.
    #[must_use]
    pub fn operator(&self) -> &Account {
        &self.operator
    }

    /// The version that the caller named.
    #[must_use]
    pub fn expected(&self) -> Option<Version> {
        self.expected
    }
}

/// What an update that changes something does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The session as it will be.
    pub after: Session,
    /// The new title, if it is another one.
    pub title: Option<Title>,
    /// The new owner, if it is another one.
    pub owner: Option<Account>,
    /// Who really comes in, in the order in which they will stand.
    pub added: Vec<Account>,
    /// Who really goes.
    pub removed: Vec<Account>,
}

impl Session {
    /// Decides an update: what it changes, or `None` if that is nothing.
    ///
    /// # Errors
    /// The [`Refusal`] of the first rule that says no.
    pub fn update(
        &self,
        update: &Update,
        rules: &Rules,
        at: DateTime<Utc>,
    ) -> Result<Option<Change>, Refusal> {
        if self.state == State::Dissolved {
            return Err(Refusal::Dissolved);
        }
        if !self.members.contains(&update.operator) {
            return Err(Refusal::NotAMember { operator: update.operator.clone() });
        }
        if let Some(expected) = update.expected
            && expected != self.version
        {
            return Err(Refusal::VersionConflict { expected, current: self.version });
        }

        let (members, removed) = self.without(&update.remove);
        self.may_remove(&update.operator, &removed, rules)?;
        let added = self.newcomers(&update.add);
        let mut members = members;
        members.extend(added.iter().cloned());
        if !removed.is_empty() {
            rules.enough(members.len())?;
        }
        if !added.is_empty() {
            rules.not_too_many(members.len())?;
        }

        let title = update.title.clone().filter(|title| *title != self.title);
        // Who has been in longest stands first; with nobody left there is no session to own, and
        // the rules let nobody get there.
        let owner = match members.first() {
            Some(first) if removed.contains(&self.owner) => Some(first.clone()),
            _ => None,
        };
        if title.is_none() && added.is_empty() && removed.is_empty() {
            return Ok(None);
        }
        let after = Self {
            title: title.clone().unwrap_or_else(|| self.title.clone()),
            owner: owner.clone().unwrap_or_else(|| self.owner.clone()),
            version: self.version.next(),
            members,
            updated_at: at.max(self.updated_at),
            ..*self
        };
        Ok(Some(Change { after, title, owner, added, removed }))
    }

    /// The members who stay and those who go when `remove` are to be removed.
    fn without(&self, remove: &[Account]) -> (Vec<Account>, Vec<Account>) {
        if remove.is_empty() {
            return (self.members.clone(), Vec::new());
        }
        let remove: HashSet<&Account> = remove.iter().collect();
        self.members.iter().cloned().partition(|member| !remove.contains(member))
    }

    /// Those of `add` who are not in yet.
    fn newcomers(&self, add: &[Account]) -> Vec<Account> {
        if add.is_empty() {
            return Vec::new();
        }
        let members: HashSet<&Account> = self.members.iter().collect();
        add.iter().filter(|account| !members.contains(account)).cloned().collect()
    }

    fn may_remove(
        &self,
        operator: &Account,
        removed: &[Account],
        rules: &Rules,
    ) -> Result<(), Refusal> {
        if rules.remove_members == RemovePolicy::Member || *operator == self.owner {
            return Ok(());
        }
        match removed.iter().find(|account| *account != operator) {
            Some(account) => Err(Refusal::MayNotRemove { account: account.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Buin, NewSession, SessionId};

    const RULES: Rules =
        Rules { min_members: 3, max_members: 6, remove_members: RemovePolicy::Owner };

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
        };
        let id = SessionId::new(uuid::Uuid::nil());
        Session::create(id, Buin::new(1).unwrap(), new, &RULES, DateTime::UNIX_EPOCH).unwrap()
    }

    fn update(operator: &str, add: &[&str], remove: &[&str]) -> Update {
        Update::new(account(operator), None, accounts(add), accounts(remove), None).unwrap()
    }

    fn decide(session: &Session, update: &Update) -> Result<Option<Change>, Refusal> {
        session.update(update, &RULES, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_stranger_may_do_nothing_not_even_nothing() {
        let session = session("a", &["b", "c"]);
        let refusal = Refusal::NotAMember { operator: account("x") };
        assert_eq!(decide(&session, &update("x", &[], &[])), Err(refusal.clone()));
        assert_eq!(decide(&session, &update("x", &["x"], &[])), Err(refusal));
    }

    #[test]
    fn a_member_may_add_and_leave_but_not_remove_others() {
        let session = session("a", &["b", "c", "d"]);
        let change = decide(&session, &update("b", &["e"], &["b"])).unwrap().unwrap();
        assert_eq!(change.after.members, accounts(&["a", "c", "d", "e"]));
        assert_eq!(change.owner, None);
        let refusal = Refusal::MayNotRemove { account: account("c") };
        assert_eq!(decide(&session, &update("b", &[], &["c"])), Err(refusal.clone()));
        assert_eq!(decide(&session, &update("b", &[], &["b", "c"])), Err(refusal));
        assert_eq!(decide(&session, &update("b", &[], &["nobody"])), Ok(None));
    }

    #[test]
    fn with_the_member_policy_anybody_may_remove_anybody() {
        let rules = Rules { remove_members: RemovePolicy::Member, ..RULES };
        let change = session("a", &["b", "c", "d"])
            .update(&update("b", &[], &["a"]), &rules, DateTime::UNIX_EPOCH)
            .unwrap()
            .unwrap();
        assert_eq!(change.owner, Some(account("b")));
        assert_eq!(change.after.members, accounts(&["b", "c", "d"]));
    }

    #[test]
    fn when_the_owner_leaves_who_is_in_longest_follows() {
        let session = session("a", &["b", "c", "d"]);
        let change = decide(&session, &update("a", &["e"], &["b", "a"])).unwrap().unwrap();
        assert_eq!(change.owner, Some(account("c")));
        assert_eq!(change.after.owner, account("c"));
        assert_eq!(change.removed, accounts(&["a", "b"]));
    }

    #[test]
    fn what_changes_nothing_is_no_change() {
        let session = session("a", &["b", "c"]);
        assert_eq!(decide(&session, &update("a", &["b"], &["x"])), Ok(None));
        let title = Some(session.title.clone());
        let same = Update::new(account("a"), title, vec![], vec![], None).unwrap();
        assert_eq!(decide(&session, &same), Ok(None));
    }

    #[test]
    fn the_number_of_members_is_held_after_an_update_too() {
        let session = session("a", &["b", "c"]);
        assert_eq!(
            decide(&session, &update("b", &[], &["b"])),
            Err(Refusal::TooFewMembers { min: 3, got: 2 })
        );
        assert_eq!(
            decide(&session, &update("b", &["d", "e", "f", "g"], &[])),
            Err(Refusal::TooManyMembers { max: 6, got: 7 })
        );
        // One out, one in: the number that counts is the one afterwards.
        assert!(decide(&session, &update("b", &["d"], &["b"])).unwrap().is_some());
    }

    #[test]
    fn both_lists_may_not_name_the_same_account() {
        let both =
            Update::new(account("a"), None, accounts(&["x", "b"]), accounts(&["c", "b"]), None);
        assert_eq!(both, Err(Refusal::AddedAndRemoved { account: account("b") }));
    }

    #[test]
    fn a_named_version_must_be_the_current_one() {
        let session = session("a", &["b", "c"]);
        let at = |version| {
            let version = Some(Version::new(version).unwrap());
            Update::new(account("a"), None, accounts(&["d"]), vec![], version).unwrap()
        };
        assert!(decide(&session, &at(1)).unwrap().is_some());
        assert_eq!(
            decide(&session, &at(2)),
            Err(Refusal::VersionConflict {
                expected: Version::new(2).unwrap(),
                current: Version::FIRST
            })
        );
    }

    #[test]
    fn a_dissolved_session_refuses_changes() {
        let session = Session { state: State::Dissolved, ..session("a", &["b", "c"]) };
        assert_eq!(decide(&session, &update("a", &["d"], &[])), Err(Refusal::Dissolved));
    }

    #[test]
    fn time_never_goes_back() {
        let later = DateTime::from_timestamp(100, 0).unwrap();
        let session = Session { updated_at: later, ..session("a", &["b", "c"]) };
        let change = decide(&session, &update("a", &["d"], &[])).unwrap().unwrap();
        assert_eq!(change.after.updated_at, later);
    }

    fn names() -> impl Strategy<Value = Vec<Account>> {
        let name = prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "g", "h"]);
        prop::collection::vec(name.prop_map(account), 0..5)
    }

    fn updates() -> impl Strategy<Value = Vec<Update>> {
        let operator = prop::sample::select(vec!["a", "b", "c", "d", "e", "h"]);
        let title = prop::option::of(prop::sample::select(vec!["before", "after"]));
        let expected = prop::option::weighted(0.1, 1_i64..4);
        let update = (operator, title, names(), names(), expected).prop_filter_map(
            "contradictory",
            |(operator, title, add, remove, expected)| {
                let title = title.map(|title| Title::new(title).unwrap());
                let expected = expected.map(|version| Version::new(version).unwrap());
                Update::new(account(operator), title, add, remove, expected).ok()
            },
        );
        prop::collection::vec(update, 0..30)
    }

    proptest! {
        #[test]
        fn whatever_is_asked_the_session_stays_sound(
            updates in updates(),
            policy in prop::sample::select(vec![RemovePolicy::Owner, RemovePolicy::Member]),
        ) {
            let rules = Rules { remove_members: policy, ..RULES };
            let mut session = session("a", &["b", "c", "d"]);
            let mut effective = 0;
            for update in updates {
                let before = session.clone();
                match session.update(&update, &rules, DateTime::UNIX_EPOCH) {
                    Err(_) => prop_assert_eq!(&session, &before),
                    Ok(None) => prop_assert_eq!(&session, &before),
                    Ok(Some(change)) => {
                        effective += 1;
                        let mut expected = before.members.clone();
                        expected.retain(|member| !change.removed.contains(member));
                        expected.extend(change.added.iter().cloned());
                        prop_assert_eq!(&change.after.members, &expected);
                        prop_assert!(change.added.iter().all(|who| !before.members.contains(who)));
                        prop_assert!(change.removed.iter().all(|who| before.members.contains(who)));
                        prop_assert_eq!(change.owner.is_some(), change.after.owner != before.owner);
                        prop_assert_eq!(change.title.is_some(), change.after.title != before.title);
                        prop_assert!(before.members.contains(update.operator()));
                        session = change.after;
                    }
                }
                prop_assert_eq!(session.version.get(), 1 + effective);
                prop_assert!((rules.min_members..=rules.max_members).contains(&session.members.len()));
                prop_assert!(session.members.contains(&session.owner));
                prop_assert_eq!(&each_once(session.members.clone()), &session.members);
            }
        }
    }
}
