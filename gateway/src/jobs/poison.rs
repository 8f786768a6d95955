//! Replays a poison job, on the order of an operator who has mended the fault that killed its verifiers. The old job
//! and its end stay. A new job makes the same request for the same account. No client waits for it, and no broker is
//! needed, because the sweeper publishes its notice.

use infera_ledger::{
    Charge, JobIntake, JobReader, LedgerError, Metadata, NetworkBook, NewJob, PoisonedJob, Standby,
};
use infera_types::choice::Choice;
use infera_types::ids::{GatewayId, JobId};
use infera_types::job::End;
use infera_types::money::Price;
use infera_types::time::Timestamp;

use super::commit::{Committed, commit};
use super::handle::Terms;
use crate::config::Config;
use crate::network::{CatalogueError, present_epoch};

/// The reason why a job was not replayed.
#[derive(Debug, thiserror::Error)]
pub enum NotReplayed {
    /// There is no such job, or it is still running.
    #[error("{0} has not ended, or there is no such job; `poison list` names those that can be replayed")]
    Unended(JobId),
    /// The job ended in another way. Its account was told of that end, and can make the request again itself.
    #[error("{job} did not end as poison but as {end}; its account can ask again")]
    EndedOtherwise {
        /// The job's id.
        job: JobId,
        /// The word of its end.
        end: &'static str,
    },
    /// The job's request was pruned, so it is too late to replay the job.
    #[error("the request of {0} is pruned, so it can't be replayed; its account has to ask again")]
    Pruned(JobId),
    /// The account has too many waiting jobs, among which the replay would count. A later try may succeed.
    #[error(
        "its account has {waiting} waiting jobs, which is its limit (gateway.waiting_max); try again later"
    )]
    Full {
        /// The number of the account's waiting jobs.
        waiting: u32,
    },
    /// There is no room to store the request once more. A later try may succeed.
    #[error(
        "{stored} bytes of requests are stored, which is the limit (gateway.account_stored_max_bytes, \
         gateway.stored_max_bytes); try again later"
    )]
    NoRoom {
        /// The number of bytes that are stored.
        stored: u64,
    },
    /// The ledger failed, and nothing was accepted. If the outcome is unknown, look for a new job of the account
    /// before you try again.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The present epoch can't be read. A retry is safe.
    #[error(transparent)]
    Epoch(#[from] CatalogueError),
}

impl NotReplayed {
    /// Returns whether trying the same again is useless.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Unended(_) | Self::EndedOtherwise { .. } | Self::Pruned(_))
    }
}

/// Accepts a new job with the account, model, request and policy of the poison `job`, and with the deadline of a job
/// that is submitted now. Returns the new job's id.
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
    let view = ledger.job(&poisoned.account, job).await?;
    let has_price = view.is_some_and(|view| view.price.is_some());
    let PoisonedJob { account, model, request, policy, pool, keeping, .. } = poisoned;
    let (accepted_ms, terms) = (Timestamp::now(), Terms::from(config));
    let new = NewJob {
        id: JobId::new(),
        choice: Choice::ONLY,
        shows_tokens: false,
        // It has waited for its turn before.
        standby: Standby::never_held(&account).in_pool(&pool),
        key: None,
        account,
        model,
        request: request.ok_or(NotReplayed::Pruned(job))?,
        policy,
        // This gateway doesn't exist. The job's end can be read from the ledger.
        gateway: GatewayId::fresh(),
        synchronous: false,
        accepted_ms,
        deadline_ms: accepted_ms.after(terms.submit_deadline),
        epoch: present_epoch(ledger).await?,
        idempotency: None,
        waiting_max: terms.waiting_max,
        room: terms.room,
        metadata: Metadata::new(),
        keeping,
        // Its account doesn't pay for a fault of the network's, and whether it pays is known as with other jobs.
        charge: has_price.then_some(Charge {
            price: Price::default(),
            prompt_tokens: 0,
            completion_tokens: 0,
        }),
    };
    let id = new.id;
    match commit(ledger, ledger, new).await? {
        Committed::Full(waiting) => Err(NotReplayed::Full { waiting }),
        Committed::NoRoomForAccount(stored) | Committed::NoRoom(stored) => {
            Err(NotReplayed::NoRoom { stored })
        }
        // A job without an idempotency key can't match an earlier one, and one that costs nothing exceeds no limit.
        Committed::New { .. } | Committed::Earlier(_) | Committed::KeyReused | Committed::OverLimit(_) => {
            Ok(id)
        }
    }
}

/// Returns the reason why a job that isn't poison can't be replayed.
async fn why_not(reader: &dyn JobReader, job: JobId) -> Result<NotReplayed, LedgerError> {
    let Some(settlement) = reader.settlements(&[job]).await?.pop() else {
        return Ok(NotReplayed::Unended(job));
    };
    let end =
        if let End::Failed { reason, .. } = &settlement.end { reason.word() } else { settlement.end.word() };
    Ok(NotReplayed::EndedOtherwise { job, end })
}
