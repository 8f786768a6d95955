//! Programs of the version before go on working on the tables that this version migrated.

use super::schema::{Schema, connect, server};

/// What the version before takes jobs by. It names columns of its own that none of the table's may be called like.
const TAKE: &str = "WITH locked AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE)
    UPDATE jobs SET state = 1, owner = notices.owner, handouts = handouts + is_new,
        lost_handouts = lost_handouts + is_new * is_handed_out, is_handed_out = weight, unconfirmed_ms = NULL
    FROM locked JOIN unnest($1::bytea[], $2::smallint[], $3::text[], $4::bigint[], $5::bigint[],
            $6::smallint[], $7::smallint[])
        AS notices (id, redelivered, owner, now_ms, latest_ms, weight, is_new) USING (id)
    WHERE jobs.id = locked.id AND jobs.id = ANY($1) AND state + 0 < 2
        AND CASE WHEN is_new = 0 THEN jobs.owner = notices.owner ELSE jobs.owner IS NULL OR redelivered = 1
            OR (jobs.owner <> notices.owner AND NOT EXISTS (
                SELECT 1 FROM leases WHERE leases.name = jobs.owner AND leases.holder = jobs.owner
                    AND leases.until_ms > now_ms AND leases.taken_ms <= latest_ms)) END
    RETURNING jobs.id, account, model, request, quorum, replicas, gateway, synchronous, accepted_ms,
        deadline_ms, epoch, lost_handouts, misses, request_hash";

/// What it accepts jobs by.
const INSERT_JOBS: &str =
    "INSERT INTO jobs (id, account, model, request, quorum, replicas, gateway, synchronous, accepted_ms,
        deadline_ms, epoch, state, handouts, is_handed_out, lost_handouts, misses, unconfirmed_ms, request_hash)
    SELECT id, account, model, request, quorum, replicas, gateway, synchronous, accepted_ms, deadline_ms, epoch,
        0, 0, 0, 0, '[]', accepted_ms, request_hash
    FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bytea[], $5::smallint[], $6::smallint[], $7::text[],
        $8::smallint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bytea[])
        AS jobs (id, account, model, request, quorum, replicas, gateway, synchronous, accepted_ms, deadline_ms,
            epoch, request_hash)";

#[tokio::test]
async fn statements_of_the_version_before_are_understood() {
    let schema = Schema::make().await;
    let _ledger = schema.ledger().await;
    let client = connect(&schema.within(&server())).await;
    for statement in [TAKE, INSERT_JOBS] {
        client.prepare(statement).await.expect("a statement of the version before");
    }
}
