//! Removes from the ledger what the archive holds, once it has read that the archive holds it: a store may lose what it took. Groups
//! leave first, bodies later. A segment that can't be checked is set aside and checked again later, after waits that grow, so that it
//! keeps no other back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use infera_archive::segment::{self, SegmentError};
use infera_archive::{Archive, ArchiveError};
use infera_ledger::{LedgerError, Pruning};
use infera_telemetry::metrics::{
    VERIFIER_ARCHIVE_FAILURES, VERIFIER_ARCHIVE_LOST, VERIFIER_PRUNED, VERIFIER_PRUNINGS_STUCK,
};
use infera_types::ids::SegmentId;
use infera_types::retry::Backoff;
use infera_types::time::Timestamp;
use metrics::counter;

/// Bounds the segments that are read and pruned before the lease is renewed. Reading one from its store takes a second at most.
const PRUNE_LIMIT: u32 = 16;

/// The longest wait for a segment that an operator has to mend: its bodies only take room meanwhile, and a line a day is seen.
const MENDED_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Bounds the segments that are set aside. The ledger passes over the records of all of them in each look, some seconds for a million
/// records; more than a thousand objects that can't be read are no longer single objects' trouble.
const ASIDE_MAX: usize = 1_000;

/// What is removed of a segment's jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The groups.
    Groups,
    /// The bodies, the keys, and the groups that are still there.
    Bodies,
}

/// What pruning needs, and which segments it has set aside.
pub(super) struct Pruner {
    pruning: Arc<dyn Pruning>,
    archive: Arc<dyn Archive>,
    aside: Aside,
    /// The waits of a segment that an operator has to mend.
    mended: Backoff,
    /// The waits of a segment whose object the archive can't give now.
    away: Backoff,
}

impl Pruner {
    /// Begins with nothing set aside. A segment that an operator has to mend is checked again after `mended` at first, one that the
    /// archive can't give now after `away`.
    pub(super) fn new(
        pruning: Arc<dyn Pruning>,
        archive: Arc<dyn Archive>,
        mended: Duration,
        away: Duration,
    ) -> Self {
        let aside = Aside::default();
        let away = Backoff::doubling(away, mended.max(away));
        let mended = Backoff::doubling(mended, MENDED_WITHIN.max(mended));
        Self { pruning, archive, aside, mended, away }
    }

    /// Removes a part of some segments that were settled before `expired` and are whole in the archive; false if there is nothing more
    /// to do now. One that isn't whole keeps what is there, and is written again if that is all.
    ///
    /// # Errors
    /// The ledger's.
    pub(super) async fn prune(&mut self, part: Part, expired: Timestamp) -> Result<bool, LedgerError> {
        let now = Timestamp::now();
        let without = self.aside.until_later(now);
        let segments = match part {
            Part::Groups => self.pruning.ungroupable(expired, now, PRUNE_LIMIT, &without).await?,
            Part::Bodies => self.pruning.prunable(expired, now, PRUNE_LIMIT, &without).await?,
        };
        let mut is_more = false;
        for archived in &segments {
            match segment::verify(&*self.archive, archived).await {
                Ok(()) => {
                    self.aside.forget(archived.segment);
                    self.remove(part, archived.segment).await?;
                }
                Err(error) if error.is_loss() => {
                    self.aside.forget(archived.segment);
                    let is_written_again = self.pruning.keep(archived.segment).await?;
                    counter!(VERIFIER_ARCHIVE_LOST).increment(1);
                    tracing::error!(
                        segment = %archived.segment, key = archived.key, records = archived.places.len(), is_written_again, %error,
                        "the archive lost a segment; what the ledger has of it stays"
                    );
                }
                Err(error) => {
                    if self.set_aside(archived.segment, &archived.key, &error, now) {
                        return Ok(false);
                    }
                }
            }
            is_more = true;
        }
        Ok(is_more)
    }

    async fn remove(&self, part: Part, segment: SegmentId) -> Result<(), LedgerError> {
        match part {
            Part::Groups => {
                self.pruning.ungroup(segment).await?;
            }
            Part::Bodies => counter!(VERIFIER_PRUNED).increment(self.pruning.prune(segment).await?),
        }
        Ok(())
    }

    /// Leaves a segment alone that can't be checked, and returns whether the whole archive may be away.
    fn set_aside(&mut self, segment: SegmentId, key: &str, error: &SegmentError, now: Timestamp) -> bool {
        counter!(VERIFIER_ARCHIVE_FAILURES).increment(1);
        if matches!(error, SegmentError::Archive(ArchiveError::Unavailable(_)) | SegmentError::CutOff) {
            let wait = self.aside.add(segment, self.away, now);
            tracing::warn!(%segment, key, %error, ?wait, "a segment can't be checked now; it isn't pruned");
            return true;
        }
        counter!(VERIFIER_PRUNINGS_STUCK).increment(1);
        let wait = self.aside.add(segment, self.mended, now);
        tracing::error!(
            %segment, key, %error, ?wait,
            "a segment can't be checked, so that its bodies stay in the ledger; mend its object or the archive's permissions, it is tried again"
        );
        false
    }
}

/// The segments that can't be checked, and until when each is left alone.
#[derive(Debug, Default)]
struct Aside(HashMap<SegmentId, Failures>);

/// How often in a row a segment could not be checked, and when it is checked again.
#[derive(Clone, Copy, Debug)]
struct Failures {
    times: u32,
    again: Timestamp,
}

impl Aside {
    /// Returns those that are left alone at `now`.
    fn until_later(&self, now: Timestamp) -> Vec<SegmentId> {
        self.0.iter().filter(|(_, failures)| failures.again > now).map(|(segment, _)| *segment).collect()
    }

    /// Sets a segment aside once more, and returns for how long. Where there are too many, the one whose time comes first is forgotten.
    fn add(&mut self, segment: SegmentId, waits: Backoff, now: Timestamp) -> Duration {
        if self.0.len() >= ASIDE_MAX && !self.0.contains_key(&segment) {
            let next = self.0.iter().min_by_key(|(_, failures)| failures.again).map(|(segment, _)| *segment);
            next.map(|next| self.0.remove(&next));
        }
        let times = self.0.get(&segment).map_or(0, |failures| failures.times).saturating_add(1);
        let wait = waits.wait(times);
        self.0.insert(segment, Failures { times, again: now.after(wait) });
        wait
    }

    fn forget(&mut self, segment: SegmentId) {
        self.0.remove(&segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_millis(milliseconds)
    }

    #[test]
    fn a_segment_is_left_alone_longer_each_time_and_begins_again_once_it_was_read() {
        let (mut aside, segment) = (Aside::default(), SegmentId::new());
        let waits = Backoff::doubling(Duration::from_millis(10), Duration::from_millis(30));
        let mut now = 0;
        for wait_ms in [10, 20, 30, 30] {
            assert_eq!(aside.add(segment, waits, at(now)), Duration::from_millis(wait_ms));
            assert_eq!(aside.until_later(at(now + wait_ms - 1)), [segment]);
            now += wait_ms;
            assert_eq!(aside.until_later(at(now)), []);
        }
        aside.forget(segment);
        assert_eq!(aside.add(segment, waits, at(now)), Duration::from_millis(10));
    }

    #[test]
    fn what_is_set_aside_is_bounded() {
        let mut aside = Aside::default();
        let waits = Backoff::constant(Duration::from_millis(10));
        let first = SegmentId::new();
        aside.add(first, waits, at(0));
        for number in 1..=ASIDE_MAX as u64 {
            aside.add(SegmentId::new(), waits, at(number));
        }
        let alone = aside.until_later(at(0));
        assert!(alone.len() == ASIDE_MAX && !alone.contains(&first));
    }
}
