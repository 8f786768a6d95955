//! Checks that an order to erase an account's jobs holds for those whose acceptance is under way.

#![expect(clippy::expect_used, reason = "a check fails by panicking")]

use super::sample::{accept_at, succeeded};
use super::{Halves, at, must};
use infera_types::job::Settlement;

/// A job that was accepted before the order, and whose commit came after the order had looked for its jobs, is erased when it ends;
/// one that was accepted later stays.
pub async fn an_order_holds_for_jobs_that_are_committed_late(ledger: &Halves) {
    let account = must(ledger.accounts.sign_up("late@example.org", None, at(0)).await).account;
    must(ledger.erasures.erase_account(&account, at(2_000)).await).expect("the account");
    while must(ledger.erasing.find_ordered(9, at(2_100)).await) > 0 {}
    let late = accept_at(ledger, &account, 1_500).await;
    let after = accept_at(ledger, &account, 2_500).await;
    let seen = async || {
        let erasure = must(ledger.erasures.account_erasure(&account, at(9_000)).await).expect("an order");
        (erasure.word(), erasure.live, erasure.pending)
    };
    assert_eq!(seen().await, ("erasing", 1, 1));
    for job in [&late, &after] {
        must(ledger.owner.settle(&Settlement { settled_ms: at(3_000), ..succeeded(job) }).await);
    }
    assert_eq!(must(ledger.erasing.erase_text(9, at(9_000)).await), 1);
    assert_eq!(seen().await, ("erased", 1, 0));
    for (job, is_erased) in [(&late, true), (&after, false)] {
        let view = must(ledger.reader.job(&account, job.id).await).expect("the job");
        assert_eq!(view.kept.erased_ms.is_some(), is_erased);
    }
}
