//! How many replicas a job wants, as its row holds it: the number also tells whether the job may go to all nodes.

use crate::{NewJob, NodePool};

/// What is added to the number of replicas of a job that may not go to all nodes. Verifiers of the version before know no
/// pools of nodes and would send such a job to strangers; they read a larger number than a byte holds as the largest,
/// find too few nodes for it, and give the job back.
const OF_POOL: i16 = 256;

/// Returns the number by which a job's row holds how many replicas are wanted.
#[must_use]
pub fn replicas_number(job: &NewJob) -> i16 {
    let mark = if NodePool::of_share(job.standby.share.as_str()).is_open() { 0 } else { OF_POOL };
    i16::from(job.policy.replicas) + mark
}

/// Returns how many replicas a job's row wants.
#[must_use]
pub fn replicas_of(number: i64) -> u8 {
    let number = if number >= i64::from(OF_POOL) { number - i64::from(OF_POOL) } else { number };
    u8::try_from(number).unwrap_or(u8::MAX)
}
