//! Sleeping by the clock that deadlines are on.

use infera_types::time::Timestamp;

/// Sleeps until a time of the wall clock.
pub(super) async fn sleep_until(time: Timestamp) {
    tokio::time::sleep(time.since(Timestamp::now())).await;
}
