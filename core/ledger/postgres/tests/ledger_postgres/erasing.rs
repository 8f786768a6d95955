//! Tests that an order to erase an account's jobs misses none that another connection is accepting meanwhile.

use std::time::Duration;

use infera_ledger::{
    Accepted, AccountBook as _, Erasing as _, ErasureOrders as _, Idempotency, JobIntake as _, JobOwner as _,
    JobReader as _, NewJob,
};
use infera_types::ids::Digest;
use infera_types::job::End;

use super::schema::{Schema, connect, server};
use super::{ended, new_job, now};

/// Begins a transaction whose locks end by themselves after a while, because a failed test could not drop its schema otherwise.
const BEGIN: &str = "SET idle_in_transaction_session_timeout = '20s'; BEGIN";

/// Two jobs are accepted on two connections. The one with the lower id is stored and not committed yet when the order comes and looks
/// for jobs: it sees the other one alone, and ids behind that are not looked at again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_being_accepted_is_not_missed_by_an_order() {
    let schema = Schema::make().await;
    let ledger = schema.ledger().await;
    let account = ledger.sign_up("erased@example.org", None, now()).await.expect("an account").account;
    let idempotency = Some(Idempotency { key: Digest::of(b"k"), fingerprint: Digest::of(b"f") });
    let slow = NewJob { idempotency, ..new_job(&account) };
    let quick = new_job(&account);
    assert!(slow.id < quick.id);
    ledger.accept(quick.clone()).await.expect("accepted");

    // Its key is being used elsewhere, so that its row is stored, and its commit waits.
    let holder = connect(&schema.within(&server())).await;
    holder.batch_execute(BEGIN).await.expect("a transaction");
    let use_key = "INSERT INTO idempotency (account, key, fingerprint, job_id) VALUES ($1, $2, $3, $4)";
    let key = Digest::of(b"k");
    let (key, job) = (&key.as_bytes()[..], &quick.id.as_bytes()[..]);
    holder.execute(use_key, &[&account.as_str(), &key, &key, &job]).await.expect("a key");
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
    let accepting = tokio::spawn({
        let (ledger, slow) = (ledger.clone(), slow.clone());
        async move { ledger.accept(slow).await }
    });
    let held_up = format!("SELECT COUNT(*) FROM pg_stat_activity WHERE {pid} = ANY(pg_blocking_pids(pid))");
    let waits = async { while schema.number(&held_up).await == 0 {} };
    tokio::time::timeout(Duration::from_secs(4), waits).await.expect("it waits");

    let later = now().after(Duration::from_millis(1));
    let find = async || while ledger.find_ordered(9, later).await.expect("a ledger") > 0 {};
    let order = tokio::spawn({
        let (ledger, account) = (ledger.clone(), account.clone());
        async move { ledger.erase_account(&account, later).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    find().await;
    holder.batch_execute("ROLLBACK").await.expect("the key is free");
    let accepted = accepting.await.expect("no panic").expect("accepted");
    assert_eq!(accepted, Accepted::New { is_held: false });
    order.await.expect("no panic").expect("a ledger").expect("the account");
    find().await;

    for job in [&slow, &quick] {
        ledger.settle(&ended(job, End::cancelled())).await.expect("it ends");
    }
    while ledger.erase_text(9, later).await.expect("a ledger") > 0 {}
    for (job, which) in [(&quick, "the quick one"), (&slow, "the slow one")] {
        let view = ledger.job(&account, job.id).await.expect("a ledger").expect("the job");
        assert!(view.kept.erased_ms.is_some(), "the text of {which} is gone");
    }
}
