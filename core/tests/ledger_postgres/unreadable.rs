//! Rows that this version doesn't understand, as a later one may write them.

use infera_core::ids::JobId;
use infera_core::ledger::conformance::{Halves, an_unreadable_group_keeps_no_other_waiting};

use super::{Schema, connect, server};

#[tokio::test]
async fn an_unreadable_group_keeps_no_other() {
    let schema = Schema::make().await;
    let halves = Halves::of(&schema.ledger().await);
    let spoil = async |job: JobId| {
        let client = connect(&schema.within(&server())).await;
        let sql = "UPDATE groups SET record = '{'::bytea WHERE job_id = $1";
        assert_eq!(client.execute(sql, &[&&job.as_bytes()[..]]).await.expect("update"), 1);
    };
    an_unreadable_group_keeps_no_other_waiting(&halves, spoil).await;
}
