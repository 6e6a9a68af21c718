//! A callback that meets a kept connection which the receiver is closing.
//!
//! The clock stands still, so a second attempt cannot become due by itself.

use std::collections::HashSet;
use std::time::Duration;

use muster::domain::DeliveryState;

use super::receiver::{Call, Receiver, Reply, reply_with};
use super::{attempts, create, delivery_id, find, rename, spawn_subscribed, worker_with};
use crate::harness::TestApp;
use crate::harness::store::StoredApp;

const VERSIONS: i64 = 6;

/// Answers a request on a new connection with `new`, and one on a kept connection with `kept`.
fn script(receiver: &Receiver, kept: Reply, new: impl Fn(&Call) -> Reply + Send + 'static) {
    let mut seen = HashSet::new();
    receiver
        .script(move |call| if seen.insert(call.connection) { new(call) } else { kept.clone() });
}

/// Sends the versions of a session, one after another, until one fails.
async fn send(kept: Reply, new: impl Fn(&Call) -> Reply + Send + 'static) -> Sent {
    let (app, receiver, stored) = spawn_subscribed().await;
    let id = create(&app).await;
    rename(&app, &id, usize::try_from(VERSIONS).unwrap() - 1).await;
    script(&receiver, kept, new);
    let mut worker = worker_with(&app, |settings| {
        settings.delivery.connect_timeout = Duration::from_secs(3);
        settings.delivery.attempt_timeout = Duration::from_secs(3);
    })
    .await;
    worker.drain().await.unwrap();
    Sent { app, receiver, stored, id }
}

struct Sent {
    app: TestApp,
    receiver: Receiver,
    stored: StoredApp,
    id: String,
}

impl Sent {
    async fn state(&self, version: i64) -> DeliveryState {
        find(&self.app, &delivery_id(&self.id, version, &self.stored)).await.state
    }

    /// The requests by version, each with whether its connection was kept.
    fn requests(&self) -> Vec<(i64, bool)> {
        let mut seen = HashSet::new();
        let calls = self.receiver.calls();
        calls.iter().map(|call| (call.version, !seen.insert(call.connection))).collect()
    }

    /// The requests of the first version that failed.
    async fn failed_requests(&self) -> Vec<bool> {
        let mut failed = 1;
        while self.state(failed).await == DeliveryState::Delivered {
            failed += 1;
        }
        assert_eq!(self.state(failed).await, DeliveryState::Pending);
        let requests = self.requests().into_iter().filter(|(version, _)| *version == failed);
        requests.map(|(_, kept)| kept).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_connection_is_replaced_at_once() {
    let unused = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for (case, closing) in [
        ("closed", Reply::Raw(Vec::new())),
        ("reset", Reply::Reset),
        ("408", Reply::Raw(unused.as_bytes().to_vec())),
    ] {
        let sent = send(closing, |_| Reply::Ok).await;
        for version in 1..=VERSIONS {
            let id = delivery_id(&sent.id, version, &sent.stored);
            let listed = find(&sent.app, &id).await;
            assert_eq!((listed.state, listed.attempts), (DeliveryState::Delivered, 1), "{case}");
            let tried = attempts(&sent.app, &id).await;
            assert_eq!(
                (tried.len(), tried[0].status, tried[0].error.as_deref()),
                (1, Some(200), None)
            );
        }
        let requests = sent.requests();
        let kept = requests.iter().filter(|(_, kept)| *kept).count();
        assert!(kept > 0, "{case}: no connection was kept: {requests:?}");
        assert_eq!(requests.len(), usize::try_from(VERSIONS).unwrap() + kept, "{case}");
        for pair in
            sent.receiver.calls().windows(2).filter(|pair| pair[0].version == pair[1].version)
        {
            let [first, second] = pair else { unreachable!() };
            assert_ne!(first.connection, second.connection, "{case}");
            assert_eq!((first.attempt, second.attempt), (1, 1), "{case}");
            assert_eq!(first.message, second.message, "{case}");
            assert_ne!(first.parameter("nonce"), second.parameter("nonce"), "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_connection_is_the_last() {
    // After the first version, the receiver closes every connection.
    let closed = || Reply::Raw(Vec::new());
    let sent =
        send(closed(), move |call| if call.version == 1 { Reply::Ok } else { closed() }).await;
    assert_eq!(sent.failed_requests().await.len(), 2, "{:?}", sent.requests());
    assert_eq!(sent.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_failures_wait_for_the_schedule() {
    for (case, failure) in [
        ("refused", reply_with(500, "")),
        ("no acknowledgement", reply_with(200, "no")),
        ("half a body", Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok".to_vec())),
        ("no HTTP", Reply::Raw(b"hello\r\n\r\n".to_vec())),
        ("silent", Reply::Late(Duration::from_secs(3_600), Box::new(Reply::Ok))),
    ] {
        let sent = send(failure, |_| Reply::Ok).await;
        assert_eq!(sent.failed_requests().await, [true], "{case}: {:?}", sent.requests());
    }
    // A receiver that closes a new connection fails.
    for failure in [Reply::Raw(Vec::new()), Reply::Reset] {
        let sent = send(Reply::Ok, move |_| failure.clone()).await;
        assert_eq!(sent.requests(), [(1, false)]);
        assert_eq!(sent.state(1).await, DeliveryState::Pending);
    }
}
