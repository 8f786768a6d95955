//! `GET /network_stats`: counts of the whole network.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_ledger::{JobReader, Statistics};
use infera_types::time::Timestamp;

use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::operation::{Group, Operation, Shape, always, json};
use crate::api::reply::Reply;

/// `GET /network_stats`.
pub(crate) static NETWORK: Operation = Operation {
    id: "networkStats",
    group: Group::Own,
    summary: "Count the network's jobs, tokens and nodes",
    about: "Counts since the ledger began. They are at most a second old.",
    parameters: &[],
    body: None,
    reply: json(
        "The counts.",
        Shape::Members(&[
            always("accepted", Shape::Count, "Jobs that were accepted."),
            always("queued", Shape::Count, "Jobs that wait."),
            always("running", Shape::Count, "Jobs that a verifier has."),
            always("succeeded", Shape::Count, "Jobs that ended with an answer."),
            always("failed", Shape::Count, "Jobs that failed."),
            always("cancelled", Shape::Count, "Jobs that were cancelled."),
            always("expired", Shape::Count, "Jobs whose deadline passed."),
            always("prompt_tokens", Shape::Count, "Tokens of all prompts that were answered."),
            always("completion_tokens", Shape::Count, "Tokens of all answers."),
            always("nodes", Shape::Count, "Nodes that are registered and not revoked."),
            always("disputed", Shape::Count, "Jobs with an open dispute."),
        ]),
    ),
    errors: &[],
};

/// How long a count is shared. Counting may read much of the ledger, and counts that are a second apart look the same
/// to clients.
const TTL: Duration = Duration::from_secs(1);

/// The network's counts, with the time at which they were made.
#[derive(Debug)]
pub(crate) struct NetworkCounts {
    reader: Arc<dyn JobReader>,
    last: tokio::sync::Mutex<Option<(Instant, Statistics)>>,
}

impl NetworkCounts {
    /// Makes counts that were never read.
    pub(crate) fn new(reader: Arc<dyn JobReader>) -> Self {
        Self { reader, last: tokio::sync::Mutex::default() }
    }

    /// Returns the counts. Clients that ask at the same time wait for one count and share it.
    async fn count(&self) -> Result<Statistics, ApiError> {
        let mut last = self.last.lock().await;
        match *last {
            Some((since, statistics)) if since.elapsed() < TTL => Ok(statistics),
            _ => {
                let statistics = self.reader.statistics(Timestamp::now()).await.map_err(|error| {
                    tracing::error!(%error, "the network's counts could not be read");
                    ApiError::from(&error)
                })?;
                *last = Some((Instant::now(), statistics));
                Ok(statistics)
            }
        }
    }
}

/// Shows the counts.
///
/// # Errors
/// The ledger's error.
pub(crate) async fn network(counts: &NetworkCounts) -> Result<Reply, Failure> {
    Ok(Reply::json(&counts.count().await?)?)
}
