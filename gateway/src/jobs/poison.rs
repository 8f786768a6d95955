//! Makes a poison job again: what an operator does once the fault that ended its verifiers is mended. The old job and its
//! end stay; the new one asks the same for the same account. No client waits for it, and no broker is needed: the sweeper
//! publishes its notice.

use infera_ledger::{JobIntake, JobReader, LedgerError, NetworkBook, NewJob, PoisonedJob};
use infera_types::ids::{GatewayId, JobId};
use infera_types::job::End;
use infera_types::time::Timestamp;

use super::commit::{Committed, commit};
use super::handle::Terms;
use crate::config::Config;
use crate::network::{CatalogueError, present_epoch};

/// Says why there is no new job.
#[derive(Debug, thiserror::Error)]
pub enum NotReplayed {
    /// The id is wrong, or the job still runs.
    #[error("{0} has not ended, or there is no such job; `poison list` names those that can be replayed")]
    Unended(JobId),
    /// Only poison is replayed: its account knows of every other end, and asks again itself.
    #[error("{job} did not end as poison but as {end}; its account can ask again")]
    EndedOtherwise {
        /// The job.
        job: JobId,
        /// How it ended.
        end: &'static str,
    },
    /// The request is gone; it is too late.
    #[error("the request of {0} is pruned, so nothing can be replayed; its account has to ask again")]
    Pruned(JobId),
    /// A replay counts among the account's waiting jobs. A later try may succeed.
    #[error(
        "its account has {waiting} waiting jobs, as many as it may (gateway.waiting_max); try again later"
    )]
    Full {
        /// How many.
        waiting: u32,
    },
    /// Its request would have to be stored once more. A later try may succeed.
    #[error(
        "{stored} bytes of requests are stored, as many as may be (gateway.account_stored_max_bytes, \
         gateway.stored_max_bytes); try again later"
    )]
    NoRoom {
        /// How many.
        stored: u64,
    },
    /// Nothing was accepted, but for an unknown outcome: then look for a new job of the account before another try.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The present epoch can't be had. A retry is safe.
    #[error(transparent)]
    Epoch(#[from] CatalogueError),
}

impl NotReplayed {
    /// Returns whether another try of the same can't help.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Unended(_) | Self::EndedOtherwise { .. } | Self::Pruned(_))
    }
}

/// Accepts a new job that asks what the poison `job` asked: its account, model, request and policy, with a deadline as a
/// job submitted now. Returns its id.
///
/// # Errors
/// [`NotReplayed`].
pub async fn replay<L>(ledger: &L, job: JobId, config: &Config) -> Result<JobId, NotReplayed>
where
    L: JobReader + JobIntake + NetworkBook,
{
    let Some(poisoned) = ledger.poisoned(Some(job), 1).await?.pop() else {
        return Err(why_not(ledger, job).await?);
    };
    let PoisonedJob { account, model, request, policy, .. } = poisoned;
    let (accepted_ms, terms) = (Timestamp::now(), Terms::from(config));
    let new = NewJob {
        id: JobId::new(),
        account,
        model,
        request: request.ok_or(NotReplayed::Pruned(job))?,
        policy,
        // None that is there: the job's end is read from the ledger.
        gateway: GatewayId::fresh(),
        synchronous: false,
        accepted_ms,
        deadline_ms: accepted_ms.after(terms.submit_deadline),
        epoch: present_epoch(ledger).await?,
        idempotency: None,
        waiting_max: terms.waiting_max,
        room: terms.room,
    };
    let id = new.id;
    match commit(ledger, ledger, new).await? {
        Committed::Full(waiting) => Err(NotReplayed::Full { waiting }),
        Committed::NoRoomForAccount(stored) | Committed::NoRoom(stored) => {
            Err(NotReplayed::NoRoom { stored })
        }
        // Without a key none can have been used before.
        Committed::New | Committed::Earlier(_) | Committed::KeyReused => Ok(id),
    }
}

/// Returns what is to be said of a job that isn't poison.
async fn why_not(reader: &dyn JobReader, job: JobId) -> Result<NotReplayed, LedgerError> {
    let Some(settlement) = reader.settlements(&[job]).await?.pop() else {
        return Ok(NotReplayed::Unended(job));
    };
    let end =
        if let End::Failed { reason, .. } = &settlement.end { reason.word() } else { settlement.end.word() };
    Ok(NotReplayed::EndedOtherwise { job, end })
}
