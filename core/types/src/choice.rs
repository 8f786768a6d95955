//! Which of a request's answers a job is. A request for several answers is as many jobs, whose ids differ in their last
//! three bits alone, so that each of them says which the others are.

use crate::ids::JobId;

/// The most answers that one request may ask for: as many as three bits tell apart.
pub const CHOICES_MAX: u32 = 8;

/// The bits of an id's last byte that tell the jobs of one request apart.
const BITS: u8 = 0b111;

/// Which of how many answers a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its number, counted from 0.
    pub index: u32,
    /// How many answers its request asks for, from 1 to [`CHOICES_MAX`].
    pub count: u32,
}

impl Choice {
    /// The only answer of a request.
    pub const ONLY: Self = Self { index: 0, count: 1 };

    /// Returns whether it is the only answer of its request.
    #[must_use]
    pub const fn is_only(self) -> bool {
        self.count <= 1
    }

    /// Returns new ids for the jobs of a request for `count` answers, in the order of the answers.
    #[must_use]
    pub fn new_ids(count: u32) -> Vec<JobId> {
        Self { index: 0, count }.all(JobId::new())
    }

    /// Returns the id of the first job of the request that `job` belongs to.
    #[must_use]
    pub fn first(self, job: JobId) -> JobId {
        if self.is_only() { job } else { numbered(job, 0) }
    }

    /// Returns the ids of all jobs of the request that `job` belongs to, in the order of the answers.
    #[must_use]
    pub fn all(self, job: JobId) -> Vec<JobId> {
        if self.is_only() {
            return vec![job];
        }
        (0..=BITS).zip(0..self.count).map(|(number, _)| numbered(job, number)).collect()
    }

    /// Returns the ids of the other jobs of the request that `job` belongs to.
    #[must_use]
    pub fn others(self, job: JobId) -> Vec<JobId> {
        self.all(job).into_iter().filter(|other| *other != job).collect()
    }
}

fn numbered(job: JobId, number: u8) -> JobId {
    let mut bytes = *job.as_bytes();
    bytes[15] = (bytes[15] & !BITS) | number;
    JobId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_of_a_request_names_all() {
        for count in 1..=CHOICES_MAX {
            let ids = Choice::new_ids(count);
            assert_eq!(ids.len(), usize::try_from(count).unwrap());
            for (index, id) in (0..).zip(&ids) {
                let choice = Choice { index, count };
                assert_eq!((choice.first(*id), choice.all(*id)), (ids[0], ids.clone()), "{count} {index}");
                assert_eq!(choice.others(*id).len() + 1, ids.len());
                assert!(!choice.others(*id).contains(id));
            }
            let different: std::collections::HashSet<_> = ids.iter().collect();
            assert_eq!(different.len(), ids.len());
        }
        let job = JobId::new();
        assert_eq!(Choice::ONLY.all(job), [job], "the id of an only job has any bits");
    }
}
