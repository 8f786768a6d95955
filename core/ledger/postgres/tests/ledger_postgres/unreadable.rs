//! Rows that this version doesn't understand, as a later one may write them.

use infera_conformance::ledger::{
    Halves, an_unreadable_group_keeps_no_other_waiting, an_unreadable_job_keeps_no_other,
};
use infera_types::ids::JobId;

use super::{Schema, connect, server};

#[tokio::test]
async fn an_unreadable_group_keeps_no_other() {
    let schema = Schema::make().await;
    let halves = Halves::of(&schema.ledger().await);
    let sql = "UPDATE groups SET record = '{'::bytea WHERE job_id = $1";
    an_unreadable_group_keeps_no_other_waiting(&halves, async |job| spoil(&schema, sql, job).await).await;
}

#[tokio::test]
async fn an_unreadable_job_is_passed_by() {
    let schema = Schema::make().await;
    let halves = Halves::of(&schema.ledger().await);
    let sql = "UPDATE jobs SET misses = '{' WHERE id = $1";
    an_unreadable_job_keeps_no_other(&halves, async |job| spoil(&schema, sql, job).await).await;
}

async fn spoil(schema: &Schema, sql: &str, job: JobId) {
    let client = connect(&schema.within(&server())).await;
    assert_eq!(client.execute(sql, &[&&job.as_bytes()[..]]).await.expect("update"), 1);
}
