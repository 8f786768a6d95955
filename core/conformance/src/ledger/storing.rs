//! Checks how much of the ledger requests may take.

use tokio::task::JoinSet;

use super::sample::{NEW, ended, new_job};
use super::{Halves, at, must};
use infera_ledger::{Accepted, Idempotency, NewJob, RecordPlace, Room};
use infera_types::ids::{AccountId, Digest, JobId, SegmentId};
use infera_types::job::End;

/// Ends jobs, records them as archived, and prunes their bodies.
async fn end_and_prune(ledger: &Halves, jobs: &[&NewJob]) {
    for job in jobs {
        must(ledger.owner.settle(&ended(job, End::Expired)).await);
    }
    let segment = SegmentId::new();
    let claimed = must(ledger.index.claim(segment, 99, at(9_000), at(9_000)).await);
    let place = |(index, job): (u32, JobId)| RecordPlace {
        job,
        frame_offset: 0,
        frame_length: 9,
        index,
        hash: Digest::of(job.as_bytes()),
    };
    let places: Vec<_> = (0..).zip(claimed.iter().map(|record| record.job_id)).map(place).collect();
    must(ledger.index.record(segment, "jobs/one", &places).await);
    assert_eq!(must(ledger.pruning.prune(segment).await), jobs.len() as u64);
}

/// Neither one account nor all accounts together have more bytes than allowed. Ends make no room, pruning does; a job
/// that was accepted before is returned whatever room there is.
pub async fn requests_take_no_more_room_than_they_may(ledger: &Halves) {
    let bytes = new_job(&AccountId::fresh()).request.len() as u64;
    let room = Room { account_max_bytes: 3 * bytes, all_max_bytes: 5 * bytes };
    let job = |account: &AccountId| NewJob { room, ..new_job(account) };
    let accept = async |job: &NewJob| must(ledger.intake.accept(job.clone()).await);
    let (account, other) = (AccountId::fresh(), AccountId::fresh());
    let key = Idempotency { key: Digest::of(b"key"), fingerprint: Digest::of(b"body") };
    let jobs = [NewJob { idempotency: Some(key), ..job(&account) }, job(&account), job(&account)];
    for job in &jobs {
        assert_eq!(accept(job).await, NEW);
    }
    assert_eq!(accept(&job(&account)).await, Accepted::NoRoomForAccount { stored: 3 * bytes });
    assert_eq!(accept(&jobs[1]).await, Accepted::Existing(jobs[1].id), "stored and counted once");
    let again = NewJob { idempotency: Some(key), ..job(&account) };
    assert_eq!(accept(&again).await, Accepted::Existing(jobs[0].id));
    for _ in 0..2 {
        assert_eq!(accept(&job(&other)).await, NEW);
    }
    assert_eq!(accept(&job(&other)).await, Accepted::NoRoom { stored: 5 * bytes });
    let small = NewJob { request: Vec::new(), ..job(&other) };
    assert_eq!(accept(&small).await, NEW, "what takes no room has room");

    must(ledger.intake.cancel(&account, jobs[0].id, at(5)).await);
    assert_eq!(accept(&job(&account)).await, Accepted::NoRoomForAccount { stored: 3 * bytes });
    end_and_prune(ledger, &[&jobs[0], &jobs[1], &jobs[2]]).await;
    for _ in 0..3 {
        assert_eq!(accept(&job(&account)).await, NEW);
    }
    assert_eq!(accept(&job(&account)).await, Accepted::NoRoomForAccount { stored: 3 * bytes });
    let unbounded = NewJob { room: Room::UNBOUNDED, ..job(&account) };
    assert_eq!(accept(&unbounded).await, NEW);
    assert_eq!(accept(&job(&AccountId::fresh())).await, Accepted::NoRoom { stored: 6 * bytes });
}

/// However callers interleave, as many jobs are accepted as there is room for.
pub async fn room_is_counted_right_among_many_callers(ledger: &Halves) {
    let account = AccountId::fresh();
    let bytes = new_job(&account).request.len() as u64;
    for round in 1..=3 {
        let mut callers = JoinSet::new();
        for _ in 0..64 {
            let room = Room { account_max_bytes: 20 * round * bytes, all_max_bytes: u64::MAX };
            let (job, intake) = (NewJob { room, ..new_job(&account) }, ledger.intake.clone());
            callers.spawn(async move { must(intake.accept(job).await) });
        }
        let answers = callers.join_all().await;
        assert_eq!(answers.iter().filter(|answer| **answer == NEW).count(), 20, "round {round}");
    }
}
