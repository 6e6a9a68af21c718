//! Cursors: positions in lists, as text that a client sends back for the next page.
//!
//! A cursor holds the position after which the next page starts, and a digest of the parameters of
//! the list. A client can forge both without gain: it gets another page of a list that it may read
//! anyway.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::domain::{Account, SessionFilter, SessionId, Sort, SortKey, State, TitlePart};
use crate::repository::sessions::{MemberSeekKey, SeekKey};
use crate::service::cursor_bytes::split_bytes;

/// The maximum length of a cursor, in characters.
pub(super) const MAX_BYTES: usize = 128;
/// The first byte of a cursor: its format.
const FORMAT: u8 = 1;
/// The first byte of a cursor that ends with the time up to which the list is complete.
const FORMAT_WITH_TIME: u8 = 2;
/// The first byte of a cursor of a list by change. It ends with the time of the change and the time
/// up to which the list is complete.
const FORMAT_BY_CHANGE: u8 = 3;

/// The reason why a cursor is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCursor {
    /// No list of this version of Muster returned the cursor.
    #[error("must be the nextCursor of another page")]
    Malformed,
    /// The cursor belongs to another filter or order, or to another session.
    #[error("belongs to another list: filters and sort must stay the same on every page")]
    QueryMismatch,
}

/// A digest of the parameters that must be the same on all pages of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueryFingerprint([u8; 8]);

impl QueryFingerprint {
    pub(super) fn for_sessions(filter: &SessionFilter, sort: Sort) -> Self {
        let SessionFilter { member, owner, title, state, updated_since } = filter;
        let since = updated_since.map(|time| time.timestamp_micros().to_string());
        Self::from_parts(&[
            Some(match sort.by {
                SortKey::CreatedAt => "sessions by creation",
                SortKey::UpdatedAt => "sessions by change",
            }),
            Some(if sort.newest_first { "newest first" } else { "oldest first" }),
            member.as_ref().map(Account::as_str),
            owner.as_ref().map(Account::as_str),
            title.as_ref().map(TitlePart::as_str),
            state.map(State::name),
            since.as_deref(),
        ])
    }

    pub(super) fn for_members(id: SessionId) -> Self {
        Self::from_parts(&[Some("members"), Some(&id.to_string())])
    }

    fn from_parts(parts: &[Option<&str>]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            // UTF-8 text never contains the byte 0xFF, so different parameters give different
            // input.
            hash.update([0xFF, u8::from(part.is_some())]);
            hash.update(part.unwrap_or_default());
        }
        let mut digest = [0; 8];
        digest.copy_from_slice(&hash.finalize()[..8]);
        Self(digest)
    }
}

/// Encodes a position in a list of sessions.
pub(super) fn encode(fingerprint: &QueryFingerprint, seek_key: &SeekKey) -> String {
    let SeekKey { id, changed_at, complete_until } = seek_key;
    let format = match (changed_at, complete_until) {
        (Some(_), _) => FORMAT_BY_CHANGE,
        (None, Some(_)) => FORMAT_WITH_TIME,
        (None, None) => FORMAT,
    };
    let mut bytes = id.uuid().as_bytes().to_vec();
    for time in [changed_at, complete_until].into_iter().flatten() {
        bytes.extend(time.timestamp_micros().to_be_bytes());
    }
    encode_raw(format, fingerprint, &bytes)
}

/// Decodes a position in a list of sessions.
pub(super) fn decode(
    fingerprint: &QueryFingerprint,
    by: SortKey,
    text: &str,
) -> Result<SeekKey, InvalidCursor> {
    let (format, bytes) = decode_raw(fingerprint, text)?;
    let (id, rest) = split_bytes(&bytes).ok_or(InvalidCursor::Malformed)?;
    let id = SessionId::new(Uuid::from_bytes(id));
    let (changed_at, complete_until, rest) = match (by, format) {
        (SortKey::CreatedAt, FORMAT) => (None, None, rest),
        (SortKey::CreatedAt, FORMAT_WITH_TIME) => {
            let (complete_until, rest) = split_time(rest)?;
            (None, Some(complete_until), rest)
        }
        (SortKey::UpdatedAt, FORMAT_BY_CHANGE) => {
            let (changed_at, rest) = split_time(rest)?;
            let (complete_until, rest) = split_time(rest)?;
            (Some(changed_at), Some(complete_until), rest)
        }
        // Among them is format 1 in a list by change: the cursor of an earlier release.
        _ => return Err(InvalidCursor::Malformed),
    };
    match rest {
        [] => Ok(SeekKey { id, changed_at, complete_until }),
        _ => Err(InvalidCursor::Malformed),
    }
}

/// Encodes a position in a list of members.
pub(super) fn encode_member(fingerprint: &QueryFingerprint, seek_key: &MemberSeekKey) -> String {
    let mut bytes = seek_key.joined_version.to_be_bytes().to_vec();
    bytes.extend(seek_key.position.to_be_bytes());
    encode_raw(FORMAT, fingerprint, &bytes)
}

/// Decodes a position in a list of members.
pub(super) fn decode_member(
    fingerprint: &QueryFingerprint,
    text: &str,
) -> Result<MemberSeekKey, InvalidCursor> {
    let (format, bytes) = decode_raw(fingerprint, text)?;
    let (joined_version, rest) = split_bytes(&bytes).ok_or(InvalidCursor::Malformed)?;
    let (position, rest) = split_bytes(rest).ok_or(InvalidCursor::Malformed)?;
    if !rest.is_empty() || format != FORMAT {
        return Err(InvalidCursor::Malformed);
    }
    Ok(MemberSeekKey {
        joined_version: i64::from_be_bytes(joined_version),
        position: i32::from_be_bytes(position),
    })
}

fn encode_raw(format: u8, fingerprint: &QueryFingerprint, position: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(1 + fingerprint.0.len() + position.len());
    bytes.push(format);
    bytes.extend(fingerprint.0);
    bytes.extend(position);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The format of a cursor, and its position.
fn decode_raw(fingerprint: &QueryFingerprint, text: &str) -> Result<(u8, Vec<u8>), InvalidCursor> {
    if text.len() > MAX_BYTES {
        return Err(InvalidCursor::Malformed);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor::Malformed)?;
    let ([format], rest) = split_bytes(&bytes).ok_or(InvalidCursor::Malformed)?;
    let (digest, position) = split_bytes(rest).ok_or(InvalidCursor::Malformed)?;
    match format {
        FORMAT..=FORMAT_BY_CHANGE if digest == fingerprint.0 => Ok((format, position.to_vec())),
        FORMAT..=FORMAT_BY_CHANGE => Err(InvalidCursor::QueryMismatch),
        _ => Err(InvalidCursor::Malformed),
    }
}

/// Reads a time that PostgreSQL can represent and that a position can have.
fn split_time(bytes: &[u8]) -> Result<(DateTime<Utc>, &[u8]), InvalidCursor> {
    let (micros, rest) = split_bytes(bytes).ok_or(InvalidCursor::Malformed)?;
    DateTime::from_timestamp_micros(i64::from_be_bytes(micros))
        .filter(|time| (DateTime::UNIX_EPOCH..=SeekKey::LATEST).contains(time))
        .map(|time| (time, rest))
        .ok_or(InvalidCursor::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BY_CREATION: Sort = Sort { by: SortKey::CreatedAt, newest_first: true };
    const BY_CHANGE: Sort = Sort { by: SortKey::UpdatedAt, newest_first: true };

    fn seek_keys() -> [(Sort, SeekKey); 3] {
        let id = SessionId::new(Uuid::from_u128(7));
        let at = DateTime::from_timestamp_micros(1_718_000_000_123_456).unwrap();
        let by_creation = SeekKey { id, changed_at: None, complete_until: None };
        let since = SeekKey { complete_until: Some(at), ..by_creation };
        let by_change = SeekKey { id, changed_at: Some(at), complete_until: Some(SeekKey::LATEST) };
        [(BY_CREATION, by_creation), (BY_CREATION, since), (BY_CHANGE, by_change)]
    }

    fn lists() -> Vec<(SessionFilter, Sort)> {
        let account = || Some(Account::new("a").unwrap());
        let all = SessionFilter::default;
        let since = |micros| DateTime::from_timestamp_micros(micros);
        let newest = |by| Sort { by, newest_first: true };
        let filters = [
            all(),
            SessionFilter { member: account(), ..all() },
            SessionFilter { owner: account(), ..all() },
            SessionFilter { title: Some(TitlePart::new("a").unwrap()), ..all() },
            SessionFilter { member: account(), owner: account(), ..all() },
            SessionFilter { state: Some(State::Active), ..all() },
            SessionFilter { state: Some(State::Dissolved), ..all() },
            SessionFilter { updated_since: since(1), ..all() },
            SessionFilter { updated_since: since(2), ..all() },
        ];
        let mut lists: Vec<_> =
            filters.into_iter().map(|filter| (filter, newest(SortKey::CreatedAt))).collect();
        lists.push((all(), newest(SortKey::UpdatedAt)));
        lists.push((all(), Sort { by: SortKey::CreatedAt, newest_first: false }));
        lists
    }

    #[test]
    fn cursor_decodes_to_the_position_it_was_made_of() {
        for (sort, key) in seek_keys() {
            let list = QueryFingerprint::for_sessions(&SessionFilter::default(), sort);
            let text = encode(&list, &key);
            assert_eq!(decode(&list, sort.by, &text), Ok(key), "{text}");
        }
        let list = QueryFingerprint::for_members(SessionId::new(Uuid::nil()));
        let key = MemberSeekKey { joined_version: i64::MAX, position: 7 };
        assert_eq!(decode_member(&list, &encode_member(&list, &key)), Ok(key));
    }

    #[test]
    fn cursor_of_another_list_is_refused() {
        for (filter, sort) in lists() {
            let list = QueryFingerprint::for_sessions(&filter, sort);
            for (other_filter, other_sort) in lists() {
                let other = QueryFingerprint::for_sessions(&other_filter, other_sort);
                let key = seek_keys().into_iter().find(|(order, _)| order.by == other_sort.by);
                let text = encode(&other, &key.unwrap().1);
                let same = (&filter, sort) == (&other_filter, other_sort);
                let expected = if same { None } else { Some(InvalidCursor::QueryMismatch) };
                assert_eq!(decode(&list, sort.by, &text).err(), expected);
            }
        }
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let key = MemberSeekKey { joined_version: 1, position: 0 };
        let text = encode_member(&QueryFingerprint::for_members(SessionId::new(first)), &key);
        let other = QueryFingerprint::for_members(SessionId::new(second));
        assert_eq!(decode_member(&other, &text), Err(InvalidCursor::QueryMismatch));
    }

    #[test]
    fn malformed_cursor_is_refused() {
        for (sort, key) in seek_keys() {
            let list = QueryFingerprint::for_sessions(&SessionFilter::default(), sort);
            let whole = encode(&list, &key);
            let bad = |text: &str| decode(&list, sort.by, text) == Err(InvalidCursor::Malformed);
            for text in ["", "A", "?", "null", "AQ", "AQ==", &whole.repeat(1000)] {
                assert!(bad(text), "{text}");
            }
            assert!(bad(&format!("{whole}=")));
            assert!(bad(&format!("{whole}AAAA")));
            for end in 0..whole.len().min(60) {
                assert!(bad(&whole[..end]), "{end}");
            }
            let mut bytes = URL_SAFE_NO_PAD.decode(&whole).unwrap();
            bytes[0] += 1;
            assert!(bad(&URL_SAFE_NO_PAD.encode(&bytes)));
        }
        // A list by change of an earlier release, whose order depended on transaction ids.
        let list = QueryFingerprint::for_sessions(&SessionFilter::default(), BY_CHANGE);
        let earlier = [[7; 16].as_slice(), &[0; 16], b"10:20:10,14"].concat();
        let text = encode_raw(FORMAT, &list, &earlier);
        assert_eq!(decode(&list, SortKey::UpdatedAt, &text), Err(InvalidCursor::Malformed));
        // A time that PostgreSQL cannot represent.
        let list = QueryFingerprint::for_sessions(&SessionFilter::default(), BY_CHANGE);
        for micros in [i64::MIN, -1, i64::MAX] {
            let mut key = vec![0; 16];
            key.extend(micros.to_be_bytes());
            key.extend(0_i64.to_be_bytes());
            let text = encode_raw(FORMAT_BY_CHANGE, &list, &key);
            assert_eq!(decode(&list, SortKey::UpdatedAt, &text), Err(InvalidCursor::Malformed));
        }
    }

    proptest! {
        #[test]
        fn decoding_arbitrary_text_never_panics(text in "\\PC{0,80}", key: Vec<u8>) {
            for sort in [BY_CREATION, BY_CHANGE] {
                let list = QueryFingerprint::for_sessions(&SessionFilter::default(), sort);
                let _ = decode(&list, sort.by, &text);
                let _ = decode(&list, sort.by, &encode_raw(FORMAT, &list, &key));
                let _ = decode_member(&list, &encode_raw(FORMAT, &list, &key));
            }
        }
    }
}
