//! Trying until what is away at start is there.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::shutdown::Shutdown;

/// Between two tries of what is away at start.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How long until the log repeats what is waited for.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// What came of one try.
#[derive(Debug)]
pub enum Try<T, E> {
    /// It is there.
    Done(T),
    /// It is away; it may come back.
    Away(E),
    /// It won't be had like this, however often it is tried.
    Refused(E),
}

/// Tries until `what` is there, saying what is waited for; none if the shutdown came first.
///
/// # Errors
/// What the last try said, where [`Try::Refused`] ended it.
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
                    tracing::warn!(%error, "waiting for {what}; tried again each second");
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

#[cfg(test)]
mod tests {
    use super::*;

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
