//! The retry schedule, the end of retries, and replays and pauses by operators.

use std::time::Duration;

use muster::clock::Clock;
use muster::delivery::Worker;
use muster::domain::DeliveryState;

use super::receiver::{Call, Receiver, Reply, reply_with};
use super::{
    attempts, count, create, delivery_id, find, rename, spawn_subscribed, worker, worker_with,
    worker_with_clock,
};
use crate::harness::store::DeliveryFilter;
use crate::harness::{TestApp, change, replay, test_start_time};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Advances the clock by `time` in steps, and drains the queue after each step.
async fn advance_and_drain(app: &TestApp, worker: &mut Worker, time: Duration, step: Duration) {
    let until = app.clock.now() + time;
    while app.clock.now() < until {
        app.clock.advance(step);
        worker.drain().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_fails_after_a_day_and_the_next_continues() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let id = create(&app).await;
    rename(&app, &id, 1).await;
    receiver.script(|call| if call.version == 1 { reply_with(500, "no") } else { Reply::Ok });
    let mut worker = worker(&app).await;
    worker.drain().await.unwrap();
    advance_and_drain(&app, &mut worker, 10 * MINUTE, Duration::from_secs(1)).await;
    advance_and_drain(&app, &mut worker, 23 * HOUR, 5 * MINUTE).await;
    let first = delivery_id(&id, 1, &stored);
    assert_eq!(find(&app, &first).await.state, DeliveryState::Pending);
    assert!(receiver.calls().iter().all(|call| call.version == 1));
    advance_and_drain(&app, &mut worker, 2 * HOUR, MINUTE).await;

    let recorded = attempts(&app, &first).await;
    let waits: Vec<i64> = recorded
        .windows(2)
        .map(|two| (two[1].started_at - two[0].started_at).num_seconds())
        .collect();
    // The bounds allow for jitter and for the steps of this test.
    let expected = [5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 14_400, 14_400];
    for (wait, expected) in waits.iter().zip(expected) {
        let (min, max) = (expected * 8 / 10, expected * 12 / 10 + 300);
        assert!((min..=max).contains(wait), "{wait} s for {expected} s: {waits:?}");
    }
    let listed = find(&app, &first).await;
    assert_eq!(listed.state, DeliveryState::Failed);
    let age = listed.finished_at.unwrap() - test_start_time();
    assert!((24..=25).contains(&age.num_hours()), "{age}");
    assert_eq!(usize::try_from(listed.attempts).unwrap(), recorded.len());
    assert!(recorded.iter().all(
        |attempt| attempt.error.is_some() && attempt.response_excerpt.as_deref() == Some("no")
    ));
    assert_eq!(find(&app, &delivery_id(&id, 2, &stored)).await.state, DeliveryState::Delivered);

    // A replay starts the schedule from its beginning.
    receiver.take();
    let filter = DeliveryFilter { id: Some(first.clone()), ..DeliveryFilter::default() };
    assert_eq!(replay(&app.pool, &filter, app.clock.now()).await, 1);
    worker.drain().await.unwrap();
    assert_eq!(find(&app, &first).await.state, DeliveryState::Pending);
    receiver.recover();
    app.clock.advance(Duration::from_secs(7));
    worker.drain().await.unwrap();
    let count = i32::try_from(recorded.len()).unwrap();
    let again: Vec<i32> = receiver.take().iter().map(|call| call.attempt).collect();
    assert_eq!(again, [count + 1, count + 2]);
    assert_eq!(find(&app, &first).await.state, DeliveryState::Delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honored() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let mut worker = worker(&app).await;
    for (value, min, max) in [
        ("60", 60, 60),
        ("%a, %d %b %Y %H:%M:%S GMT", 3_600, 3_600),
        // The wait is at most four hours, and at least that of the schedule.
        ("999999999999", 14_400, 14_400),
        ("0", 4, 6),
        ("soon", 4, 6),
    ] {
        let id = create(&app).await;
        let now = app.clock.now();
        let value = (now + HOUR).format(value).to_string();
        let header = format!("retry-after: {value}\r\n");
        receiver.script(move |_| Reply::Answer(503, header.clone(), String::new()));
        worker.drain().await.unwrap();
        let wait = find(&app, &delivery_id(&id, 1, &stored)).await.due_at - now;
        assert!((min..=max).contains(&wait.num_seconds()), "{value}: {wait}");
        receiver.recover();
        app.clock.advance(5 * HOUR);
        worker.drain().await.unwrap();
    }
    assert_eq!(count(&app, DeliveryState::Delivered).await, 5);
}

/// Two servers run in turn, so each of them continues the schedule of the other one.
#[tokio::test(flavor = "multi_thread")]
async fn schedule_holds_between_servers_with_clocks_20_seconds_apart() {
    const APART: i64 = 20;
    const SECOND: Duration = Duration::from_secs(1);
    let (app, receiver, _) = spawn_subscribed().await;
    let id = create(&app).await;
    rename(&app, &id, 2).await;
    receiver.script(|_| reply_with(500, "no"));
    let ahead = Clock::manual(app.clock.now() + chrono::TimeDelta::seconds(APART));
    let mut workers = [worker(&app).await, worker_with_clock(&app, &ahead).await];
    let mut times = Vec::new();
    for second in 0..1_200_i64 {
        app.clock.advance(SECOND);
        ahead.advance(SECOND);
        workers[usize::from(second / 15 % 2 == 1)].drain().await.unwrap();
        for call in receiver.take() {
            assert_eq!((call.version, call.attempt), (1, i32::try_from(times.len()).unwrap() + 1));
            times.push(second);
        }
    }
    let waits: Vec<i64> = times.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(waits.len(), 4, "{times:?}");
    for (wait, expected) in waits.iter().zip([5, 30, 120, 600]) {
        // With jitter, and a second for the steps of this test.
        let (min, max) = (expected * 8 / 10 - APART - 1, expected * 12 / 10 + APART + 1);
        assert!((min..=max).contains(wait), "{wait} s for {expected} s: {waits:?}");
    }

    receiver.recover();
    for _ in 0..3 {
        app.clock.advance(HOUR);
        ahead.advance(HOUR);
        for worker in &mut workers {
            worker.drain().await.unwrap();
        }
    }
    let versions: Vec<i64> = receiver.take().iter().map(|call| call.version).collect();
    assert_eq!(versions, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_filters_and_keeps_the_order() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let other = super::subscribe(&app, &receiver).await;
    let first = create(&app).await;
    rename(&app, &first, 3).await;
    app.clock.advance(HOUR);
    let second = create(&app).await;
    rename(&app, &second, 1).await;
    let mut worker = worker(&app).await;
    worker.drain().await.unwrap();
    assert_eq!(receiver.take().len(), 12);

    let app_id = Some(stored.app.app_id.clone());
    let (then, of) = (test_start_time() + HOUR, |id: &str| Some(id.parse().unwrap()));
    for (filter, expected) in [
        (DeliveryFilter { app_id: app_id.clone(), ..DeliveryFilter::default() }, 6),
        (
            DeliveryFilter {
                app_id: app_id.clone(),
                session_id: of(&first),
                ..DeliveryFilter::default()
            },
            4,
        ),
        (DeliveryFilter { session_id: of(&second), ..DeliveryFilter::default() }, 4),
        (
            DeliveryFilter {
                app_id: app_id.clone(),
                since: Some(then),
                ..DeliveryFilter::default()
            },
            2,
        ),
        (
            DeliveryFilter {
                app_id: app_id.clone(),
                until: Some(then),
                ..DeliveryFilter::default()
            },
            4,
        ),
        (DeliveryFilter { since: Some(then), until: Some(then), ..DeliveryFilter::default() }, 0),
        (DeliveryFilter { state: Some(DeliveryState::Failed), ..DeliveryFilter::default() }, 0),
        (DeliveryFilter { state: Some(DeliveryState::Delivered), ..DeliveryFilter::default() }, 12),
        (DeliveryFilter { buin: Some(other.app.buin), ..DeliveryFilter::default() }, 12),
        (
            DeliveryFilter {
                id: Some(delivery_id(&first, 3, &other)),
                ..DeliveryFilter::default()
            },
            1,
        ),
    ] {
        app.clock.advance(Duration::from_secs(1));
        let count = replay(&app.pool, &filter, app.clock.now()).await;
        assert_eq!(count, expected, "{filter:?}");
        worker.drain().await.unwrap();
        let calls = receiver.take();
        assert_eq!(u64::try_from(calls.len()).unwrap(), expected, "{filter:?}");
        assert_in_order(&calls);
    }

    // A replayed version is sent before later versions.
    receiver.script(|_| reply_with(500, ""));
    let filter = DeliveryFilter { app_id, session_id: of(&first), ..DeliveryFilter::default() };
    replay(&app.pool, &filter, app.clock.now()).await;
    rename(&app, &first, 2).await;
    worker.drain().await.unwrap();
    let versions: Vec<i64> = receiver.take().iter().map(|call| call.version).collect();
    assert_eq!(versions.iter().filter(|version| **version == 1).count(), 1, "{versions:?}");
    receiver.recover();
    app.clock.advance(HOUR);
    worker.drain().await.unwrap();
    let calls = receiver.take();
    assert_eq!(calls.len(), 6 + 2);
    assert_in_order(&calls);
}

fn assert_in_order(calls: &[Call]) {
    let mut last = std::collections::HashMap::new();
    for call in calls {
        let before = last.insert((&call.app_id, &call.session), call.version);
        assert!(before.is_none_or(|before| before < call.version), "{calls:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_of_a_paused_app_are_withheld() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let id = create(&app).await;
    let pause = async |paused: bool| {
        change(&app, &stored, |stored| stored.app.callbacks_paused = paused).await;
    };
    pause(true).await;
    rename(&app, &id, 2).await;
    app.clock.advance(48 * HOUR);
    assert_eq!(worker(&app).await.drain().await.unwrap(), 0);
    assert_eq!(count(&app, DeliveryState::Pending).await, 3);
    pause(false).await;
    assert_eq!(worker(&app).await.drain().await.unwrap(), 3);
    assert_eq!(receiver.versions(), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_receiver_gets_fewer_attempts() {
    let (app, receiver, _) = spawn_subscribed().await;
    let healthy = Receiver::start().await;
    super::subscribe(&app, &healthy).await;
    for _ in 0..500 {
        create(&app).await;
    }
    receiver.script(|_| reply_with(503, ""));
    let mut worker = worker(&app).await;
    worker.drain().await.unwrap();
    assert_eq!(healthy.calls().len(), 500, "the other app got all its callbacks");
    let first_attempts = receiver.calls().len();
    assert!((5..=21).contains(&first_attempts), "{first_attempts}");
    advance_and_drain(&app, &mut worker, 10 * MINUTE, Duration::from_secs(1)).await;
    let in_ten_minutes = receiver.take().len() - first_attempts;
    // Two attempts after 1, 2, 4, 8 and 16 s, then two every 20 s.
    assert!((25..=80).contains(&in_ten_minutes), "{in_ten_minutes}");

    // One success closes the circuit breaker.
    receiver.recover();
    advance_and_drain(&app, &mut worker, MINUTE, Duration::from_secs(1)).await;
    assert!(receiver.calls().len() >= 480, "{}", receiver.calls().len());
    advance_and_drain(&app, &mut worker, HOUR, MINUTE).await;
    assert_eq!(receiver.calls().len(), 500);
    assert_eq!(count(&app, DeliveryState::Delivered).await, 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_sessions_do_not_delay_others() {
    let (app, receiver, _) = spawn_subscribed().await;
    let mut failing = std::collections::HashSet::new();
    for _ in 0..30 {
        failing.insert(create(&app).await);
    }
    receiver.script(
        move |call| {
            if failing.contains(&call.session) { reply_with(500, "") } else { Reply::Ok }
        },
    );
    let mut worker = worker(&app).await;
    worker.drain().await.unwrap();
    advance_and_drain(&app, &mut worker, 20 * Duration::from_secs(1), Duration::from_secs(1)).await;
    let healthy = create(&app).await;
    advance_and_drain(&app, &mut worker, 21 * Duration::from_secs(1), Duration::from_secs(1)).await;
    assert!(receiver.calls().iter().any(|call| call.session == healthy && call.acknowledged));
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_schedule_is_configurable() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let id = create(&app).await;
    receiver.script(|_| reply_with(500, ""));
    let mut worker = worker_with(&app, |settings| {
        settings.delivery.retry_schedule =
            vec![Duration::from_millis(100), Duration::from_millis(200)];
        settings.delivery.give_up_after = Duration::from_secs(1);
    })
    .await;
    worker.drain().await.unwrap();
    advance_and_drain(&app, &mut worker, Duration::from_secs(3), Duration::from_millis(10)).await;
    // Attempts start at 0 ms, at 100 ms, every 200 ms after that, and at 1 s. Each wait is up to a
    // fifth longer or shorter.
    let attempts = receiver.calls().len();
    assert!((6..=8).contains(&attempts), "{attempts}");
    assert_eq!(find(&app, &delivery_id(&id, 1, &stored)).await.state, DeliveryState::Failed);
}
