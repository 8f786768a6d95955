//! What an operator asks of ledger and archive beside serving: the archived record of one job.

use clap::Subcommand;
use infera_archive::record;
use infera_archive_s3::S3Archive;
use infera_ledger_postgres::waiting;
use infera_program::{Failure, print};
use infera_types::ids::JobId;
use infera_types::shutdown::Shutdown;

use crate::Config;

/// About archived records.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Print the archived record of a job: one line of JSON as it lies in the store, checked by the ledger's hash. No verifier
    /// needs to run, and those that do are not disturbed.
    Show {
        /// The job's id.
        job: JobId,
    },
}

/// Does it. The ledger is waited for; a store that is away is an error.
///
/// # Errors
/// There is no such record, or not yet, or it is damaged; or what the ledger or the store says.
pub async fn act(command: &ArchiveCommand, config: &Config, shutdown: &Shutdown) -> Result<(), Failure> {
    let ArchiveCommand::Show { job } = command;
    let archive = S3Archive::new(&config.archive).map_err(Failure::refused)?;
    let Some(ledger) = waiting::ledger(&config.ledger, shutdown).await.map_err(Failure::refused)? else {
        return Ok(());
    };
    match record::find(&*ledger, &*ledger, &*archive, *job).await {
        Ok(line) => Ok(print(&line)?),
        Err(error) if error.may_pass() => Err(error.into()),
        Err(error) => Err(Failure::refused(error)),
    }
}
