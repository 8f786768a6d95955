//! One connection while it lasts, and the broker's answers on it, each in time.

use std::time::Duration;

use lapin::Connection;
use tokio::time::{Instant, timeout};

use super::terms::Refusal;

/// How long the broker may take for one answer. A healthy one takes milliseconds, a quorum queue without a leader for
/// ever.
const ANSWER: Duration = Duration::from_secs(5);

/// How long it may take to delete a queue. One without a leader takes longer than an answer, and has to go.
const DELETION: Duration = Duration::from_secs(20);

/// How long a broker that answers may take to notice that a connection of ours ended. If the line was cut without a
/// word, it takes two heartbeats, and callers have to go on trying.
const INHERITANCE: Duration = Duration::from_secs(10);

/// One connection, and which one in its link's life it is.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) connection: Connection,
    /// Counts connections: what was declared as exclusive on an earlier one is gone.
    pub(super) epoch: u64,
    pub(super) since: Instant,
}

impl Line {
    /// Whether the broker may not have noticed yet that the connection before this one ended: what was exclusive to
    /// that one seems to be taken by somebody else.
    pub(super) fn is_fresh_heir(&self) -> bool {
        self.epoch > 1 && self.since.elapsed() < INHERITANCE
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }
}

/// One answer of the broker, in time.
pub(super) async fn answer<T>(asked: impl Future<Output = lapin::Result<T>>) -> Result<T, Refusal> {
    answer_within(ANSWER, asked).await
}

async fn answer_within<T>(
    limit: Duration,
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Refusal> {
    match timeout(limit, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Refusal::Away(format!("no answer in {limit:?}"))),
    }
}

/// One answer about a queue, in time. If none comes the connection is asked for something else: a broker that answers
/// that has the queue, and the queue has no leader.
pub(super) async fn answer_of_queue<T>(
    line: &Line,
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Refusal> {
    match timeout(ANSWER, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => match answer(line.connection.create_channel()).await {
            Ok(_) => Err(Refusal::Stuck),
            Err(_) => Err(Refusal::Away(format!("no answer in {ANSWER:?}"))),
        },
    }
}

/// The deletion of a queue, for which the broker looks for the queue's replicas, each for a while.
pub(super) async fn answer_of_deletion<T>(
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Refusal> {
    answer_within(DELETION, asked).await
}
