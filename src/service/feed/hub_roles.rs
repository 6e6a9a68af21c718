//! The roles in the changes that this server has made itself, for the reader of the hub.
//!
//! The writer of a change knows the members before and after it. It records those that filters name,
//! mostly none, and the reader then needs no statement to find out whom the change concerns.
//!
//! The surprise: a record is not used if a filter has named another account since then, because
//! the account may be missing in it. The reader then asks the database, as it does for the changes
//! of other servers, and for a change that it reads before the writer has recorded it.

use std::collections::{HashMap, VecDeque};

use crate::domain::{Account, Session, SessionId, Version};
use crate::repository::feed::ChangeRoles;

/// The number of a subscriber.
pub(super) type SubscriberId = u64;

/// The maximum number of changes of an enterprise whose roles are kept. The reader takes the roles
/// of a change within some milliseconds.
const MAX_CHANGES: usize = 4_096;
/// The maximum number of accounts that are kept with the changes of an enterprise. One change may
/// exceed it.
const MAX_ACCOUNTS: usize = 32_768;

/// A change that this server has written, with the facts about the session before it.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct WrittenChange<'a> {
    /// The session after the change.
    pub(in crate::service) after: &'a Session,
    /// The owner before the change, if there was one.
    pub(in crate::service) former_owner: Option<&'a Account>,
    /// The members that left.
    pub(in crate::service) removed: &'a [Account],
}

/// The records of an enterprise that the reader has not taken.
#[derive(Debug, Default)]
pub(super) struct RecordedRoles {
    records: HashMap<(SessionId, Version), RoleRecord>,
    /// The changes in the order of their records. Those whose record was taken leave it late.
    order: VecDeque<(SessionId, Version)>,
    /// The number of accounts in all records.
    accounts: usize,
}

#[derive(Debug)]
struct RoleRecord {
    roles: ChangeRoles,
    /// The last subscriber at that time that had named an account first.
    named_by: SubscriberId,
}

impl WrittenChange<'_> {
    /// The roles before or after the change, of the accounts for which `is_named` holds.
    fn roles(&self, is_named: impl Fn(&Account) -> bool) -> ChangeRoles {
        let Self { after, former_owner, removed } = self;
        let members = after.members.iter().chain(*removed);
        let owners = former_owner.iter().copied().chain([&after.owner]);
        let mut roles = ChangeRoles {
            members: members.filter(|account| is_named(account)).cloned().collect(),
            owners: owners.filter(|account| is_named(account)).cloned().collect(),
        };
        for accounts in [&mut roles.members, &mut roles.owners] {
            accounts.sort_unstable();
            accounts.dedup();
        }
        roles
    }
}

impl RecordedRoles {
    /// Records the roles in a change. `named_by` is the last subscriber that has named an account first.
    pub(super) fn add(
        &mut self,
        change: &WrittenChange<'_>,
        named_by: SubscriberId,
        is_named: impl Fn(&Account) -> bool,
    ) {
        let key = (change.after.id, change.after.version);
        self.remove(key);
        while self.order.len() >= MAX_CHANGES || self.accounts >= MAX_ACCOUNTS {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(oldest);
        }
        let record = RoleRecord { roles: change.roles(is_named), named_by };
        self.accounts += record.len();
        self.records.insert(key, record);
        self.order.push_back(key);
    }

    /// Takes the roles in a change, if they are known for all accounts that are named at present.
    pub(super) fn take(
        &mut self,
        session: SessionId,
        version: Version,
        named_by: SubscriberId,
    ) -> Option<ChangeRoles> {
        let record = self.remove((session, version))?;
        (record.named_by == named_by).then_some(record.roles)
    }

    fn remove(&mut self, key: (SessionId, Version)) -> Option<RoleRecord> {
        let record = self.records.remove(&key)?;
        self.accounts -= record.len();
        Some(record)
    }
}

impl RoleRecord {
    fn len(&self) -> usize {
        self.roles.members.len() + self.roles.owners.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        Account::new(name).unwrap()
    }

    fn created(session: &Session) -> WrittenChange<'_> {
        WrittenChange { after: session, former_owner: None, removed: &[] }
    }

    #[test]
    fn record_has_the_named_accounts_before_and_after_the_change() {
        let (after, carol) = (Session::sample(1, &["alice", "bob", "dave"]), account("carol"));
        let removed = [account("erin"), carol.clone()];
        let change = WrittenChange { after: &after, former_owner: Some(&carol), removed: &removed };
        let mut recorded = RecordedRoles::default();
        recorded.add(&change, 7, |account| ["alice", "bob", "carol"].contains(&account.as_str()));
        let roles = recorded.take(after.id, after.version, 7).unwrap();
        assert_eq!(roles.members, ["alice", "bob", "carol"].map(account));
        assert_eq!(roles.owners, ["alice", "carol"].map(account));
        assert_eq!(recorded.take(after.id, after.version, 7), None, "it was taken");
        assert_eq!(recorded.accounts, 0);
    }

    #[test]
    fn record_is_not_used_after_another_account_was_named() {
        let (after, mut recorded) = (Session::sample(1, &["alice"]), RecordedRoles::default());
        recorded.add(&created(&after), 7, |_| false);
        assert_eq!(recorded.take(after.id, after.version, 8), None);
        recorded.add(&created(&after), 8, |_| false);
        assert_eq!(recorded.take(after.id, after.version, 8), Some(ChangeRoles::default()));
        assert_eq!(recorded.take(after.id, after.version.next(), 8), None, "of another version");
    }

    #[test]
    fn records_that_the_reader_does_not_take_are_bounded() {
        let mut recorded = RecordedRoles::default();
        let first = Session::sample(0, &["alice"]);
        recorded.add(&created(&first), 1, |_| true);
        for number in 1..=MAX_CHANGES {
            let session = Session::sample(number as u128, &["alice"]);
            recorded.add(&created(&session), 1, |_| true);
        }
        assert_eq!((recorded.records.len(), recorded.order.len()), (MAX_CHANGES, MAX_CHANGES));
        assert_eq!(recorded.take(first.id, first.version, 1), None, "the oldest one is gone");

        let names: Vec<String> = (0..MAX_ACCOUNTS).map(|number| format!("a{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let large = Session::sample(1 << 64, &names);
        recorded.add(&created(&large), 1, |_| true);
        let small = Session::sample(2 << 64, &["alice"]);
        recorded.add(&created(&small), 1, |_| true);
        assert_eq!(recorded.accounts, 2);
        assert_eq!(recorded.records.len(), 1);
    }

    #[test]
    fn records_that_the_reader_takes_leave_nothing_behind() {
        let mut recorded = RecordedRoles::default();
        for number in 0..3 * MAX_CHANGES {
            let session = Session::sample(number as u128, &["alice"]);
            recorded.add(&created(&session), 1, |_| true);
            assert!(recorded.take(session.id, session.version, 1).is_some());
        }
        assert_eq!((recorded.records.len(), recorded.accounts), (0, 0));
        assert!(recorded.order.len() <= MAX_CHANGES);
    }
}
