//! Those who wait for one statement, each until a time of its own.
//!
//! A statement needs a connection, and while one is made the time of some may be over. They are
//! told then, and the others go on waiting: nobody is sent away because somebody else is in a hurry.
//! And a statement fails for all who share it: those who are not to blame are done without the others.

use std::pin::pin;

use tokio::time::{Instant, timeout_at};

use crate::metrics::Statements;
use crate::repository::dedicated_connection::Line;
use crate::repository::{self, Connection};
use crate::service::Error;

/// Some who wait.
pub(super) trait Waiters {
    /// By when each must have begun, or not at all.
    fn deadlines(&self) -> impl Iterator<Item = Instant>;

    /// Tells those whose time is over at `now` why, and forgets them and whoever has gone: how many
    /// were told.
    fn expire(&mut self, now: Instant, why: impl Fn() -> Error) -> usize;

    /// Whether they are more than one.
    fn is_splittable(&self) -> bool;

    /// Those of the second half, who are not among these any more. There must be many.
    fn split_half(&mut self) -> Self;
}

/// Some who wait, and for whom something is done at once: or in parts, one after the other, where
/// that failed because of some of them. Each time in halves: of many, few must be done alone.
pub(super) struct Bisection<T> {
    /// The last is the next.
    remaining: Vec<T>,
    /// What those are told who wait for too long since it failed, if it did.
    timeout_error: Option<Error>,
}

impl<T: Waiters> Bisection<T> {
    /// All at once.
    pub(super) fn new(batch: T) -> Self {
        Self { remaining: vec![batch], timeout_error: None }
    }

    /// Those whose turn it is, of whom perhaps nobody is left: whose time is over by now is told.
    pub(super) fn next_batch(&mut self, metrics: &Statements) -> Option<T> {
        if let Some(timeout_error) = &self.timeout_error {
            let now = Instant::now();
            for batch in &mut self.remaining {
                metrics.turned_away.add(batch.expire(now, || timeout_error.clone()) as u64);
            }
        }
        self.remaining.pop()
    }

    /// Nothing was done for `part`, which is next.
    pub(super) fn retry(&mut self, batch: T) {
        self.timeout_error = Some(Error::queued_too_long());
        self.remaining.push(batch);
    }

    /// Nothing was done for `part`, which are many: their halves are next.
    pub(super) fn bisect(&mut self, mut batch: T, error: repository::Error) {
        self.timeout_error = Some(match error {
            repository::Error::TimedOut(_) => error.into(),
            _ => Error::queued_too_long(),
        });
        let second = batch.split_half();
        self.remaining.extend([second, batch]);
    }
}

/// A connection for those of `waiting` who are left when there is one; `None` if nobody is.
///
/// # Errors
/// [`repository::Error::Unavailable`] when there is none to be had: nothing was done for anybody.
pub(super) async fn acquire_for(
    dedicated: &mut Line,
    waiters: &mut impl Waiters,
    metrics: &Statements,
) -> Result<Option<Connection>, repository::Error> {
    expire(waiters, Instant::now(), metrics);
    let Some(last) = waiters.deadlines().max() else { return Ok(None) };
    match dedicated.at_hand() {
        Some(connection) => Ok(Some(connection)),
        // Boxed, as it is seldom, and large.
        None => Box::pin(await_for(dedicated.open(last), waiters, metrics)).await,
    }
}

/// Waits for something as long as somebody does.
async fn await_for<T>(
    opening: impl Future<Output = Result<T, repository::Error>>,
    waiters: &mut impl Waiters,
    metrics: &Statements,
) -> Result<Option<T>, repository::Error> {
    let mut opening = pin!(opening);
    loop {
        let Some(first) = waiters.deadlines().min() else { return Ok(None) };
        match timeout_at(first, &mut opening).await {
            Ok(opened) => {
                let opened = opened?;
                expire(waiters, Instant::now(), metrics);
                return Ok(waiters.deadlines().next().map(|_| opened));
            }
            Err(_) => expire(waiters, Instant::now(), metrics),
        }
    }
}

fn expire(waiters: &mut impl Waiters, now: Instant, metrics: &Statements) {
    metrics.turned_away.add(waiters.expire(now, Error::queued_too_long) as u64);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::service::batching::queue::{Pending, batch_channel};

    const SECOND: Duration = Duration::from_secs(1);

    /// What becomes of three who wait for one, two and three seconds, when it takes that long; and
    /// when each was told.
    async fn when_it_takes(opening: Duration) -> (Vec<u32>, [Option<Duration>; 3]) {
        let began = Instant::now();
        let (queue, mut receiver) =
            batch_channel(3, 3, Duration::from_secs(60), &std::sync::Arc::default());
        let told = [1, 2, 3].map(|number| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let answer: Result<(), _> = queue.submit(number, began + number * SECOND).await;
                answer.is_err().then(|| began.elapsed())
            })
        });
        let mut wanted: Vec<Pending<u32, ()>> = receiver.recv_batch().await.unwrap();
        let opened = async {
            tokio::time::sleep(opening).await;
            Ok(())
        };
        let metrics = Statements::default();
        let acquired = await_for(opened, &mut wanted, &metrics).await.unwrap();
        assert_eq!(acquired.is_none(), wanted.is_empty());
        assert_eq!(metrics.turned_away.value(), 3 - wanted.len() as u64);
        let left = wanted.iter().map(|one| one.command).collect();
        for one in wanted {
            one.reply.send(Ok(()));
        }
        let [one, two, three] = told;
        (left, [one.await.unwrap(), two.await.unwrap(), three.await.unwrap()])
    }

    #[tokio::test(start_paused = true)]
    async fn each_waits_until_its_own_time() {
        let at = |seconds: u32| Some(seconds * SECOND);
        let (left, told) = when_it_takes(SECOND / 2).await;
        assert_eq!((left.as_slice(), told), ([1, 2, 3].as_slice(), [None; 3]));
        let (left, told) = when_it_takes(SECOND * 5 / 2).await;
        assert_eq!((left.as_slice(), told), ([3].as_slice(), [at(1), at(2), None]));
        let (left, told) = when_it_takes(SECOND * 4).await;
        assert_eq!((left.as_slice(), told), ([].as_slice(), [at(1), at(2), at(3)]));
    }
}
