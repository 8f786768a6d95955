//! `GET /network_stats`: counts of the whole network.

use std::time::{Duration, Instant};

use infera_ledger::Statistics;
use infera_types::time::Timestamp;

use crate::accept::Failure;
use crate::error::ApiError;
use crate::layers::Call;
use crate::reply::Reply;

/// How long a count is shared: counting may read much of the ledger, and counts a second apart can't be told apart.
const TTL: Duration = Duration::from_secs(1);

/// The counts. Clients that ask at the same time wait for one count and share it.
///
/// # Errors
/// The ledger being away.
pub async fn network(call: Call) -> Result<Reply, Failure> {
    let statistics: Statistics = {
        let mut cached = call.state.statistics.lock().await;
        match cached.as_ref() {
            Some((since, statistics)) if since.elapsed() < TTL => *statistics,
            _ => {
                let read = call.state.seams.reader.statistics(Timestamp::now()).await;
                let statistics = read.map_err(|error| {
                    tracing::error!(%error, "the network's counts could not be read");
                    ApiError::LedgerAway
                })?;
                *cached = Some((Instant::now(), statistics));
                statistics
            }
        }
    };
    Ok(Reply::json(&statistics)?)
}
