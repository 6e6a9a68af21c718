//! The subscribers of one enterprise, found by the changes that concern them.
//!
//! Each subscriber has one key: the most selective condition of its filter. So a change is compared
//! only with subscribers whose key it has, however many there are.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::hub_queue::{EventQueue, LiveEvent, QueueOutcome};
use super::hub_roles::{RecordedRoles, SubscriberId, WrittenChange};
use crate::domain::{Account, AppId, EventKind, FeedFilter, SessionId};
use crate::repository::feed::{ChangeRoles, LiveChange};

/// The last change of an enterprise that was published, if any since the hub has begun to read.
#[derive(Debug, Default)]
pub(super) struct LastChange(Mutex<Option<LiveChange>>);

/// The subscribers of an enterprise.
#[derive(Debug, Default)]
pub(super) struct SubscriberIndex {
    subscribers: HashMap<SubscriberId, Subscriber>,
    by_key: HashMap<SubscriberKey, HashSet<SubscriberId>>,
    /// The number of subscriptions of each app.
    by_subscribing_app: HashMap<AppId, usize>,
    /// The accounts that filters name, and how often.
    named: HashMap<Account, usize>,
    /// The last subscriber that has named an account first.
    named_by: SubscriberId,
    recorded: RecordedRoles,
    pub(super) last: Arc<LastChange>,
}

#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) app: AppId,
    pub(super) filter: FeedFilter,
    pub(super) queue: Arc<EventQueue>,
}

/// The condition by which a subscriber is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum SubscriberKey {
    Session(SessionId),
    Member(Account),
    Owner(Account),
    App(AppId),
    Kind(EventKind),
    Every,
}

/// Whether a change concerns a subscriber.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ChangeInterest {
    /// It concerns none.
    #[default]
    Unwanted,
    /// It concerns one, with these roles of the accounts that filters name.
    Wanted(ChangeRoles),
    /// The roles of the accounts decide, and the database must be asked for them.
    NeedsRoles,
}

/// The number of queues that the publication of a change has stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PublishOutcome {
    pub(super) fell_behind: u64,
    pub(super) closed: u64,
}

impl LastChange {
    pub(super) fn get(&self) -> Option<LiveChange> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl SubscriberKey {
    fn for_filter(filter: &FeedFilter) -> Self {
        let FeedFilter { member, owner, session, kind, app } = filter;
        let session = session.map(Self::Session);
        session
            .or_else(|| member.clone().map(Self::Member))
            .or_else(|| owner.clone().map(Self::Owner))
            .or_else(|| app.clone().map(Self::App))
            .or_else(|| kind.map(Self::Kind))
            .unwrap_or(Self::Every)
    }
}

impl Subscriber {
    /// The accounts that the filter names.
    fn named(&self) -> impl Iterator<Item = &Account> {
        self.filter.member.iter().chain(&self.filter.owner)
    }

    /// Whether the conditions hold that do not depend on accounts.
    fn has_source(&self, change: &LiveChange) -> bool {
        let FeedFilter { session, kind, app, .. } = &self.filter;
        session.is_none_or(|session| session == change.session_id)
            && kind.is_none_or(|kind| kind == change.kind)
            && app.as_ref().is_none_or(|app| *app == change.app)
    }

    fn has_roles(&self, roles: &ChangeRoles) -> bool {
        let FeedFilter { member, owner, .. } = &self.filter;
        member.as_ref().is_none_or(|member| roles.members.contains(member))
            && owner.as_ref().is_none_or(|owner| roles.owners.contains(owner))
    }
}

impl SubscriberIndex {
    pub(super) fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// The number of subscriptions that an app holds.
    pub(super) fn len_of(&self, app: &AppId) -> usize {
        self.by_subscribing_app.get(app).copied().unwrap_or_default()
    }

    pub(super) fn insert(&mut self, id: SubscriberId, subscriber: Subscriber) {
        *self.by_subscribing_app.entry(subscriber.app.clone()).or_default() += 1;
        self.by_key.entry(SubscriberKey::for_filter(&subscriber.filter)).or_default().insert(id);
        for account in subscriber.named() {
            let named = self.named.entry(account.clone()).or_default();
            if *named == 0 {
                self.named_by = id;
            }
            *named += 1;
        }
        self.subscribers.insert(id, subscriber);
    }

    pub(super) fn remove(&mut self, id: SubscriberId) {
        let Some(subscriber) = self.subscribers.remove(&id) else { return };
        for account in subscriber.named() {
            match self.named.get_mut(account) {
                Some(named) if *named > 1 => *named -= 1,
                _ => _ = self.named.remove(account),
            }
        }
        if self.named.is_empty() {
            self.clear_roles();
        }
        let key = SubscriberKey::for_filter(&subscriber.filter);
        if let Some(ids) = self.by_key.get_mut(&key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_key.remove(&key);
            }
        }
        match self.len_of(&subscriber.app) {
            0 | 1 => _ = self.by_subscribing_app.remove(&subscriber.app),
            own => _ = self.by_subscribing_app.insert(subscriber.app, own - 1),
        }
    }

    pub(super) fn subscribers(&self) -> impl Iterator<Item = &Subscriber> {
        self.subscribers.values()
    }

    /// The accounts that filters name, each once.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.named.keys()
    }

    /// Records the roles in a change of this server.
    pub(super) fn record_roles(&mut self, change: &WrittenChange<'_>) {
        let Self { named, recorded, named_by, .. } = self;
        if !named.is_empty() {
            recorded.add(change, *named_by, |account| named.contains_key(account));
        }
    }

    /// Drops all records of roles.
    pub(super) fn clear_roles(&mut self) {
        self.recorded = RecordedRoles::default();
    }

    /// Whether a change concerns a subscriber. A record of its roles is taken.
    pub(super) fn interest(&mut self, change: &LiveChange) -> ChangeInterest {
        let roles = if self.named.is_empty() {
            ChangeRoles::default()
        } else {
            match self.recorded.take(change.session_id, change.version, self.named_by) {
                Some(roles) => roles,
                None => return ChangeInterest::NeedsRoles,
            }
        };
        match self.is_wanted(change, &roles) {
            true => ChangeInterest::Wanted(roles),
            false => ChangeInterest::Unwanted,
        }
    }

    /// Whether a change with these roles concerns a subscriber.
    pub(super) fn is_wanted(&self, change: &LiveChange, roles: &ChangeRoles) -> bool {
        self.concerned(change, roles).next().is_some()
    }

    /// Gives a change to the subscribers that it concerns.
    pub(super) fn publish(
        &self,
        change: &LiveChange,
        roles: &ChangeRoles,
        event: &Arc<LiveEvent>,
    ) -> PublishOutcome {
        let mut outcome = PublishOutcome::default();
        for subscriber in self.concerned(change, roles) {
            match subscriber.queue.offer(event) {
                QueueOutcome::Queued | QueueOutcome::Skipped => {}
                QueueOutcome::FellBehind => outcome.fell_behind += 1,
                QueueOutcome::Closed => outcome.closed += 1,
            }
        }
        outcome
    }

    /// Records that every change up to this one was published.
    pub(super) fn set_last(&self, change: Option<&LiveChange>) {
        // No code panics while it holds the lock.
        *self.last.0.lock().unwrap_or_else(PoisonError::into_inner) = change.cloned();
    }

    fn concerned<'a>(
        &'a self,
        change: &'a LiveChange,
        roles: &'a ChangeRoles,
    ) -> impl Iterator<Item = &'a Subscriber> {
        let members = roles.members.iter().cloned().map(SubscriberKey::Member);
        let owners = roles.owners.iter().cloned().map(SubscriberKey::Owner);
        let by_role = members.chain(owners).flat_map(|key| self.at(&key));
        by_role
            .filter(|subscriber| subscriber.has_source(change))
            .chain(self.with_source(change))
            .filter(|subscriber| subscriber.has_roles(roles))
    }

    /// The subscribers that are found without roles, and whose other conditions hold.
    fn with_source<'a>(&'a self, change: &'a LiveChange) -> impl Iterator<Item = &'a Subscriber> {
        let keys = [
            SubscriberKey::Session(change.session_id),
            SubscriberKey::App(change.app.clone()),
            SubscriberKey::Kind(change.kind),
            SubscriberKey::Every,
        ];
        let found = keys.into_iter().flat_map(|key| self.at(&key));
        found.filter(|subscriber| subscriber.has_source(change))
    }

    fn at<'a>(&'a self, key: &SubscriberKey) -> impl Iterator<Item = &'a Subscriber> + use<'a> {
        let ids = self.by_key.get(key).into_iter().flatten();
        ids.filter_map(|id| self.subscribers.get(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{FeedSeq, Session};
    use crate::repository::feed::FeedPosition;

    fn account(name: &str) -> Account {
        Account::new(name).unwrap()
    }

    fn session(number: u128) -> Session {
        Session::sample(number, &["alice", "bob"])
    }

    fn written(after: &Session) -> WrittenChange<'_> {
        WrittenChange { after, former_owner: None, removed: &[] }
    }

    fn numbered(session: &Session) -> LiveChange {
        LiveChange {
            position: FeedPosition::for_tests(1),
            buin: session.buin,
            seq: FeedSeq::new(1).unwrap(),
            session_id: session.id,
            version: session.version,
            kind: EventKind::Created,
            app: "app".parse().unwrap(),
        }
    }

    fn subscribe(index: &mut SubscriberIndex, id: SubscriberId, filter: FeedFilter) {
        let queue = Arc::new(EventQueue::new(None));
        index.insert(id, Subscriber { app: "app".parse().unwrap(), filter, queue });
    }

    fn member(name: &str) -> FeedFilter {
        FeedFilter { member: Some(account(name)), ..FeedFilter::default() }
    }

    #[test]
    fn change_of_this_server_is_decided_without_the_database() {
        let (first, second) = (session(1), session(2));
        let mut index = SubscriberIndex::default();
        assert_eq!(index.interest(&numbered(&first)), ChangeInterest::Unwanted);
        subscribe(&mut index, 1, member("carol"));
        index.record_roles(&written(&first));
        assert_eq!(index.interest(&numbered(&first)), ChangeInterest::Unwanted);
        let owner = FeedFilter { owner: Some(account("alice")), ..FeedFilter::default() };
        subscribe(&mut index, 2, owner);
        index.record_roles(&written(&second));
        let roles = ChangeRoles { members: vec![account("alice")], owners: vec![account("alice")] };
        assert_eq!(index.interest(&numbered(&second)), ChangeInterest::Wanted(roles));
    }

    #[test]
    fn change_without_a_record_of_all_named_accounts_needs_the_database() {
        let session = session(1);
        let mut index = SubscriberIndex::default();
        subscribe(&mut index, 1, member("carol"));
        assert_eq!(index.interest(&numbered(&session)), ChangeInterest::NeedsRoles);
        // An account that is named already changes nothing.
        index.record_roles(&written(&session));
        subscribe(&mut index, 2, member("carol"));
        assert_eq!(index.interest(&numbered(&session)), ChangeInterest::Unwanted);
        index.record_roles(&written(&session));
        subscribe(&mut index, 3, member("bob"));
        assert_eq!(index.interest(&numbered(&session)), ChangeInterest::NeedsRoles);
        // The account was not named for a moment.
        index.record_roles(&written(&session));
        index.remove(3);
        subscribe(&mut index, 4, member("bob"));
        assert_eq!(index.interest(&numbered(&session)), ChangeInterest::NeedsRoles);
        index.record_roles(&written(&session));
        index.clear_roles();
        assert_eq!(index.interest(&numbered(&session)), ChangeInterest::NeedsRoles);
    }

    #[test]
    fn accounts_are_named_until_their_last_subscriber_leaves() {
        let mut index = SubscriberIndex::default();
        let both = FeedFilter { owner: Some(account("bob")), ..member("alice") };
        subscribe(&mut index, 1, both);
        subscribe(&mut index, 2, member("bob"));
        let named = |index: &SubscriberIndex| {
            let mut named: Vec<Account> = index.accounts().cloned().collect();
            named.sort_unstable();
            named
        };
        assert_eq!(named(&index), ["alice", "bob"].map(account));
        index.remove(1);
        assert_eq!(named(&index), [account("bob")]);
        index.remove(2);
        assert_eq!(named(&index), []);
    }
}
