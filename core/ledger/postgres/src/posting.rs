//! Appends to the account book, many callers in one transaction.
//!
//! Postings are folded in the order of their sequence, and a sequence number is assigned before its row is committed.
//! (The ends of jobs are read by such numbers too.) So that none is skipped, each appending transaction holds an advisory lock in shared mode until its
//! commit, and the projector takes the lock exclusively for the moment in which it asks how far the sequence has
//! come.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Row, Statement};

use super::failure::Failure;
use super::lane::Work;
use super::packing::Packing;
use super::pool::{Parameters, execute_over, prepared};
use super::values::{get, job_id, millis, ordered, time, word};
use infera_ledger::stored::Form;
use infera_ledger::stored::packing::posting::{PostingRow, pack_id, pack_node};
use infera_ledger::{LedgerError, Posting, record_retention};
use infera_types::ids::{JobId, NodeId};

/// Locks the sequence in shared mode, before a posting's number is assigned. The class is ours alone; the schema's
/// hash distinguishes ledgers in one database.
pub(super) const SHARE_SEQUENCE: &str =
    "SELECT pg_advisory_xact_lock_shared(1229866574, hashtext(current_schema()))";

/// Waits until no transaction is appending, and keeps others from appending until the transaction's end.
pub(super) const HOLD_SEQUENCE: &str = "SELECT pg_advisory_xact_lock(1229866574, hashtext(current_schema()))";

/// Appends postings, except those whose id exists already, in whichever form, and those whose node has its VALID for the job. A
/// row has either an id and an entry, as programs of the version before write and read them, or a key and a line, which are the
/// same packed. They are appended in the order that is given.
pub(super) const INSERT_POSTINGS: &str =
    "INSERT INTO postings (id, key, job_id, posted_ms, entry, line, valid_node)
    SELECT given.id, given.key, given.job_id, given.posted_ms, given.entry, given.line, given.valid_node
    FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bigint[], $5::text[], $6::bytea[], $7::text[], $8::text[], $9::bytea[])
        WITH ORDINALITY AS given (id, key, job_id, posted_ms, entry, line, valid_node, other_id, other_key, place)
    WHERE NOT EXISTS (SELECT 1 FROM postings AS plain WHERE plain.id = given.other_id)
        AND NOT EXISTS (SELECT 1 FROM postings AS packed WHERE packed.key = given.other_key)
    ORDER BY given.place ON CONFLICT DO NOTHING";

/// The columns that [`posting`] reads.
macro_rules! posting_columns {
    () => {
        "id, job_id, posted_ms, entry, key, line, valid_node"
    };
}

pub(super) use posting_columns;

/// Reads a posting whose columns ([`posting_columns`]) begin at `first`.
pub(super) fn posting(row: &Row, first: usize) -> Result<Posting, LedgerError> {
    let (job, posted_ms) = (job_id(row, first + 1)?, time(row, first + 2)?);
    let node: Option<String> = get(row, first + 6)?;
    let stored = match get::<Option<Vec<u8>>>(row, first + 4)? {
        Some(id) => PostingRow::Packed {
            id,
            entry: get(row, first + 5)?,
            valid_node: node.map(|node| pack_node(&NodeId::new(node))),
        },
        None => PostingRow::Plain { id: get(row, first)?, entry: get(row, first + 3)?, valid_node: node },
    };
    stored.posting(job, posted_ms)
}

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
    ids: Vec<Option<&'a str>>,
    keys: Vec<Option<Vec<u8>>>,
    pub(super) jobs: Vec<&'a [u8]>,
    times: Vec<i64>,
    entries: Vec<Option<String>>,
    lines: Vec<Option<Vec<u8>>>,
    valid_nodes: Vec<Option<&'a str>>,
    /// The id in the form in which it is not stored, which must not be there either.
    other_ids: Vec<Option<&'a str>>,
    other_keys: Vec<Option<Vec<u8>>>,
}

impl<'a> PostingColumns<'a> {
    pub(super) fn push(&mut self, posting: &'a Posting, form: Form) -> Result<(), LedgerError> {
        let row = match form {
            Form::Packed => PostingRow::packed(posting)?,
            Form::Plain => PostingRow::plain(posting)?,
        };
        match row {
            PostingRow::Packed { id, entry, .. } => {
                self.ids.push(None);
                self.keys.push(Some(id));
                self.entries.push(None);
                self.lines.push(Some(entry));
                self.other_ids.push(Some(&posting.id));
                self.other_keys.push(None);
            }
            PostingRow::Plain { entry, .. } => {
                self.ids.push(Some(&posting.id));
                self.keys.push(None);
                self.entries.push(Some(entry));
                self.lines.push(None);
                self.other_ids.push(None);
                self.other_keys.push(pack_id(&posting.id).map(|id| id.to_vec()));
            }
        }
        self.jobs.push(posting.job_id.as_bytes());
        self.times.push(millis(posting.posted_ms));
        self.valid_nodes.push(posting.entry.valid_node().map(NodeId::as_str));
        Ok(())
    }

    /// Appends the postings by the statement [`INSERT_POSTINGS`], if there are any.
    pub(super) async fn append(
        &self,
        client: &ClientWrapper,
        statement: &Statement,
    ) -> Result<(), tokio_postgres::Error> {
        let Self { ids, keys, jobs, times, entries, lines, valid_nodes, other_ids, other_keys } = self;
        let values: Parameters<'_> =
            &[ids, keys, jobs, times, entries, lines, valid_nodes, other_ids, other_keys];
        execute_over(client, jobs.len(), statement, values).await
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
pub(super) struct PostingLines {
    /// The form in which postings are written.
    pub(super) packing: Packing,
}

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
        let (form, mut columns) = (self.packing.form(), PostingColumns::default());
        for posting in postings {
            columns.push(posting, form)?;
        }
        let closed: Vec<JobId> = items.iter().filter(|lines| lines.closes).map(|lines| lines.job).collect();
        let (closed, posts) = (ordered(&closed), columns.jobs.len());
        let [sequence, post, close, claimable] =
            prepared(client, [SHARE_SEQUENCE, INSERT_POSTINGS, CLOSE_GROUPS, MAKE_CLAIMABLE]).await?;
        let (begun, shared, posted, closed, claimable, committed) = tokio::join!(
            biased;
            client.batch_execute("BEGIN"),
            async { execute_over(client, posts, &sequence, &[]).await },
            async { columns.append(client, &post).await },
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
