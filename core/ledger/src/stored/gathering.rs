//! How settled records are gathered in segments of the archive, the same for every implementation with tables.

use std::time::Duration;

use infera_types::time::Timestamp;

use super::columns::millis;
use super::latest;

/// How many times as long records with a retention wait for a whole segment. There may be as many retentions as days in a year and each
/// fills segments of its own: by the wait of the others they would be thousands of small objects an hour. Their bodies are in the ledger
/// meanwhile, as for a day anyway.
const RETAINED_WAITS: u32 = 120;

/// The longest of these waits, and the time that the records of a segment with a retention may lie apart: a segment is deleted when its
/// newest record's time is over, so that the text of the others stays in the archive for this long beyond theirs.
const RETAINED_SPAN: Duration = Duration::from_secs(60 * 60);

/// How records of one retention are gathered in segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathering {
    /// Records that were settled by then wait no longer for a whole segment.
    pub ripe_ms: i64,
    /// The time by which the records of one segment may lie apart, in milliseconds. Where they lie further apart the oldest is ripe.
    pub span_ms: i64,
}

impl Gathering {
    /// Returns how records that are kept for ever are gathered if they are ripe by `ripe`.
    #[must_use]
    pub fn kept(ripe: Timestamp) -> Self {
        // Added to a time it is still a number.
        Self { ripe_ms: millis(ripe), span_ms: i64::MAX / 4 }
    }

    /// Returns how records with a retention are gathered if others are ripe by `ripe`.
    #[must_use]
    pub fn retained(ripe: Timestamp, now: Timestamp) -> Self {
        let wait = now.since(ripe);
        let wait = wait.max(wait.saturating_mul(RETAINED_WAITS).min(RETAINED_SPAN));
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let ripe = Timestamp::from_millis(now.as_millis().saturating_sub(wait_ms));
        let span = latest(now).since(ripe).max(RETAINED_SPAN);
        Self { ripe_ms: millis(ripe), span_ms: i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4) }
    }
}
