//! Accepts jobs, many in one transaction. The outcome of each is decided here, in the order in which the jobs came,
//! from what was read under the lock of its account's count; the lock keeps that true until the commit.

mod storing;

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;

use super::charging::{FUNDS, Funds, payers};
use super::failure::Failure;
use super::lane::Work;
use super::pool::prepared;
use super::values::{count, digest, get, job_id, small, word};
use infera_ledger::listing::metadata_text;
use infera_ledger::stored::{Stored, body_bytes, no_place};
use infera_ledger::{Accepted, BatchAccepted, Idempotency, LedgerError, NewJob, decided_together, job_state};
use infera_types::ids::{Digest, JobId, KeyId};
use storing::{Fresh, write};

/// Creates an account's count before its first job, so that there is a row to lock. The row is never deleted.
const MAKE_WAITING: &str =
    "INSERT INTO waiting (account, jobs) SELECT account, 0 FROM unnest($1::text[]) AS account
                            ON CONFLICT (account) DO NOTHING";
const LOCK_WAITING: &str =
    "SELECT account, jobs, bytes FROM waiting WHERE account = ANY($1) ORDER BY account FOR UPDATE";
/// No lock protects this sum: a lock would make all accounts wait for each other.
const STORED: &str = "SELECT COALESCE(SUM(value), 0)::bigint FROM totals WHERE name = 'body_bytes'";
const KNOWN_JOBS: &str = "SELECT id, account FROM jobs WHERE id = ANY($1)";
const KNOWN_KEYS: &str = "SELECT idempotency.account, idempotency.key, fingerprint, job_id FROM idempotency
    JOIN unnest($1::text[], $2::bytea[]) AS asked (account, key)
        ON asked.account = idempotency.account AND asked.key = idempotency.key";
/// Counts the jobs of shares in the first queues of models, as far as it matters (`$3`). No lock protects the count
/// where accounts share one: several processes may together offer a few more than they may.
const OFFERED: &str = concat!(
    "SELECT asked.model, asked.share, (SELECT COUNT(*) FROM (
        SELECT 1 FROM jobs WHERE state = ",
    job_state!(queued),
    " AND jobs.model = asked.model AND held = 0 AND lane = 0 AND jobs.share = asked.share LIMIT $3) AS few)
    FROM unnest($1::text[], $2::text[]) AS asked (model, share)"
);

/// The lane of [`infera_ledger::JobIntake::accept`].
pub(super) struct Accepting {
    pub(super) share: i16,
}

/// Refuses a job whose texts cannot be stored, before it joins a batch.
pub(super) fn check(job: &NewJob) -> Result<(), LedgerError> {
    let key = job.key.as_ref().map_or("", KeyId::as_str);
    let share = job.standby.share.as_str();
    for text in [job.account.as_str(), job.model.as_str(), job.gateway.as_str(), share, key] {
        word(text)?;
    }
    metadata_text(&job.metadata).map(drop)
}

#[async_trait]
impl Work for Accepting {
    /// The jobs that one caller accepts together.
    type Item = Vec<NewJob>;
    type Outcome = BatchAccepted;

    fn key(&self, _jobs: &Vec<NewJob>) -> Option<[u8; 16]> {
        None
    }

    fn weight(&self, jobs: &Vec<NewJob>) -> usize {
        jobs.iter().map(|job| job.request.len()).sum()
    }

    async fn commit(
        &self,
        client: &ClientWrapper,
        items: &[&Vec<NewJob>],
    ) -> Result<Vec<Result<BatchAccepted, LedgerError>>, Failure> {
        let jobs: Vec<&NewJob> = items.iter().copied().flatten().collect();
        let mut known = read(client, &jobs).await?;
        let (mut outcomes, mut fresh) = (Vec::with_capacity(items.len()), Vec::new());
        for jobs in items {
            let outcome = known.decide_all(jobs);
            if let Ok(BatchAccepted::Stored(each)) = &outcome {
                for (job, outcome) in jobs.iter().zip(each) {
                    if let Accepted::New { is_held } = outcome {
                        fresh.push(Fresh { job, is_held: *is_held, payer: known.funds.payer(job) });
                    }
                }
            }
            outcomes.push(outcome);
        }
        write(client, &fresh, self.share).await?;
        Ok(outcomes)
    }
}

/// What the database holds of a batch's accounts, ids and keys, updated while the batch is decided.
#[derive(Clone, Default)]
struct Known {
    held: HashMap<String, Held>,
    all_bytes: u64,
    jobs: HashMap<JobId, String>,
    keys: HashMap<(String, Digest), (Digest, JobId)>,
    /// The jobs of shares in the first queues of models.
    offered: HashMap<(String, String), u32>,
    /// What accounts and keys may spend, and spent.
    funds: Funds,
}

/// The stored jobs and bytes of an account.
#[derive(Clone, Copy, Default)]
struct Held {
    waiting: u32,
    bytes: u64,
}

impl Known {
    /// Decides about the jobs of one caller, and notes the new ones if all are accepted.
    fn decide_all(&mut self, jobs: &[NewJob]) -> Result<BatchAccepted, LedgerError> {
        // A single job that is refused leaves nothing to forget.
        let before = (jobs.len() > 1).then(|| self.clone());
        let outcome = decided_together(jobs.iter().map(|job| (job, ())), |job, ()| self.decide(job));
        match before {
            Some(before) if !matches!(outcome, Ok(BatchAccepted::Stored(_))) => *self = before,
            _ => {}
        }
        outcome
    }

    fn decide(&mut self, job: &NewJob) -> Result<Accepted, LedgerError> {
        let account = job.account.as_str();
        if let Some(idempotency) = &job.idempotency
            && let Some((fingerprint, id)) = self.keys.get(&(account.to_owned(), idempotency.key))
        {
            return Ok(used_again(idempotency, *fingerprint, *id));
        }
        // A job that is sent again after an unknown outcome is the same job.
        match self.jobs.get(&job.id) {
            Some(owner) if owner == account => return Ok(Accepted::Existing(job.id)),
            Some(_) => return Err(LedgerError::Row(format!("{} belongs to another account", job.id))),
            None => {}
        }
        let held = self.held.entry(account.to_owned()).or_default();
        let stored = Stored { waiting: held.waiting, account_bytes: held.bytes, all_bytes: self.all_bytes };
        if let Some(full) = no_place(job, stored) {
            return Ok(full);
        }
        if let Some(over) = self.funds.reserve(job) {
            return Ok(Accepted::OverLimit(over));
        }
        let bytes = body_bytes(job);
        held.waiting = held.waiting.saturating_add(1);
        held.bytes = held.bytes.saturating_add(bytes);
        self.all_bytes = self.all_bytes.saturating_add(bytes);
        let is_held = self.offer(job);
        self.jobs.insert(job.id, account.to_owned());
        if let Some(idempotency) = &job.idempotency {
            self.keys.insert((account.to_owned(), idempotency.key), (idempotency.fingerprint, job.id));
        }
        Ok(Accepted::New { is_held })
    }

    /// Counts the job among those of its share, and returns whether it is held.
    fn offer(&mut self, job: &NewJob) -> bool {
        let standby = &job.standby;
        if standby.is_always_held() {
            return true;
        }
        let key = (job.model.as_str().to_owned(), standby.share.as_str().to_owned());
        let offered = self.offered.entry(key).or_default();
        let is_held = standby.is_held(*offered);
        *offered = offered.saturating_add(u32::from(!is_held));
        is_held
    }
}

/// Returns the outcome for an idempotency key that was first used with this fingerprint, for that job.
pub(super) fn used_again(idempotency: &Idempotency, fingerprint: Digest, job: JobId) -> Accepted {
    let is_same = fingerprint == idempotency.fingerprint;
    if is_same { Accepted::Existing(job) } else { Accepted::KeyReused }
}

/// Begins the transaction, locks the accounts' counts and reads what is stored: one round trip, unless an account is
/// new.
async fn read(client: &ClientWrapper, jobs: &[&NewJob]) -> Result<Known, Failure> {
    let mut accounts: Vec<&str> = jobs.iter().map(|job| job.account.as_str()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let known = read_locked(client, jobs, &accounts).await?;
    if known.held.len() == accounts.len() {
        return Ok(known);
    }
    // What was read without the lock is worthless. No lock is held while counts are created, so no deadlock is
    // possible.
    client.batch_execute("ROLLBACK").await?;
    let make = client.prepare_cached(MAKE_WAITING).await?;
    client.execute(&make, &[&accounts]).await?;
    read_locked(client, jobs, &accounts).await
}

async fn read_locked(client: &ClientWrapper, jobs: &[&NewJob], accounts: &[&str]) -> Result<Known, Failure> {
    let [lock, stored, known_jobs, known_keys, offered, funds] =
        prepared(client, [LOCK_WAITING, STORED, KNOWN_JOBS, KNOWN_KEYS, OFFERED, FUNDS]).await?;
    let ids: Vec<&[u8]> = jobs.iter().map(|job| &job.id.as_bytes()[..]).collect();
    let (mut owners, mut keys) = (Vec::new(), Vec::new());
    for job in jobs {
        if let Some(idempotency) = &job.idempotency {
            owners.push(job.account.as_str());
            keys.push(&idempotency.key.as_bytes()[..]);
        }
    }
    let (models, shares, offered_max) = bounded_shares(jobs);
    let (payers, payer_keys, months) = payers(jobs);
    // Sent in this order without waiting for each other; each sees everything that was committed before it got its
    // lock.
    let (begun, held, stored, jobs, keys, offered, funds) = tokio::join!(
        biased;
        client.batch_execute("BEGIN"),
        async { client.query(&lock, &[&accounts]).await },
        async { client.query_one(&stored, &[]).await },
        async { client.query(&known_jobs, &[&ids]).await },
        async {
            if keys.is_empty() { Ok(Vec::new()) } else { client.query(&known_keys, &[&owners, &keys]).await }
        },
        async {
            if models.is_empty() {
                return Ok(Vec::new());
            }
            client.query(&offered, &[&models, &shares, &offered_max]).await
        },
        async {
            if payers.is_empty() {
                return Ok(Vec::new());
            }
            client.query(&funds, &[&payers, &payer_keys, &months]).await
        },
    );
    begun?;
    let (held, stored) = (held?, stored?);
    let mut known = known(&held, &jobs?, &keys?)?;
    known.all_bytes = count(&stored, 0)?;
    for row in &offered? {
        known.offered.insert((get(row, 0)?, get(row, 1)?), small(row, 2)?);
    }
    known.funds = Funds::of(&funds?)?;
    Ok(known)
}

/// Returns the models and shares of the jobs that are held or not by how many of their share are offered, and the
/// largest number that decides it.
fn bounded_shares<'a>(jobs: &[&'a NewJob]) -> (Vec<&'a str>, Vec<&'a str>, i64) {
    let (mut asked, mut offered_max) = (BTreeSet::new(), 0);
    for NewJob { model, standby, .. } in jobs {
        if !standby.is_always_held() && standby.offered_max < u32::MAX {
            asked.insert((model.as_str(), standby.share.as_str()));
            offered_max = offered_max.max(i64::from(standby.offered_max));
        }
    }
    let (models, shares) = asked.into_iter().unzip();
    (models, shares, offered_max)
}

fn known(held: &[Row], jobs: &[Row], keys: &[Row]) -> Result<Known, LedgerError> {
    let mut known = Known::default();
    for row in held {
        known.held.insert(get(row, 0)?, Held { waiting: small(row, 1)?, bytes: count(row, 2)? });
    }
    for row in jobs {
        known.jobs.insert(job_id(row, 0)?, get(row, 1)?);
    }
    for row in keys {
        known.keys.insert((get(row, 0)?, digest(row, 1)?), (digest(row, 2)?, job_id(row, 3)?));
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_ledger::{Room, Standby};
    use infera_types::ids::{AccountId, GatewayId, ModelName};
    use infera_types::job::VerificationPolicy;
    use infera_types::service::Lane;
    use infera_types::time::Timestamp;

    fn job(account: &AccountId, waiting_max: u32, key: Option<(u8, u8)>) -> NewJob {
        NewJob {
            id: JobId::new(),
            choice: infera_types::choice::Choice::ONLY,
            shows_tokens: false,
            key: None,
            account: account.clone(),
            model: ModelName::new("m"),
            request: Vec::new(),
            policy: VerificationPolicy::default(),
            gateway: GatewayId::new("g"),
            synchronous: false,
            accepted_ms: Timestamp::from_millis(1),
            deadline_ms: Timestamp::from_millis(2),
            epoch: 1,
            idempotency: key
                .map(|(key, body)| Idempotency { key: Digest::of(&[key]), fingerprint: Digest::of(&[body]) }),
            waiting_max,
            room: Room { account_max_bytes: 100, all_max_bytes: 250 },
            standby: Standby::never_held(account),
            metadata: infera_ledger::Metadata::new(),
            keeping: infera_ledger::Keeping::default(),
            charge: None,
        }
    }

    const NEW: Accepted = Accepted::New { is_held: false };

    /// Within one batch each job sees the earlier ones, as it would in the next batch.
    #[test]
    fn a_batch_is_decided_in_its_order() {
        let (account, other) = (AccountId::fresh(), AccountId::fresh());
        let mut known = Known::default();
        known.held.insert(account.as_str().to_owned(), Held { waiting: 1, bytes: 0 });
        let first = job(&account, 3, Some((1, 1)));
        let stolen = NewJob { account: other.clone(), ..first.clone() };
        let batch = [
            (first.clone(), Some(NEW)),
            (job(&account, 3, Some((1, 1))), Some(Accepted::Existing(first.id))),
            (job(&account, 3, Some((1, 2))), Some(Accepted::KeyReused)),
            (NewJob { idempotency: None, ..first.clone() }, Some(Accepted::Existing(first.id))),
            (NewJob { idempotency: None, ..stolen }, None),
            (job(&account, 3, None), Some(NEW)),
            (job(&account, 3, None), Some(Accepted::Full { waiting: 3 })),
            (job(&other, 3, Some((1, 2))), Some(NEW)),
            (job(&other, 0, None), Some(Accepted::Full { waiting: 1 })),
        ];
        for (index, (job, expected)) in batch.iter().enumerate() {
            assert_eq!(known.decide(job).ok(), *expected, "number {index}");
        }
        assert_eq!((known.held[account.as_str()].waiting, known.held[other.as_str()].waiting), (3, 1));
    }

    /// Within one batch, too, a share has no more jobs in a model's first queue than it may.
    #[test]
    fn a_share_is_offered_what_it_may_have() {
        let account = AccountId::fresh();
        let first = |offered_max| {
            let standby = Standby { offered_max, ..Standby::never_held(&account) };
            NewJob { standby, ..job(&account, 100, None) }
        };
        let later = NewJob { standby: Standby { lane: Lane::Later, ..first(9).standby }, ..first(9) };
        let mut known = Known::default();
        known.offered.insert(("m".to_owned(), account.as_str().to_owned()), 1);
        let batch = [
            (first(3), false),
            (later, true),
            (first(3), false),
            (first(3), true),
            (first(4), false),
            (first(4), true),
            (first(0), true),
            (NewJob { model: ModelName::new("other"), ..first(1) }, false),
            (first(u32::MAX), false),
        ];
        for (index, (job, is_held)) in batch.iter().enumerate() {
            assert_eq!(known.decide(job).ok(), Some(Accepted::New { is_held: *is_held }), "number {index}");
        }
        assert_eq!(bounded_shares(&[&batch[0].0, &batch[8].0]), (vec!["m"], vec![account.as_str()], 3));
    }
}
