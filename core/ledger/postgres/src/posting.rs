//! Appends to the account book, many callers in one transaction.
//!
//! Postings are folded in the order of their sequence, and a sequence number is assigned before its row is committed.
//! (The ends of jobs are read by such numbers too.) So that none is skipped, each appending transaction holds an advisory lock in shared mode until its
//! commit, and the projector takes the lock exclusively for the moment in which it asks how far the sequence has
//! come.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;

use super::failure::Failure;
use super::lane::Work;
use super::pool::{execute_over, prepared};
use super::values::{millis, ordered, to_json, word};
use infera_ledger::{LedgerError, Posting, record_retention};
use infera_types::ids::{JobId, NodeId};

/// Locks the sequence in shared mode, before a posting's number is assigned. The class is ours alone; the schema's
/// hash distinguishes ledgers in one database.
pub(super) const SHARE_SEQUENCE: &str =
    "SELECT pg_advisory_xact_lock_shared(1229866574, hashtext(current_schema()))";

/// Waits until no transaction is appending, and keeps others from appending until the transaction's end.
pub(super) const HOLD_SEQUENCE: &str = "SELECT pg_advisory_xact_lock(1229866574, hashtext(current_schema()))";

/// Appends postings, except those whose id exists already and those whose node has its VALID for the job.
pub(super) const INSERT_POSTINGS: &str = "INSERT INTO postings (id, job_id, posted_ms, entry, valid_node)
    SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::text[], $5::text[]) ON CONFLICT DO NOTHING";

const CLOSE_GROUPS: &str = "WITH locked AS MATERIALIZED (
        SELECT job_id FROM groups WHERE job_id = ANY($1) ORDER BY job_id FOR UPDATE)
    UPDATE groups SET is_closed = 1 FROM locked WHERE groups.job_id = locked.job_id AND is_closed + 0 = 0";

/// Makes the records of settled jobs available to the archive.
const MAKE_CLAIMABLE: &str = concat!(
    "INSERT INTO records (job_id, settled_ms, is_pruned, retention_days)
    SELECT job_id, settled_ms, 0, ",
    record_retention!(),
    " FROM settlements JOIN jobs ON jobs.id = job_id WHERE job_id = ANY($1) ORDER BY job_id
    ON CONFLICT (job_id) DO NOTHING"
);

/// The columns of postings.
#[derive(Default)]
pub(super) struct PostingColumns<'a> {
    pub(super) ids: Vec<&'a str>,
    pub(super) jobs: Vec<&'a [u8]>,
    pub(super) times: Vec<i64>,
    pub(super) entries: Vec<String>,
    pub(super) valid_nodes: Vec<Option<&'a str>>,
}

impl<'a> PostingColumns<'a> {
    pub(super) fn push(&mut self, posting: &'a Posting) -> Result<(), LedgerError> {
        self.entries.push(to_json(&posting.entry)?);
        self.ids.push(&posting.id);
        self.jobs.push(posting.job_id.as_bytes());
        self.times.push(millis(posting.posted_ms));
        self.valid_nodes.push(posting.entry.valid_node().map(NodeId::as_str));
        Ok(())
    }
}

/// The postings of one caller.
pub(super) struct Lines {
    job: JobId,
    postings: Vec<Posting>,
    closes: bool,
}

impl Lines {
    /// Refuses a posting that cannot be stored, before it joins a batch.
    pub(super) fn of(job: JobId, postings: &[Posting], closes: bool) -> Result<Self, LedgerError> {
        for posting in postings {
            word(&posting.id)?;
            if let Some(node) = posting.entry.valid_node() {
                word(node.as_str())?;
            }
        }
        Ok(Self { job, postings: postings.to_vec(), closes })
    }
}

/// The lane of [`infera_ledger::JobOwner::post`].
pub(super) struct PostingLines;

#[async_trait]
impl Work for PostingLines {
    type Item = Lines;
    type Outcome = ();

    fn key(&self, _lines: &Lines) -> Option<[u8; 16]> {
        None
    }

    /// Estimates the size: a posting consists of a few names and numbers.
    fn weight(&self, lines: &Lines) -> usize {
        512 * (1 + lines.postings.len())
    }

    async fn commit(
        &self,
        client: &ClientWrapper,
        items: &[&Lines],
    ) -> Result<Vec<Result<(), LedgerError>>, Failure> {
        let mut postings: Vec<&Posting> = items.iter().flat_map(|lines| &lines.postings).collect();
        // Two transactions that append the same ids, or VALIDs of the same nodes, wait for each other in one
        // direction only: an id belongs to one job and one node.
        postings.sort_by_key(|posting| (posting.job_id, posting.entry.node(), &posting.id));
        let mut columns = PostingColumns::default();
        for posting in postings {
            columns.push(posting)?;
        }
        let closed: Vec<JobId> = items.iter().filter(|lines| lines.closes).map(|lines| lines.job).collect();
        let (closed, posts) = (ordered(&closed), columns.ids.len());
        let [sequence, post, close, claimable] =
            prepared(client, [SHARE_SEQUENCE, INSERT_POSTINGS, CLOSE_GROUPS, MAKE_CLAIMABLE]).await?;
        let (begun, shared, posted, closed, claimable, committed) = tokio::join!(
            biased;
            client.batch_execute("BEGIN"),
            async { execute_over(client, posts, &sequence, &[]).await },
            async { execute_over(client, posts, &post, &[&columns.ids, &columns.jobs, &columns.times, &columns.entries, &columns.valid_nodes]).await },
            async { execute_over(client, closed.len(), &close, &[&closed]).await },
            async { execute_over(client, closed.len(), &claimable, &[&closed]).await },
            client.batch_execute("COMMIT"),
        );
        let before_commit = |error| Failure::before_sent_commit(error).repeatable();
        begun.map_err(before_commit)?;
        for outcome in [shared, posted, closed, claimable] {
            outcome.map_err(before_commit)?;
        }
        committed.map_err(|error| Failure::of_commit(error).repeatable())?;
        Ok(items.iter().map(|_| Ok(())).collect())
    }
}
