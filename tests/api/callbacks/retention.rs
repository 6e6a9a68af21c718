//! The retention of ended deliveries.

use std::time::Duration;

use muster::delivery::{self, Options, RetrySchedule, Worker};
use muster::domain::DeliveryState;

use super::receiver::{Reply, reply_with};
use super::{attempts, count, create, delivery_id, spawn_subscribed, worker};
use crate::harness::store;

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn options() -> Options {
    Options {
        max_concurrency: 1,
        max_concurrency_per_app: 1,
        lease: DAY,
        poll_interval: DAY,
        retry_schedule: RetrySchedule { waits: vec![DAY], give_up_after: DAY },
        delivered_retention: 7 * DAY,
        failed_retention: 30 * DAY,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_deliveries_are_pruned_with_their_attempts() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let mut worker: Worker = worker(&app).await;
    let failing = create(&app).await;
    let session = failing.clone();
    receiver
        .script(move |call| if call.session == session { reply_with(500, "") } else { Reply::Ok });
    for _ in 0..10 {
        worker.drain().await.unwrap();
        app.clock.advance(Duration::from_secs(5 * 3_600));
    }
    assert_eq!(count(&app, DeliveryState::Failed).await, 1);
    let old = create(&app).await;
    worker.drain().await.unwrap();
    app.clock.advance(6 * DAY);
    let young = create(&app).await;
    worker.drain().await.unwrap();
    // No delivery is old enough yet.
    let prune = async || delivery::prune(&app.pool, &app.clock, &options()).await.unwrap();
    assert_eq!(prune().await, 0);

    app.clock.advance(DAY + Duration::from_secs(1));
    assert_eq!(prune().await, 1);
    assert!(attempts(&app, &delivery_id(&old, 1, &stored)).await.is_empty());
    assert_eq!(attempts(&app, &delivery_id(&young, 1, &stored)).await.len(), 1);
    assert!(!attempts(&app, &delivery_id(&failing, 1, &stored)).await.is_empty());
    assert_eq!(count(&app, DeliveryState::Failed).await, 1);

    create(&app).await;
    app.clock.advance(23 * DAY);
    assert_eq!(prune().await, 2);
    assert_eq!(store::count_attempts(&app.pool).await, 0);
    assert_eq!(count(&app, DeliveryState::Pending).await, 1, "pending deliveries are never pruned");
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_works_in_batches() {
    let (app, _receiver, _) = spawn_subscribed().await;
    store::insert_ended_deliveries(&app, 6_000).await;
    // The youngest 500 of each state are kept.
    let options = Options { failed_retention: 7 * DAY, ..options() };
    app.clock.advance(7 * DAY + Duration::from_millis(5_000_500));
    assert_eq!(delivery::prune(&app.pool, &app.clock, &options).await.unwrap(), 5_000);
    assert_eq!(count(&app, DeliveryState::Delivered).await, 500);
    assert_eq!(count(&app, DeliveryState::Failed).await, 500);
    assert_eq!(store::count_attempts(&app.pool).await, 3_000);
}
