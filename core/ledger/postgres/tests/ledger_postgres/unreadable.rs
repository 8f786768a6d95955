//! Tests rows that this version doesn't understand, as a later one may write them, and rows that a disk returns
//! changed.

use infera_conformance::ledger::{
    Halves, a_changed_answer_is_never_given_out, a_changed_group_judges_nobody,
    a_changed_request_is_never_given_out, a_segment_of_damaged_records_is_none,
    an_unreadable_group_keeps_no_other_waiting, an_unreadable_job_keeps_no_other,
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

const ANSWER: &str =
    "UPDATE settlements SET settlement = replace(settlement, '12 is', '13 is') WHERE job_id = $1";

#[tokio::test]
async fn a_changed_answer_is_refused() {
    let schema = Schema::make().await;
    let halves = Halves::of(&schema.ledger().await);
    a_changed_answer_is_never_given_out(&halves, async |job| spoil(&schema, ANSWER, job).await).await;
}

#[tokio::test]
async fn damaged_records_make_no_segment() {
    let schema = Schema::make().await;
    let halves = Halves::of(&schema.ledger().await);
    a_segment_of_damaged_records_is_none(&halves, async |job| spoil(&schema, ANSWER, job).await).await;
}

#[tokio::test]
async fn a_changed_request_is_refused() {
    let schema = Schema::make().await;
    let halves = Halves::of(&schema.ledger().await);
    let sql =
        "UPDATE jobs SET request = replace(convert_from(request, 'UTF8'), ':8,', ':9,')::bytea WHERE id = $1";
    a_changed_request_is_never_given_out(&halves, async |job| spoil(&schema, sql, job).await).await;
}

#[tokio::test]
async fn a_changed_group_is_refused() {
    let schema = Schema::make().await;
    let halves = Halves::of(&schema.ledger().await);
    let sql = "UPDATE groups SET record = replace(convert_from(record, 'UTF8'), ':2.5', ':2.75')::bytea WHERE job_id = $1";
    a_changed_group_judges_nobody(&halves, async |job| spoil(&schema, sql, job).await).await;
}

async fn spoil(schema: &Schema, sql: &str, job: JobId) {
    let client = connect(&schema.within(&server())).await;
    assert_eq!(client.execute(sql, &[&&job.as_bytes()[..]]).await.expect("update"), 1);
}
