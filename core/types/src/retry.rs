//! Trying again: how long to wait between tries, and the two loops that try. One waits for what is away when a program
//! starts; the other repeats an operation whose failure may pass.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use crate::shutdown::Shutdown;

/// The pause between two attempts.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How often the log repeats what is waited for.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// The outcome of one attempt.
#[derive(Debug)]
pub enum Try<T, E> {
    /// The service is there.
    Done(T),
    /// The service is away; it may come back.
    Away(E),
    /// The service refuses; further attempts of the same kind are pointless.
    Refused(E),
}

/// Tries until `what` is there and logs what is waited for. Returns none if the shutdown came first.
///
/// # Errors
/// The error of the last attempt, if that was [`Try::Refused`].
pub async fn wait_for<T, E: fmt::Display>(
    what: &str,
    shutdown: &Shutdown,
    mut attempt: impl AsyncFnMut() -> Try<T, E>,
) -> Result<Option<T>, E> {
    let mut said: Option<Instant> = None;
    loop {
        let tried = tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            tried = attempt() => tried,
        };
        match tried {
            Try::Done(there) => return Ok(Some(there)),
            Try::Refused(error) => return Err(error),
            Try::Away(error) => {
                if said.is_none_or(|when| when.elapsed() >= SAY_AGAIN) {
                    tracing::warn!(%error, "waiting for {what}; trying again every second");
                    said = Some(Instant::now());
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(TRY_AGAIN) => {}
        }
    }
}

/// How long to wait before an operation that failed is tried again.
///
/// ```
/// use std::time::Duration;
/// use infera_types::retry::Backoff;
///
/// const POLITE: Backoff = Backoff::doubling(Duration::from_millis(100), Duration::from_secs(5));
/// assert_eq!(POLITE.wait(1), Duration::from_millis(100));
/// assert_eq!(POLITE.wait(3), Duration::from_millis(400));
/// assert_eq!(POLITE.wait(60), Duration::from_secs(5));
/// // Those who failed together don't come back together.
/// assert!((POLITE.wait(3)..POLITE.wait(3) * 2).contains(&POLITE.spread(3)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits the same each time.
    #[must_use]
    pub const fn constant(wait: Duration) -> Self {
        Self { first: wait, longest: wait }
    }

    /// Waits `first` after the first failure and twice as long after each further one, up to `longest`.
    #[must_use]
    pub const fn doubling(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// Returns the wait after this many failures in a row.
    #[must_use]
    pub fn wait(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }

    /// Returns the wait after this many failures in a row, and up to as much again by chance.
    #[must_use]
    pub fn spread(self, failures: u32) -> Duration {
        let wait = self.wait(failures);
        // A fresh hasher's keys are random, which is chance enough to spread those who wait.
        let nanoseconds = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).max(1);
        wait + Duration::from_nanos(RandomState::new().hash_one(failures) % nanoseconds)
    }
}

/// Tries an operation until it succeeds or `again` says that it isn't tried again, and waits in between. `again` is given the
/// error and how many tries have failed; it is the place to log from. Dropping the future ends the trying.
///
/// ```
/// # tokio_test(async {
/// use std::time::Duration;
/// use infera_types::retry::{Backoff, retry};
///
/// let mut answers = [Err("away"), Err("away"), Ok(3)].into_iter();
/// let answer = retry(
///     Backoff::constant(Duration::from_millis(1)),
///     || std::future::ready(answers.next().unwrap_or(Err("silent"))),
///     |error: &&str, failures| *error == "away" && failures < 5,
/// );
/// assert_eq!(answer.await, Ok(3));
/// # });
/// # fn tokio_test(doctest: impl Future<Output = ()>) {
/// #     tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(doctest);
/// # }
/// ```
///
/// # Errors
/// The last try's, where `again` ended the trying.
pub async fn retry<T, E, F: Future<Output = Result<T, E>>>(
    backoff: Backoff,
    mut attempt: impl FnMut() -> F,
    mut again: impl FnMut(&E, u32) -> bool,
) -> Result<T, E> {
    let mut failures = 0_u32;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        failures = failures.saturating_add(1);
        if !again(&error, failures) {
            return Err(error);
        }
        tokio::time::sleep(backoff.wait(failures)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_never_overflow() {
        let doubling = Backoff::doubling(Duration::from_millis(100), Duration::from_secs(5));
        let waits: Vec<u128> = (0..=8).map(|failures| doubling.wait(failures).as_millis()).collect();
        assert_eq!(waits, [100, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(doubling.wait(u32::MAX), Duration::from_secs(5));
        let endless = Backoff::doubling(Duration::from_secs(1), Duration::MAX);
        assert_eq!(endless.wait(u32::MAX), Duration::from_secs(1 << 31));
        assert_eq!(Backoff::constant(Duration::from_millis(250)).wait(7), Duration::from_millis(250));
        assert_eq!(Backoff::constant(Duration::ZERO).spread(1), Duration::ZERO);
        let spread: std::collections::BTreeSet<Duration> = (0..32).map(|_| doubling.spread(5)).collect();
        assert!(spread.len() > 8, "{spread:?}");
        assert!(spread.iter().all(|wait| (1_600..3_200).contains(&wait.as_millis())), "{spread:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_is_tried_until_it_succeeds_or_is_given_up() {
        let began = Instant::now();
        let backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(3));
        let mut heard = Vec::new();
        let given_up: Result<(), _> = retry(
            backoff,
            async || Err("no"),
            |_, failures| {
                heard.push(failures);
                failures < 4
            },
        )
        .await;
        assert_eq!((given_up, heard), (Err("no"), vec![1, 2, 3, 4]));
        assert_eq!(began.elapsed(), Duration::from_secs(1 + 2 + 3));
        assert_eq!(retry(backoff, async || Ok::<_, &str>(7), |_, _| true).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_away_is_waited_for_and_what_is_refused_is_not() {
        let shutdown = Shutdown::new();
        let mut tries = 0;
        let there = wait_for("it", &shutdown, async || {
            tries += 1;
            if tries < 5 { Try::Away("away") } else { Try::Done(tries) }
        });
        assert_eq!(there.await.unwrap(), Some(5));
        let refused = wait_for("it", &shutdown, async || Try::<(), _>::Refused("wrong password")).await;
        assert_eq!(refused.unwrap_err().to_string(), "wrong password");
        shutdown.cancel();
        let ended = wait_for("it", &shutdown, async || Try::<(), _>::Away("away")).await;
        assert!(ended.unwrap().is_none());
    }
}
