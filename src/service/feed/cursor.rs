//! Cursors: positions in streams of changes, as text that a client keeps and sends back.
//!
//! A cursor names the change at its position by a fingerprint, so that the server notices a database
//! whose history is another one there. A client can forge a cursor without gain: it gets changes that
//! it may read anyway.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::domain::{Account, AppId, EventKind, FeedFilter, FeedSeq, SessionId, Version};
use crate::service::cursor_bytes::split_bytes;

/// The first byte of a cursor: its format.
const FORMAT: u8 = 1;
/// The format of a cursor that knows the last change of its filtered stream.
const FORMAT_WITH_MATCH: u8 = 2;
/// The format of a cursor within a snapshot.
const FORMAT_IN_SNAPSHOT: u8 = 3;

/// A position in a stream of changes, after the change `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedCursor {
    /// The line of history: the first eight bytes of its identity.
    pub epoch: u64,
    /// The last change before the position.
    pub seq: FeedSeq,
    /// A digest of that change. Zero at the beginning.
    pub fingerprint: [u8; 4],
    /// The last change of the filtered stream up to the position, if the position was found with a filter.
    pub last_match: Option<LastMatch>,
    /// The last session of a snapshot that continues. The changes after `seq` follow it. The id
    /// with zeros stands for the begin of the snapshot.
    pub snapshot: Option<SessionId>,
}

/// The last change of a filtered stream up to a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastMatch {
    /// The filter.
    pub filter: FilterDigest,
    /// The change. 0: the stream has no change up to the position.
    pub seq: FeedSeq,
}

/// A digest of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterDigest([u8; 4]);

/// The text is not a cursor of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a cursor, 0 or a time such as 2024-06-10T06:13:20Z, with + written as %2B")]
pub struct InvalidFeedCursor;

impl FilterDigest {
    /// The digest of a filter.
    #[must_use]
    pub fn for_filter(filter: &FeedFilter) -> Self {
        let FeedFilter { member, owner, session, kind, app } = filter;
        let session = session.map(|id| id.to_string());
        let mut hash = Sha256::new();
        for part in [
            member.as_ref().map(Account::as_str),
            owner.as_ref().map(Account::as_str),
            session.as_deref(),
            kind.map(EventKind::name),
            app.as_ref().map(AppId::as_str),
        ] {
            // UTF-8 text never contains the byte 0xFF, so different filters give different input.
            hash.update([0xFF, u8::from(part.is_some())]);
            hash.update(part.unwrap_or_default());
        }
        Self(first_bytes(&hash.finalize()))
    }
}

impl FeedCursor {
    /// The maximum length of the text, in characters.
    pub const MAX: usize = 66;

    /// The fingerprint of a change.
    #[must_use]
    pub fn fingerprint(session: SessionId, version: Version) -> [u8; 4] {
        let mut hash = Sha256::new();
        hash.update(session.uuid().as_bytes());
        hash.update(version.get().to_be_bytes());
        first_bytes(&hash.finalize())
    }

    /// The last change of the stream of `filter` up to this position, if the cursor knows it.
    #[must_use]
    pub fn last_match(&self, filter: FilterDigest) -> Option<FeedSeq> {
        self.last_match.filter(|last| last.filter == filter).map(|last| last.seq)
    }

    /// The cursor as text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(49);
        bytes.push(match (self.snapshot, self.last_match) {
            (Some(_), _) => FORMAT_IN_SNAPSHOT,
            (None, Some(_)) => FORMAT_WITH_MATCH,
            (None, None) => FORMAT,
        });
        bytes.extend(self.epoch.to_be_bytes());
        bytes.extend(self.seq.get().to_be_bytes());
        bytes.extend(self.fingerprint);
        if let Some(session) = self.snapshot {
            bytes.extend(session.uuid().as_bytes());
        } else if let Some(LastMatch { filter, seq }) = self.last_match {
            bytes.extend(seq.get().to_be_bytes());
            bytes.extend(filter.0);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads the text of a cursor.
    ///
    /// # Errors
    /// [`InvalidFeedCursor`] if no version of Muster wrote the text.
    pub fn decode(text: &str) -> Result<Self, InvalidFeedCursor> {
        if text.len() > Self::MAX {
            return Err(InvalidFeedCursor);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidFeedCursor)?;
        let (&format, rest) = bytes.split_first().ok_or(InvalidFeedCursor)?;
        let (epoch, rest) = split_bytes(rest).ok_or(InvalidFeedCursor)?;
        let (seq, rest) = split_seq(rest)?;
        let (fingerprint, rest) = split_bytes(rest).ok_or(InvalidFeedCursor)?;
        let (last_match, snapshot, rest) = match format {
            FORMAT => (None, None, rest),
            FORMAT_WITH_MATCH => {
                let (last, rest) = split_seq(rest)?;
                let (filter, rest) = split_bytes(rest).ok_or(InvalidFeedCursor)?;
                if last > seq {
                    return Err(InvalidFeedCursor);
                }
                (Some(LastMatch { filter: FilterDigest(filter), seq: last }), None, rest)
            }
            FORMAT_IN_SNAPSHOT => {
                let (session, rest) = split_bytes(rest).ok_or(InvalidFeedCursor)?;
                (None, Some(SessionId::new(Uuid::from_bytes(session))), rest)
            }
            _ => return Err(InvalidFeedCursor),
        };
        if !rest.is_empty() {
            return Err(InvalidFeedCursor);
        }
        let epoch = u64::from_be_bytes(epoch);
        Ok(Self { epoch, seq, fingerprint, last_match, snapshot })
    }
}

fn first_bytes(digest: &[u8]) -> [u8; 4] {
    let mut first = [0; 4];
    first.copy_from_slice(&digest[..4]);
    first
}

fn split_seq(bytes: &[u8]) -> Result<(FeedSeq, &[u8]), InvalidFeedCursor> {
    let (number, rest) = split_bytes(bytes).ok_or(InvalidFeedCursor)?;
    let seq = FeedSeq::new(i64::from_be_bytes(number)).map_err(|_| InvalidFeedCursor)?;
    Ok((seq, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursors() -> Vec<FeedCursor> {
        let plain = FeedCursor {
            epoch: u64::MAX,
            seq: FeedSeq::new(i64::MAX).unwrap(),
            fingerprint: [1, 2, 3, 255],
            last_match: None,
            snapshot: None,
        };
        let filter = FilterDigest::for_filter(&FeedFilter::default());
        let last_match = Some(LastMatch { filter, seq: FeedSeq::new(7).unwrap() });
        let snapshot = Some(SessionId::new(Uuid::max()));
        vec![plain, FeedCursor { last_match, ..plain }, FeedCursor { snapshot, ..plain }]
    }

    #[test]
    fn cursor_decodes_to_the_place_it_was_made_of() {
        for cursor in cursors() {
            let text = cursor.encode();
            assert!(text.len() <= FeedCursor::MAX, "{text}");
            assert_eq!(FeedCursor::decode(&text), Ok(cursor));
        }
    }

    #[test]
    fn malformed_cursor_is_refused() {
        for cursor in cursors() {
            let whole = cursor.encode();
            for end in 0..whole.len() {
                assert_eq!(FeedCursor::decode(&whole[..end]), Err(InvalidFeedCursor), "{end}");
            }
            for text in [format!("{whole}="), format!("{whole}AAAA"), whole.repeat(100)] {
                assert_eq!(FeedCursor::decode(&text), Err(InvalidFeedCursor), "{text}");
            }
            let mut bytes = URL_SAFE_NO_PAD.decode(&whole).unwrap();
            bytes[9] = 0x80;
            let negative = URL_SAFE_NO_PAD.encode(&bytes);
            assert_eq!(FeedCursor::decode(&negative), Err(InvalidFeedCursor));
            bytes[0] = 200;
            let unknown = URL_SAFE_NO_PAD.encode(&bytes);
            assert_eq!(FeedCursor::decode(&unknown), Err(InvalidFeedCursor));
        }
        let [_, with_match, _] = &cursors()[..] else { unreachable!() };
        let ahead = FeedCursor { seq: FeedSeq::new(6).unwrap(), ..*with_match };
        assert_eq!(FeedCursor::decode(&ahead.encode()), Err(InvalidFeedCursor));
    }

    #[test]
    fn different_filters_have_different_digests() {
        let account = |name: &str| Some(Account::new(name).unwrap());
        let filters = [
            FeedFilter::default(),
            FeedFilter { member: account("alice"), ..FeedFilter::default() },
            FeedFilter { owner: account("alice"), ..FeedFilter::default() },
            FeedFilter { member: account("alicf"), ..FeedFilter::default() },
            FeedFilter { kind: Some(EventKind::Created), ..FeedFilter::default() },
            FeedFilter { app: Some("created".parse().unwrap()), ..FeedFilter::default() },
            FeedFilter { session: Some(SessionId::new(Uuid::nil())), ..FeedFilter::default() },
        ];
        let digests: std::collections::HashSet<_> =
            filters.iter().map(|filter| FilterDigest::for_filter(filter).0).collect();
        assert_eq!(digests.len(), filters.len());
    }

    proptest! {
        #[test]
        fn decoding_arbitrary_text_never_panics(text in "\\PC{0,80}", bytes: Vec<u8>) {
            let _ = FeedCursor::decode(&text);
            let _ = FeedCursor::decode(&URL_SAFE_NO_PAD.encode(bytes));
        }
    }
}
