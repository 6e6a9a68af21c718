//! The networks that callbacks may and may not reach.

use muster::config::Settings;

use super::receiver::Receiver;
use super::{
    TOKEN, attempts, create, delivery_id, find, spawn, spawn_subscribed, subscriber, worker_with,
};
use crate::harness::client::Client;
use crate::harness::{TestApp, insert, store};

/// Sends one callback to `url`, and returns its error.
async fn delivery_error(
    app: &TestApp,
    url: &str,
    change: impl FnOnce(&mut Settings),
) -> Option<String> {
    let stored = subscriber(url);
    insert(&app.pool, &stored).await;
    let id = create(app).await;
    worker_with(app, change).await.drain().await.unwrap();
    let id = delivery_id(&id, 1, &stored);
    let [attempt] = attempts(app, &id).await.try_into().unwrap();
    assert_eq!((attempt.status, find(app, &id).await.attempts), (None, 1), "{attempt:?}");
    // The next case must have no other subscriber.
    store::disable_subscribers(app).await;
    attempt.error
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_networks_are_never_connected_to() {
    let (app, receiver) = (spawn().await, Receiver::start().await);
    let port = receiver.address.port();
    let deny = |networks: &'static [&str]| {
        move |settings: &mut Settings| {
            settings.delivery.deny_networks =
                networks.iter().map(|network| network.parse().unwrap()).collect();
        }
    };
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "[::1]"] {
        let url = format!("http://{host}:{port}/");
        let error = delivery_error(&app, &url, deny(&["127.0.0.0/8", "::1/128"])).await.unwrap();
        assert!(error.contains("callbacks may not go to "), "{host}: {error}");
        assert!(error.contains("delivery.deny_networks"), "{host}: {error}");
    }
    let error = delivery_error(&app, &receiver.url("/"), |settings| {
        settings.delivery.allow_networks = vec!["10.0.0.0/8".parse().unwrap()];
    })
    .await
    .unwrap();
    assert!(error.contains("callbacks may not go to 127.0.0.1"), "{error}");
    // These addresses are denied even if all networks are allowed.
    for host in [
        "169.254.169.254",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "[::ffff:0:169.254.169.254]",
        "[fd00:ec2::23]",
        "[2001:db8::1]",
        "192.0.2.1",
        "0.0.0.0",
        "[::]",
    ] {
        let url = format!("http://{host}:{port}/latest/meta-data");
        let error = delivery_error(&app, &url, |settings| {
            settings.delivery.allow_networks =
                ["0.0.0.0/0", "::/0"].map(|all| all.parse().unwrap()).to_vec();
        });
        let error = error.await.unwrap();
        assert!(error.contains("callbacks may not go to "), "{host}: {error}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn allowed_networks_are_reached() {
    let (app, receiver, _) = spawn_subscribed().await;
    let port = receiver.address.port();
    for host in ["localhost", "[::ffff:127.0.0.1]"] {
        let stored = subscriber(&format!("http://{host}:{port}/"));
        receiver.add_app(Client::new(app.address, &stored, app.clock.clone()), TOKEN);
        insert(&app.pool, &stored).await;
    }
    create(&app).await;
    let attempts = worker_with(&app, |settings| {
        settings.delivery.allow_networks = vec!["127.0.0.1/32".parse().unwrap()];
        settings.delivery.deny_networks = vec!["127.0.0.2/31".parse().unwrap()];
    })
    .await
    .drain()
    .await
    .unwrap();
    assert_eq!(attempts, 3);
    // The worker tries only the allowed addresses of a host name.
    assert_eq!(receiver.versions(), [1, 1, 1]);
}
