//! Sleeps by the wall clock, by which deadlines are given.

use infera_types::time::Timestamp;

/// Sleeps until a time of the wall clock.
pub(super) async fn sleep_until(time: Timestamp) {
    tokio::time::sleep(time.since(Timestamp::now())).await;
}
