//! Decides which jobs a page of a list has, the same for every implementation with tables: those read rows in the
//! list's order, a chunk at a time, and are told when to stop. Also the stored form of metadata. No SQL.

use super::{JobFilter, JobPage, LedgerError, ListedJob, MANY_MAX, Metadata};
use crate::stored::{from_json, to_json};
use infera_types::ids::JobId;

/// How many rows are examined for one page. A filter that few jobs pass ends its page here, so that one request reads
/// a bounded part of an account's jobs.
pub const EXAMINED_MAX: u32 = 10_000;

/// How many rows are read at a time behind a filter. With the longest metadata they take some 4 MB.
const CHUNK: u32 = 500;

/// A page that is being collected.
#[derive(Debug)]
pub struct Listing<'a> {
    filter: &'a JobFilter,
    limit: usize,
    examined: u32,
    last: Option<JobId>,
    is_over: bool,
    jobs: Vec<ListedJob>,
}

impl<'a> Listing<'a> {
    /// Begins a page of at most `limit` jobs behind the job `after`.
    #[must_use]
    pub fn begin(filter: &'a JobFilter, after: Option<JobId>, limit: u32) -> Self {
        let limit = usize::try_from(limit.clamp(1, MANY_MAX)).unwrap_or(1);
        Self { filter, limit, examined: 0, last: after, is_over: false, jobs: Vec::new() }
    }

    /// Returns the number of rows to read next and the job behind which they begin; none if the page is complete.
    #[must_use]
    pub fn wants(&self) -> Option<(u32, Option<JobId>)> {
        // One more than the page has shows whether the list goes on.
        if self.is_over || self.jobs.len() > self.limit {
            return None;
        }
        let left = EXAMINED_MAX.saturating_sub(self.examined);
        let missing = u32::try_from(self.limit + 1 - self.jobs.len()).unwrap_or(u32::MAX);
        let chunk = if *self.filter == JobFilter::default() { missing } else { CHUNK };
        (left > 0).then_some((chunk.min(left), self.last))
    }

    /// Takes the rows that were read, in the list's order. Fewer than were wanted are the last.
    pub fn take(&mut self, rows: Vec<ListedJob>) {
        let read = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        self.is_over = self.wants().is_none_or(|(wanted, _)| read < wanted);
        self.examined = self.examined.saturating_add(read);
        self.last = rows.last().map(|job| job.id).or(self.last);
        self.jobs.extend(rows.into_iter().filter(|job| admits(self.filter, job)));
    }

    /// Returns the page.
    #[must_use]
    pub fn page(self) -> JobPage {
        let Self { limit, last, is_over, mut jobs, .. } = self;
        let next = if jobs.len() > limit {
            jobs.truncate(limit);
            jobs.last().map(|job| job.id)
        } else if is_over {
            None
        } else {
            last
        };
        JobPage { jobs, next }
    }
}

/// Returns the bytes behind which a list begins that has no job to begin behind: before all ids, or after all if the
/// list runs from the newest.
#[must_use]
pub const fn edge(newest_first: bool) -> &'static [u8] {
    // One byte longer than any id.
    const AFTER_ALL: [u8; 17] = [0xff; 17];
    if newest_first { &AFTER_ALL } else { &[] }
}

/// Returns whether a filter shows a job.
#[must_use]
pub fn admits(filter: &JobFilter, job: &ListedJob) -> bool {
    let JobFilter { state, end, model, since, until, metadata } = filter;
    state.is_none_or(|state| job.state == state)
        && end.is_none_or(|end| job.end == Some(end))
        && model.as_ref().is_none_or(|model| job.model == *model)
        && since.is_none_or(|since| job.accepted_ms >= since)
        && until.is_none_or(|until| job.accepted_ms < until)
        && metadata.iter().all(|(key, value)| job.metadata.get(key) == Some(value))
}

/// Returns metadata as it is stored; none if there are no pairs.
///
/// # Errors
/// [`LedgerError::Row`]: a text has U+0000.
pub fn metadata_text(metadata: &Metadata) -> Result<Option<String>, LedgerError> {
    if metadata.is_empty() {
        return Ok(None);
    }
    if metadata.iter().any(|(key, value)| key.contains('\0') || value.contains('\0')) {
        return Err(LedgerError::Row("metadata contains U+0000, which cannot be stored".to_owned()));
    }
    to_json(metadata).map(Some)
}

/// Returns the metadata that was stored as `text`.
///
/// # Errors
/// [`LedgerError::Row`] if it cannot be read.
pub fn metadata_of(text: Option<&str>) -> Result<Metadata, LedgerError> {
    text.map_or_else(|| Ok(Metadata::new()), |text| from_json("metadata", text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use infera_types::ids::ModelName;
    use infera_types::time::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::{EndKind, JobState};

    fn job(number: u32, marks: u8) -> ListedJob {
        let mut id = [0; 16];
        id[12..].copy_from_slice(&number.to_be_bytes());
        let has_ended = marks & 1 == 1;
        ListedJob {
            id: JobId::from_bytes(id),
            model: ModelName::new(if marks & 2 == 2 { "m" } else { "n" }),
            state: if has_ended { JobState::Ended } else { JobState::Queued },
            end: has_ended.then_some(EndKind::Failed),
            accepted_ms: Timestamp::from_millis(u64::from(number)),
            deadline_ms: Timestamp::from_millis(u64::from(number) + 9),
            settled_ms: None,
            kept: crate::Kept::WHOLE,
            metadata: (marks & 4 == 4).then(|| ("key".to_owned(), "value".to_owned())).into_iter().collect(),
        }
    }

    fn page(rows: &[ListedJob], filter: &JobFilter, after: Option<JobId>, limit: u32) -> JobPage {
        let mut listing = Listing::begin(filter, after, limit);
        while let Some((wanted, after)) = listing.wants() {
            let behind = rows.iter().filter(|row| after.is_none_or(|after| row.id > after));
            listing.take(behind.take(usize::try_from(wanted).unwrap()).cloned().collect());
        }
        listing.page()
    }

    fn filters() -> Vec<JobFilter> {
        let none = JobFilter::default();
        let metadata = [("key".to_owned(), "value".to_owned())].into_iter().collect();
        vec![
            none.clone(),
            JobFilter { state: Some(JobState::Queued), ..none.clone() },
            JobFilter { end: Some(EndKind::Failed), ..none.clone() },
            JobFilter { model: Some(ModelName::new("m")), metadata, ..none.clone() },
            JobFilter {
                since: Some(Timestamp::from_millis(3)),
                until: Some(Timestamp::from_millis(9)),
                ..none
            },
        ]
    }

    proptest! {
        #[test]
        fn pages_of_any_size_make_the_whole_list(
            marks in prop::collection::vec(0_u8..8, 0..40),
            filter in prop::sample::select(filters()),
            limit in 1_u32..12,
        ) {
            let rows: Vec<ListedJob> = (0..).zip(&marks).map(|(number, marks)| job(number, *marks)).collect();
            let expected: Vec<ListedJob> = rows.iter().filter(|row| admits(&filter, row)).cloned().collect();
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let page = page(&rows, &filter, after, limit);
                prop_assert!(page.jobs.len() <= usize::try_from(limit).unwrap());
                all.extend(page.jobs);
                after = page.next;
                if after.is_none() { break; }
            }
            prop_assert_eq!(all, expected);
        }
    }

    #[test]
    fn a_page_examines_a_bounded_number_of_jobs() {
        let rows: Vec<ListedJob> = (0..EXAMINED_MAX + 700).map(|number| job(number, 0)).collect();
        let filter = JobFilter { end: Some(EndKind::Failed), ..JobFilter::default() };
        let first = page(&rows, &filter, None, 10);
        let last_examined = usize::try_from(EXAMINED_MAX).unwrap() - 1;
        assert_eq!((first.jobs.len(), first.next), (0, Some(rows[last_examined].id)));
        assert_eq!(page(&rows, &filter, first.next, 10), JobPage::default());
    }

    #[test]
    fn metadata_is_read_back_and_cannot_have_zeros() {
        let metadata: Metadata = [("a\"b".to_owned(), "é\n".to_owned())].into_iter().collect();
        let text = metadata_text(&metadata).unwrap();
        assert_eq!(metadata_of(text.as_deref()).unwrap(), metadata);
        assert_eq!(metadata_text(&Metadata::new()).unwrap(), None);
        assert_eq!(metadata_of(None).unwrap(), Metadata::new());
        for pair in [("a\0", "b"), ("a", "\0")] {
            let metadata = [(pair.0.to_owned(), pair.1.to_owned())].into_iter().collect();
            assert!(matches!(metadata_text(&metadata), Err(LedgerError::Row(_))));
        }
    }
}
