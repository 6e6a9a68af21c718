//! Those who wait for one statement, each until a time of its own.
//!
//! A statement needs a connection, and while one is made the time of some may be over. They are
//! told then, and the others go on waiting: nobody is sent away because somebody else is in a hurry.
//! And a statement fails for all who share it: those who are not to blame are done without the others.

use std::pin::pin;

use sqlx::PgConnection;
use tokio::time::{Instant, timeout_at};

use crate::metrics::Statements;
use crate::repository;
use crate::repository::line::Line;
use crate::service::Error;

/// Some who wait.
pub(super) trait Waiting {
    /// By when each must have begun, or not at all.
    fn times(&self) -> impl Iterator<Item = Instant>;

    /// Tells those whose time is over at `now` why, and forgets them and whoever has gone: how many
    /// were told.
    fn dismiss(&mut self, now: Instant, why: impl Fn() -> Error) -> usize;

    /// Whether they are more than one.
    fn are_many(&self) -> bool;

    /// Those of the second half, who are not among these any more. There must be many.
    fn split(&mut self) -> Self;
}

/// Some who wait, and for whom something is done at once: or in parts, one after the other, where
/// that failed because of some of them. Each time in halves: of many, few must be done alone.
pub(super) struct Parts<T> {
    /// The last is the next.
    rest: Vec<T>,
    /// What those are told who wait for too long since it failed, if it did.
    late: Option<Error>,
}

impl<T: Waiting> Parts<T> {
    /// All at once.
    pub(super) fn of(all: T) -> Self {
        Self { rest: vec![all], late: None }
    }

    /// Those whose turn it is, of whom perhaps nobody is left: whose time is over by now is told.
    pub(super) fn next(&mut self, count: &Statements) -> Option<T> {
        if let Some(late) = &self.late {
            let now = Instant::now();
            for part in &mut self.rest {
                count.turned_away.add(part.dismiss(now, || late.clone()) as u64);
            }
        }
        self.rest.pop()
    }

    /// Nothing was done for `part`, which is next.
    pub(super) fn once_more(&mut self, part: T) {
        self.late = Some(Error::queued_too_long());
        self.rest.push(part);
    }

    /// Nothing was done for `part`, which are many: their halves are next.
    pub(super) fn in_halves(&mut self, mut part: T, failed: repository::Error) {
        self.late = Some(match failed {
            repository::Error::TimedOut(_) => failed.into(),
            _ => Error::queued_too_long(),
        });
        let second = part.split();
        self.rest.extend([second, part]);
    }
}

/// A connection for those of `waiting` who are left when there is one; `None` if nobody is.
///
/// # Errors
/// [`repository::Error::Unavailable`] when there is none to be had: nothing was done for anybody.
pub(super) async fn connection(
    line: &mut Line,
    waiting: &mut impl Waiting,
    count: &Statements,
) -> Result<Option<PgConnection>, repository::Error> {
    dismiss(waiting, Instant::now(), count);
    let Some(last) = waiting.times().max() else { return Ok(None) };
    match line.at_hand() {
        Some(connection) => Ok(Some(connection)),
        // Boxed, as it is seldom, and large.
        None => Box::pin(ready(line.open(last), waiting, count)).await,
    }
}

/// Waits for something as long as somebody does.
async fn ready<T>(
    opening: impl Future<Output = Result<T, repository::Error>>,
    waiting: &mut impl Waiting,
    count: &Statements,
) -> Result<Option<T>, repository::Error> {
    let mut opening = pin!(opening);
    loop {
        let Some(first) = waiting.times().min() else { return Ok(None) };
        match timeout_at(first, &mut opening).await {
            Ok(opened) => {
                let opened = opened?;
                dismiss(waiting, Instant::now(), count);
                return Ok(waiting.times().next().map(|_| opened));
            }
            Err(_) => dismiss(waiting, Instant::now(), count),
        }
    }
}

fn dismiss(waiting: &mut impl Waiting, now: Instant, count: &Statements) {
    count.turned_away.add(waiting.dismiss(now, Error::queued_too_long) as u64);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::service::batching::queue::{Wanted, queue};

    const SECOND: Duration = Duration::from_secs(1);

    /// What becomes of three who wait for one, two and three seconds, when it takes that long; and
    /// when each was told.
    async fn when_it_takes(opening: Duration) -> (Vec<u32>, [Option<Duration>; 3]) {
        let began = Instant::now();
        let (queue, mut inbox) = queue(3, 3, Duration::from_secs(60), &std::sync::Arc::default());
        let told = [1, 2, 3].map(|number| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let answer: Result<(), _> = queue.ask(number, began + number * SECOND).await;
                answer.is_err().then(|| began.elapsed())
            })
        });
        let mut wanted: Vec<Wanted<u32, ()>> = inbox.take().await.unwrap();
        let opened = async {
            tokio::time::sleep(opening).await;
            Ok(())
        };
        let count = Statements::default();
        let ready = ready(opened, &mut wanted, &count).await.unwrap();
        assert_eq!(ready.is_none(), wanted.is_empty());
        assert_eq!(count.turned_away.value(), 3 - wanted.len() as u64);
        let left = wanted.iter().map(|one| one.what).collect();
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
