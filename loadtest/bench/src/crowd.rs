//! Many streams at once, read by one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::Fault;
use crate::client::stream::Streamed;
use crate::client::{Ask, Connection};

/// The pause between two arrivals, so that they are a stream of arrivals and not one burst.
const ARRIVAL_GAP: Duration = Duration::from_millis(5);
/// The pause between two looks whether all have begun.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What many streams at once were seen to do.
#[derive(Debug)]
pub struct Crowd {
    /// The times between two pieces of one stream's text.
    pub gaps: Vec<Duration>,
    /// The number of pieces of text.
    pub pieces: usize,
}

/// Reads all `asks` at once. `when_open` is called when each has text.
///
/// # Errors
/// A stream was not as expected, or ended before all had begun.
pub async fn crowd(
    asks: Vec<Ask>,
    when_open: impl AsyncFnOnce() -> Result<(), Fault>,
) -> Result<Crowd, Fault> {
    let (count, begun) = (asks.len(), Arc::new(AtomicUsize::new(0)));
    let mut reading = JoinSet::new();
    for ask in asks {
        let begun = Arc::clone(&begun);
        reading.spawn(async move {
            let mut is_first = true;
            let text = || {
                if std::mem::replace(&mut is_first, false) {
                    begun.fetch_add(1, Ordering::Relaxed);
                }
            };
            Connection::open(&ask).await?.stream(&ask, text).await
        });
        tokio::time::sleep(ARRIVAL_GAP).await;
    }
    let mut ended = Vec::new();
    while begun.load(Ordering::Relaxed) < count {
        tokio::time::sleep(LOOK_EVERY).await;
        while let Some(one) = reading.try_join_next() {
            ended.push(one??);
        }
        if ended.len() > count / 100 {
            return Err(format!("{} of {count} streams ended before all had begun", ended.len()).into());
        }
    }
    when_open().await?;
    while let Some(one) = reading.join_next().await {
        ended.push(one??);
    }
    let gaps = ended.iter().flat_map(Streamed::gaps).collect();
    Ok(Crowd { gaps, pieces: ended.iter().map(|one| one.texts.len()).sum() })
}
