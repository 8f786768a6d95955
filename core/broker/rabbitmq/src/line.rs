//! One connection while it lasts, and the broker's answers on it, each under a time limit.

use std::time::Duration;

use lapin::Connection;
use tokio::time::{Instant, timeout};

use super::terms::Refusal;

/// How long the broker may take for one answer. A healthy broker takes milliseconds; a quorum queue without a leader
/// never answers.
const ANSWER: Duration = Duration::from_secs(5);

/// How long the deletion of a queue may take. A queue without a leader takes longer than [`ANSWER`], and must be
/// deleted.
const DELETION: Duration = Duration::from_secs(20);

/// How long an answering broker may take to notice that a connection of ours has ended. If the line was cut silently,
/// it takes two heartbeats, and callers have to keep trying.
const INHERITANCE: Duration = Duration::from_secs(10);

/// One connection, with its number in its link's life.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) connection: Connection,
    /// The connection's number: what was declared as exclusive on an earlier one is gone.
    pub(super) epoch: u64,
    pub(super) since: Instant,
}

impl Line {
    /// Returns whether the broker may not have noticed yet that the previous connection ended. Until it does, that
    /// connection's exclusive queues seem to belong to another client.
    pub(super) fn is_fresh_heir(&self) -> bool {
        self.epoch > 1 && self.since.elapsed() < INHERITANCE
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }
}

/// Awaits one answer of the broker, for a limited time.
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

/// Awaits one answer about a queue, for a limited time. If none comes, the connection is tried with another question:
/// if the broker answers that, it has the queue, but the queue has no leader.
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

/// Awaits the deletion of a queue, for which the broker searches for each of the queue's replicas for a while.
pub(super) async fn answer_of_deletion<T>(
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Refusal> {
    answer_within(DELETION, asked).await
}
