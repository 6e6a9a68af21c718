//! A session and its creation.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::{Account, Attributes, Buin, Reason, RuleViolation, SessionId, Title, Version};

/// A named conversation with members.
///
/// The owner is one of the members. No member appears twice. The members keep their order: as first
/// listed, later additions at the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// The id.
    pub id: SessionId,
    /// The enterprise of the session.
    pub buin: Buin,
    /// The title.
    pub title: Title,
    /// The member that may remove others.
    pub owner: Account,
    /// The number of changes, plus 1.
    pub version: Version,
    /// Whether the session can be changed.
    pub state: State,
    /// All members.
    pub members: Vec<Account>,
    /// The attributes that apps store with it.
    pub attributes: Attributes,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// The time of the last change. It never decreases, even if the clocks of servers differ.
    pub updated_at: DateTime<Utc>,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 2] = [Self::Active, Self::Dissolved];

    /// The name in the database and the APIs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Dissolved => "dissolved",
        }
    }
}

/// Whether a session can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The session can be changed.
    Active,
    /// The session can be read, but not changed.
    Dissolved,
}

/// The limits and policies that an operator sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The minimum number of members of a new session.
    pub min_members: usize,
    /// The number of members that must stay if members leave or are removed: at least 1.
    pub min_remaining: usize,
    /// The maximum number of members.
    pub max_members: usize,
    /// The policy on the removal of members.
    pub remove_members: RemovePolicy,
}

/// The members that may remove other members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovePolicy {
    /// Only the owner.
    Owner,
    /// Every member.
    Member,
}

/// A request to create a session.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSession {
    /// The title.
    pub title: Title,
    /// The owner, who becomes a member even if not listed.
    pub creator: Account,
    /// The members, as listed.
    pub members: Vec<Account>,
    /// The attributes.
    pub attributes: Attributes,
    /// The reason, for the history.
    pub reason: Option<Reason>,
}

impl Session {
    /// Creates a session. Its members are the creator first, then the listed members, without
    /// duplicates.
    ///
    /// # Errors
    /// [`RuleViolation::TooFewMembers`] or [`RuleViolation::TooManyMembers`].
    pub fn create(
        id: SessionId,
        buin: Buin,
        new: NewSession,
        rules: &Rules,
        at: DateTime<Utc>,
    ) -> Result<Self, RuleViolation> {
        let mut members = Vec::with_capacity(new.members.len() + 1);
        members.push(new.creator.clone());
        members.extend(new.members);
        let members = dedup_stable(members);
        rules.check_min_members(members.len())?;
        rules.check_max_members(members.len())?;
        Ok(Self {
            id,
            buin,
            title: new.title,
            owner: new.creator,
            version: Version::FIRST,
            state: State::Active,
            members,
            attributes: new.attributes,
            created_at: at,
            updated_at: at,
        })
    }
}

impl Session {
    /// The estimated size of its texts, in bytes. The members and the attributes are most of it.
    #[must_use]
    pub fn size(&self) -> usize {
        /// The titles, the times and the other fields of fixed size.
        const OVERHEAD: usize = 512;
        let members: usize = self.members.iter().map(|account| account.as_str().len() + 4).sum();
        OVERHEAD + members + self.attributes.size()
    }
}

impl Rules {
    pub(super) fn check_min_members(&self, got: usize) -> Result<(), RuleViolation> {
        check_min(self.min_members, got)
    }

    pub(super) fn check_max_members(&self, got: usize) -> Result<(), RuleViolation> {
        if got > self.max_members {
            return Err(RuleViolation::TooManyMembers { max: self.max_members, got });
        }
        Ok(())
    }
}

/// Checks a number of members.
pub(super) fn check_min(min: usize, got: usize) -> Result<(), RuleViolation> {
    if got < min {
        return Err(RuleViolation::TooFewMembers { min, got });
    }
    Ok(())
}

/// Drops duplicates and keeps the order of first appearance.
pub(super) fn dedup_stable(accounts: Vec<Account>) -> Vec<Account> {
    // Most lists are short, and a short list is cheaper to scan than to hash.
    const MAX_SCANNED: usize = 16;
    let mut unique: Vec<Account> = Vec::with_capacity(accounts.len());
    if accounts.len() <= MAX_SCANNED {
        for account in accounts {
            if !unique.contains(&account) {
                unique.push(account);
            }
        }
    } else {
        let mut seen = HashSet::with_capacity(accounts.len());
        for account in accounts {
            if seen.insert(account.clone()) {
                unique.push(account);
            }
        }
    }
    unique
}

#[cfg(test)]
impl Session {
    /// A session of these members, of whom the first one is the owner.
    pub(crate) fn sample(number: u128, members: &[&str]) -> Self {
        let rules = Rules {
            min_members: 1,
            min_remaining: 1,
            max_members: 99_999,
            remove_members: RemovePolicy::Owner,
        };
        let members: Vec<_> = members.iter().map(|name| Account::new(name).unwrap()).collect();
        let new = NewSession {
            title: Title::new("t").unwrap(),
            creator: members[0].clone(),
            members,
            attributes: Attributes::default(),
            reason: None,
        };
        let (id, buin) = (SessionId::new(uuid::Uuid::from_u128(number)), Buin::new(1).unwrap());
        Self::create(id, buin, new, &rules, DateTime::UNIX_EPOCH).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(names: &[&str]) -> Vec<Account> {
        names.iter().map(|name| Account::new(name).unwrap()).collect()
    }

    fn create(creator: &str, members: &[&str]) -> Result<Session, RuleViolation> {
        let rules = Rules {
            min_members: 3,
            min_remaining: 3,
            max_members: 4,
            remove_members: RemovePolicy::Owner,
        };
        let new = NewSession {
            title: Title::new("t").unwrap(),
            creator: Account::new(creator).unwrap(),
            members: accounts(members),
            attributes: Attributes::default(),
            reason: None,
        };
        let id = SessionId::new(uuid::Uuid::nil());
        Session::create(id, Buin::new(1).unwrap(), new, &rules, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn the_creator_is_a_member_whether_listed_or_not() {
        let expected = accounts(&["a", "b", "c"]);
        assert_eq!(create("a", &["b", "c"]).unwrap().members, expected);
        assert_eq!(create("a", &["b", "a", "c", "b"]).unwrap().members, expected);
        assert_eq!(create("a", &["b", "c"]).unwrap().version, Version::FIRST);
    }

    #[test]
    fn duplicate_members_count_once() {
        assert_eq!(
            create("a", &["b", "a", "b"]),
            Err(RuleViolation::TooFewMembers { min: 3, got: 2 })
        );
        assert_eq!(
            create("a", &["b", "c", "d", "e"]),
            Err(RuleViolation::TooManyMembers { max: 4, got: 5 })
        );
        assert!(create("a", &["a", "b", "c", "d", "d"]).is_ok());
    }

    #[test]
    fn long_and_short_lists_are_deduplicated_alike() {
        let many: Vec<String> = (0..100).map(|n| (n % 40).to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let deduplicated = dedup_stable(accounts(&many));
        assert_eq!(deduplicated, accounts(&many[..40]));
    }
}
