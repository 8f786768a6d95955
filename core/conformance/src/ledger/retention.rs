//! Checks how records with a retention are gathered in segments.

use super::erasing::{answered, archive};
use super::{Halves, at, must};
use infera_ledger::{Keeping, NewJob};
use infera_types::ids::{AccountId, JobId, SegmentId};

const HOUR: u64 = 60 * 60 * 1_000;
const DAY: u64 = 24 * HOUR;
const WEEK: Keeping = Keeping { erase_after: None, retention_days: Some(7) };

async fn job(ledger: &Halves, keeping: Keeping, now: u64) -> NewJob {
    answered(ledger, &AccountId::fresh(), keeping, now).await
}

/// Records that could not be archived for hours lie in several segments, so that each goes when the time of its records is over. Those
/// without a retention, which stay, share one.
pub async fn a_segment_with_a_retention_spans_an_hour(ledger: &Halves) {
    let (first, second) = (job(ledger, WEEK, 1_000).await, job(ledger, WEEK, 1_000 + HOUR).await);
    let last = job(ledger, WEEK, 1_000 + 3 * HOUR).await;
    let kept = [
        job(ledger, Keeping::default(), 2_000).await,
        job(ledger, Keeping::default(), 2_000 + 3 * HOUR).await,
    ];
    // By a clock ahead: it counts as settled now.
    let ahead = job(ledger, WEEK, 9 * DAY).await;
    let mut segments = Vec::new();
    for key in ["jobs/a", "jobs/b", "jobs/c"] {
        segments.push(archive(ledger, key, 4 * HOUR).await.1);
    }
    let of = |jobs: &[&NewJob]| jobs.iter().map(|job| job.id).collect::<Vec<JobId>>();
    assert_eq!(segments[0], of(&[&first, &second, &ahead]));
    assert_eq!(segments[1], of(&[&kept[0], &kept[1]]));
    assert_eq!(segments[2], of(&[&last]));
    let expired = async |now: u64| {
        let expired = must(ledger.segments.expired(9, at(now)).await);
        expired.into_iter().map(|segment| segment.key).collect::<Vec<_>>()
    };
    assert_eq!(expired(3 * HOUR + 999 + 7 * DAY).await, Vec::<String>::new());
    assert_eq!(expired(3 * HOUR + 1_000 + 7 * DAY).await, ["jobs/c"]);
    assert_eq!(expired(4 * HOUR + 7 * DAY).await, ["jobs/c", "jobs/a"]);
}

/// Retentions may be many, and each has its own segments. So their records wait for a whole one for longer than others, and no longer
/// than an hour.
pub async fn records_with_a_retention_wait_longer_for_a_whole_segment(ledger: &Halves) {
    let (retained, kept) = (job(ledger, WEEK, 1_000).await, job(ledger, Keeping::default(), 2_000).await);
    let claim = async |limit, wait: u64, now: u64| {
        let records = must(ledger.index.claim(SegmentId::new(), limit, at(now - wait), at(now)).await);
        records.iter().map(|record| record.job_id).collect::<Vec<_>>()
    };
    assert_eq!(claim(9, 30_000, 32_000).await, [kept.id]);
    assert_eq!(claim(9, 30_000, HOUR + 999).await, []);
    assert_eq!(claim(9, 30_000, HOUR + 1_000).await, [retained.id]);
    let retained = [job(ledger, WEEK, HOUR).await, job(ledger, WEEK, HOUR + 1).await];
    assert_eq!(claim(3, 30_000, HOUR + 40_000).await, []);
    assert_eq!(claim(2, 30_000, HOUR + 40_000).await, retained.map(|job| job.id), "a whole one");
    let retained = job(ledger, WEEK, 2 * HOUR).await;
    assert_eq!(claim(9, 1_000, 2 * HOUR + 119_999).await, []);
    assert_eq!(claim(9, 1_000, 2 * HOUR + 120_000).await, [retained.id]);
}
