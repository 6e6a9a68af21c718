//! Named consumers: readers of the feed whose position the service keeps, alone or as a group.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::text::{self, Invalid};
use super::{Event, FeedFilter, FeedSeq, SessionId, Version};

/// The maximum length of the name of a consumer or of a member, in characters.
const MAX_NAME: usize = 64;

/// The name of a consumer within its app: 1 to 64 of `A–Z a–z 0–9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerName(Box<str>);

/// The name of a member of a consumer, by which the leases are held: the same rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerMember(Box<str>);

/// The time for which a member has the events that it fetched: whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsumerLease(u32);

/// The limits of consumers.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerLimits;

/// A consumer, without its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// The name.
    pub name: ConsumerName,
    /// Selects the changes.
    pub filter: FeedFilter,
    /// The lease of its events.
    pub lease: ConsumerLease,
    /// The time at which it was created.
    pub created_at: DateTime<Utc>,
    /// The time of its last use, up to an hour earlier.
    pub used_at: DateTime<Utc>,
}

/// A consumer and its progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerState {
    /// The consumer.
    pub consumer: Consumer,
    /// Whether its position is of another line of history: it must be reset.
    pub is_expired: bool,
    /// The number of the last change that was read.
    pub selected: FeedSeq,
    /// The number of the last change of the enterprise.
    pub head: FeedSeq,
    /// The oldest change that is not acknowledged, and the time at which it got its number.
    pub oldest: Option<(FeedSeq, DateTime<Utc>)>,
    /// The number of changes that members have.
    pub leased: u64,
    /// The number of changes that a member may get.
    pub ready: u64,
    /// The number of changes that failed too often.
    pub parked: u64,
    /// The number of changes behind a parked one of their session.
    pub waiting: u64,
    /// The members that have changes, at most [`ConsumerLimits::MAX_LISTED`].
    pub members: Vec<MemberLeases>,
}

/// The changes that a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberLeases {
    /// The member.
    pub member: String,
    /// The number of its changes.
    pub events: u64,
    /// The end of its first lease to end.
    pub lease_until: DateTime<Utc>,
}

/// A change that failed too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedEvent {
    /// Its number.
    pub seq: FeedSeq,
    /// Its session.
    pub session_id: SessionId,
    /// The version that the change made.
    pub version: Version,
    /// The number of times that it was handed out.
    pub attempts: u32,
    /// The last member that had it.
    pub member: Option<String>,
    /// The time at which it was parked.
    pub parked_at: DateTime<Utc>,
}

/// A change that a member gets.
#[derive(Clone, Debug, PartialEq)]
pub struct LeasedEvent {
    /// Its number.
    pub seq: FeedSeq,
    /// The number of the change before it that the filter selects.
    pub prev_seq: FeedSeq,
    /// Its session.
    pub session_id: SessionId,
    /// The change.
    pub event: Event,
    /// The number of times that it was handed out, this time included.
    pub attempt: u32,
    /// The end of the lease.
    pub lease_until: DateTime<Utc>,
}

impl ConsumerLimits {
    /// The maximum number of consumers of an app.
    pub const MAX_PER_APP: usize = 100;
    /// The maximum number of changes of a consumer that are leased or ready.
    pub const MAX_ACTIVE: usize = 1_000;
    /// The maximum number of changes that are parked or wait behind a parked one. No further changes
    /// are selected while a consumer has as many.
    pub const MAX_HELD_BACK: usize = 10_000;
    /// The number of times that a change is handed out before it is parked.
    pub const MAX_ATTEMPTS: u32 = 10;
    /// A change that failed so often is handed out without the later ones of its session, so that
    /// those do not fail with it.
    pub const MAX_SHARED_ATTEMPTS: u32 = 3;
    /// The maximum number of changes of a fetch.
    pub const MAX_FETCH: usize = 200;
    /// The maximum size of the changes of a fetch, in bytes of JSON. The first one may exceed it.
    pub const MAX_FETCH_BYTES: usize = 1024 * 1024;
    /// The maximum number of members or parked changes that a response lists.
    pub const MAX_LISTED: usize = 100;
    /// A consumer that was not used for so long is removed.
    pub const RETENTION: TimeDelta = TimeDelta::days(30);
    /// A consumer that was not used for so long is reported.
    pub const IDLE_WARNING: TimeDelta = TimeDelta::days(23);
}

impl ConsumerLease {
    /// The lease of a consumer that names none.
    pub const DEFAULT: Self = Self(15);
    /// The maximum, in seconds: 12 hours.
    pub const MAX_SECONDS: u32 = 43_200;

    /// Accepts 1 to 43,200 whole seconds.
    ///
    /// # Errors
    /// The text names the limits.
    pub fn new(lease: Duration) -> Result<Self, InvalidLease> {
        let seconds = u32::try_from(lease.as_secs()).unwrap_or(u32::MAX);
        let is_whole = lease.subsec_nanos() == 0;
        match is_whole && (1..=Self::MAX_SECONDS).contains(&seconds) {
            true => Ok(Self(seconds)),
            false => Err(InvalidLease { got: lease }),
        }
    }

    /// The seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.0
    }
}

/// The lease is too short, too long, or not in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be whole seconds from 1s to 12h, got {got:?}")]
pub struct InvalidLease {
    /// The received lease.
    pub got: Duration,
}

macro_rules! impl_name {
    ($($name:ident),+) => {$(
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                text::check_identifier(text, MAX_NAME)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

impl_name!(ConsumerName, ConsumerMember);

impl ConsumerState {
    /// Every selected change up to this number is acknowledged.
    #[must_use]
    pub fn position(&self) -> FeedSeq {
        let Some((oldest, _)) = self.oldest else { return self.selected };
        FeedSeq::new(oldest.get() - 1).unwrap_or_default().min(self.selected)
    }

    /// The number of changes of the enterprise after the position.
    #[must_use]
    pub fn lag(&self) -> u64 {
        u64::try_from(self.head.get() - self.position().get()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_plain_text() {
        for text in ["a", "mirror.eu-1_b", &"x".repeat(64)] {
            assert_eq!(text.parse::<ConsumerName>().unwrap().as_str(), text);
        }
        assert_eq!("".parse::<ConsumerName>(), Err(Invalid::Empty));
        assert_eq!("a b".parse::<ConsumerMember>(), Err(Invalid::Character(' ')));
        assert_eq!(
            "x".repeat(65).parse::<ConsumerMember>(),
            Err(Invalid::TooLong { max: 64, got: 65 })
        );
    }

    #[test]
    fn lease_is_bounded() {
        let error = InvalidLease { got: Duration::from_millis(1_500) };
        assert_eq!(error.to_string(), "must be whole seconds from 1s to 12h, got 1.5s");
        let new =
            |millis| ConsumerLease::new(Duration::from_millis(millis)).map(ConsumerLease::seconds);
        assert_eq!((new(1_000), new(43_200_000)), (Ok(1), Ok(43_200)));
        for millis in [0, 999, 1_001, 43_201_000, u64::MAX] {
            let got = Duration::from_millis(millis);
            assert_eq!(new(millis), Err(InvalidLease { got }), "{millis}");
        }
    }
}
