//! The changes that a reader has seen, and the proof that nothing is missing, repeated or out of order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

/// The number of changes, and a digest of them that does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub count: u64,
    digest: u64,
}

impl Tally {
    pub fn add(&mut self, seq: i64, session: &str, version: i64) {
        let mut hasher = DefaultHasher::new();
        (seq, session, version).hash(&mut hasher);
        self.count += 1;
        self.digest = self.digest.wrapping_add(hasher.finish());
    }
}

/// The number, the previous number, the session and the version of a change.
fn parts(event: &Value) -> (i64, i64, &str, i64) {
    let number = |name: &str| event[name].as_i64().unwrap_or_else(|| panic!("{event}"));
    let session = event["sessionId"].as_str().unwrap();
    (number("seq"), number("prevSeq"), session, number("version"))
}

/// A reader that sees one stream from its beginning.
#[derive(Default)]
pub struct StreamProof {
    /// Whether the stream has all changes.
    is_whole: bool,
    last: i64,
    versions: HashMap<String, i64>,
    pub tally: Tally,
    /// How often the history was another one, and the reader began again.
    pub restarts: usize,
}

impl StreamProof {
    pub fn new(is_whole: bool) -> Self {
        Self { is_whole, ..Self::default() }
    }

    /// Adds the next change of the stream.
    pub fn add(&mut self, event: &Value) {
        let (seq, prev, session, version) = parts(event);
        assert_eq!(prev, self.last, "a change is missing or repeated before {event}");
        assert!(seq > prev, "{event}");
        let known = self.versions.entry(session.to_owned()).or_default();
        assert!(version > *known, "version {known} came before {event}");
        if self.is_whole {
            assert_eq!((seq, version), (prev + 1, *known + 1), "{event}");
        }
        *known = version;
        self.last = seq;
        self.tally.add(seq, session, version);
    }

    pub fn begin_again(&mut self) {
        let (is_whole, restarts) = (self.is_whole, self.restarts + 1);
        *self = Self { is_whole, restarts, ..Self::default() };
    }
}

/// A copy of all sessions: a snapshot, and the changes after it.
#[derive(Default)]
pub struct MirrorProof {
    /// The version of each session.
    pub table: BTreeMap<String, i64>,
    /// The last change after the snapshot.
    last: Option<i64>,
    /// The number of the last change of the enterprise, if the copy has reached it.
    pub complete_to: i64,
    pub restarts: usize,
}

impl MirrorProof {
    pub fn add_session(&mut self, session: &Value) {
        let version = session["version"].as_i64().unwrap();
        let before = self.table.insert(session["sessionId"].as_str().unwrap().to_owned(), version);
        assert_eq!(before, None, "the snapshot has a session twice: {session}");
    }

    pub fn add(&mut self, event: &Value) {
        let (seq, prev, session, version) = parts(event);
        assert_eq!(prev, self.last.unwrap_or(prev), "a change is missing before {event}");
        self.last = Some(seq);
        let known = self.table.entry(session.to_owned()).or_default();
        // The snapshot may have the session as it was after the change.
        assert!(version <= *known + 1, "version {known} came before {event}");
        *known = version.max(*known);
    }

    pub fn begin_again(&mut self) {
        *self = Self { restarts: self.restarts + 1, ..Self::default() };
    }
}

/// The events of a consumer that its members have done.
#[derive(Default)]
pub struct ConsumerProof {
    newest: HashMap<String, i64>,
    done: HashSet<i64>,
    /// Those whose acknowledgement was answered.
    acknowledged: HashSet<i64>,
    pub tally: Tally,
    /// How often an event was handed out again.
    pub repeats: usize,
    pub restarts: usize,
}

impl ConsumerProof {
    /// A member does an event.
    pub fn work(&mut self, event: &Value) {
        let (seq, _, session, version) = parts(event);
        assert!(!self.acknowledged.contains(&seq), "an acknowledged event came again: {event}");
        if !self.done.insert(seq) {
            assert!(event["attempt"].as_i64().unwrap() > 1, "{event}");
            self.repeats += 1;
            return;
        }
        let newest = self.newest.entry(session.to_owned()).or_default();
        assert!(version > *newest, "version {newest} was done before {event}");
        *newest = version;
        self.tally.add(seq, session, version);
    }

    /// The acknowledgement of an event was answered, and the event was not lost.
    pub fn acknowledge(&mut self, event: &Value) {
        self.acknowledged.insert(parts(event).0);
    }

    pub fn begin_again(&mut self) {
        let (repeats, restarts) = (self.repeats, self.restarts + 1);
        *self = Self { repeats, restarts, ..Self::default() };
    }
}

/// An event that a reader may get.
fn event(seq: i64, prev: i64, session: &str, version: i64) -> Value {
    serde_json::json!({
        "seq": seq, "prevSeq": prev, "sessionId": session, "version": version, "attempt": 1,
    })
}

#[test]
#[should_panic(expected = "a change is missing or repeated")]
fn missing_change_of_a_filtered_stream_is_noticed() {
    let mut proof = StreamProof::new(false);
    proof.add(&event(3, 0, "a", 1));
    proof.add(&event(9, 7, "b", 1));
}

#[test]
#[should_panic(expected = "a change is missing or repeated")]
fn repeated_change_of_a_stream_is_noticed() {
    let mut proof = StreamProof::new(true);
    proof.add(&event(1, 0, "a", 1));
    proof.add(&event(1, 0, "a", 1));
}

#[test]
#[should_panic(expected = "left: (3, 1)")]
fn number_that_no_change_of_the_whole_stream_has_is_noticed() {
    let mut proof = StreamProof::new(true);
    proof.add(&event(1, 0, "a", 1));
    proof.add(&event(3, 1, "b", 1));
}

#[test]
#[should_panic(expected = "version 2 came before")]
fn inverted_versions_of_a_session_are_noticed() {
    let mut proof = StreamProof::new(false);
    proof.add(&event(3, 0, "a", 2));
    proof.add(&event(5, 3, "a", 1));
}

#[test]
#[should_panic(expected = "version 1 came before")]
fn change_that_a_mirror_lacks_is_noticed() {
    let mut proof = MirrorProof::default();
    proof.add_session(&event(0, 0, "a", 1));
    proof.add(&event(7, 4, "a", 3));
}

#[test]
#[should_panic(expected = "an acknowledged event came again")]
fn event_after_its_acknowledgement_is_noticed() {
    let mut proof = ConsumerProof::default();
    proof.work(&event(1, 0, "a", 1));
    proof.acknowledge(&event(1, 0, "a", 1));
    proof.work(&event(1, 0, "a", 1));
}

#[test]
#[should_panic(expected = "version 2 was done before")]
fn event_that_members_do_too_late_is_noticed() {
    let mut proof = ConsumerProof::default();
    proof.work(&event(2, 1, "a", 2));
    proof.work(&event(1, 0, "a", 1));
}

#[test]
fn tally_depends_on_the_changes_and_not_on_their_order() {
    let tally = |changes: &[(i64, &str, i64)]| {
        let mut tally = Tally::default();
        changes.iter().for_each(|(seq, session, version)| tally.add(*seq, session, *version));
        tally
    };
    let (one, two) = ((1, "a", 1), (2, "b", 1));
    assert_eq!(tally(&[one, two]), tally(&[two, one]));
    assert_ne!(tally(&[one, two]), tally(&[one, one]));
    assert_ne!(tally(&[one, two]), tally(&[one]));
}
