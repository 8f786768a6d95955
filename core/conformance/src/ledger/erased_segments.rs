//! Checks what becomes of segments with erased jobs that can't be rewritten at once, or are written again.

#![expect(clippy::expect_used, reason = "a check fails by panicking")]

use super::archiving::places;
use super::erasing::{answered, archive};
use super::sample::{accept_at, succeeded};
use super::{Halves, at, must};
use infera_ledger::{Keeping, Replacement};
use infera_types::ids::AccountId;
use infera_types::job::Settlement;

/// An account's text that lies in a segment whose rewriting was put off is not gone, and neither is one whose old object is there.
pub async fn an_account_is_not_erased_while_a_segment_waits(ledger: &Halves) {
    let account = must(ledger.accounts.sign_up("waits@example.org", None, at(0)).await).account;
    let job = accept_at(ledger, &account, 500).await;
    must(ledger.owner.settle(&Settlement { settled_ms: at(1_000), ..succeeded(&job) }).await);
    let (segment, jobs) = archive(ledger, "jobs/waits", 5_000).await;
    must(ledger.erasures.erase_account(&account, at(5_000)).await);
    while must(ledger.erasing.find_ordered(9, at(5_000)).await) > 0 {}
    assert_eq!(must(ledger.erasing.erase_text(9, at(5_000)).await), 1);
    let seen = async |now: u64| {
        let erasure = must(ledger.erasures.account_erasure(&account, at(now)).await).expect("an order");
        (erasure.word(), erasure.pending)
    };
    assert_eq!(seen(5_000).await, ("erasing", 1));
    must(ledger.erasing.postpone(segment, at(99_000)).await);
    assert_eq!(seen(6_000).await, ("erasing", 1), "put off");
    let replacement = Replacement {
        segment,
        old_key: "jobs/waits".to_owned(),
        key: "jobs/waits.r1".to_owned(),
        places: places(&jobs),
        erased: vec![job.id],
    };
    assert!(must(ledger.segments.replace(&replacement).await));
    assert_eq!(seen(6_000).await, ("erasing", 1), "replaced");
    must(ledger.segments.forget_replaced(segment, at(7_000)).await);
    assert_eq!(seen(7_000).await, ("erased", 0));
}

/// A segment that was rewritten and is written again under its first key leaves no object of the rewriting behind.
pub async fn a_rewritten_segment_that_is_kept_is_written_again(ledger: &Halves) {
    let job = answered(ledger, &AccountId::fresh(), Keeping::default(), 1_000).await;
    let (segment, jobs) = archive(ledger, "jobs/kept", 5_000).await;
    must(ledger.erasures.erase_job(None, job.id, at(5_000)).await);
    must(ledger.erasing.erase_text(9, at(5_000)).await);
    let key = "jobs/kept.r1".to_owned();
    let replacement = Replacement {
        segment,
        old_key: "jobs/kept".to_owned(),
        key,
        places: places(&jobs),
        erased: jobs.clone(),
    };
    assert!(must(ledger.segments.replace(&replacement).await));
    let prunable = async || must(ledger.pruning.prunable(at(9_000), at(9_000), 9, &[]).await);
    assert!(prunable().await.is_empty(), "its old object is to be removed first");
    must(ledger.segments.forget_replaced(segment, at(6_000)).await);
    assert_eq!(prunable().await.len(), 1);
    assert!(must(ledger.pruning.keep(segment).await), "it will be written again");
    assert!(must(ledger.pruning.keep(segment).await), "the same again changes nothing");
    assert!(must(ledger.segments.replaced(9).await).is_empty(), "not before it is written");
    must(ledger.index.record(segment, "jobs/kept", &places(&jobs)).await);
    let replaced = must(ledger.segments.replaced(9).await);
    assert_eq!((replaced.len(), replaced[0].key.as_str(), replaced[0].is_in_use), (1, "jobs/kept.r1", false));
    must(ledger.segments.forget_replaced(segment, at(7_000)).await);
    assert!(must(ledger.segments.replaced(9).await).is_empty());
}
