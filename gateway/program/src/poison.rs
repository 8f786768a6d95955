//! The operator's commands about poison, that is, jobs that failed because more than five verifiers died with them.
//! This is the command line only; the gateway's `jobs::poison` replays jobs.

use std::time::Duration;

use clap::Subcommand;
use infera_gateway::Config;
use infera_gateway::jobs::poison::replay;
use infera_ledger::{JobIntake, JobReader, NetworkBook, PoisonedJob};
use infera_program::{Failure, print};
use infera_types::ids::JobId;
use infera_types::time::Timestamp;

/// The commands about poison.
#[derive(Debug, Subcommand)]
pub(super) enum PoisonCommand {
    /// List poison jobs, the newest first: job, account, model, the request's bytes, and how long ago the job was
    /// given up.
    List {
        /// List at most this many. Each is read with its request, of up to half a megabyte.
        #[arg(long, value_name = "JOBS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Make the same request again as a new job of the same account, and print the new job's id. Mend first what
    /// killed the verifiers: up to six more may die of it.
    Replay {
        /// The job's id, as `poison list` shows it.
        job: JobId,
    },
}

/// Carries out a command about poison.
pub(super) async fn act<L>(command: &PoisonCommand, ledger: &L, config: &Config) -> Result<(), Failure>
where
    L: JobReader + JobIntake + NetworkBook,
{
    match command {
        PoisonCommand::List { limit } => {
            let now = Timestamp::now();
            for job in ledger.poisoned(None, *limit).await? {
                print(&line(&job, now))?;
            }
            Ok(())
        }
        PoisonCommand::Replay { job } => match replay(ledger, *job, config).await {
            Ok(new) => Ok(print(&new.to_string())?),
            Err(error) if error.is_final() => Err(Failure::refused(error)),
            Err(error) => Err(error.into()),
        },
    }
}

/// Returns one job as a line, in columns separated by tabs that people and `cut` can read.
fn line(job: &PoisonedJob, now: Timestamp) -> String {
    let request = job.request.as_ref().map_or("pruned".to_owned(), |body| format!("{} B", body.len()));
    let ago = ago(now.since(job.settled_ms));
    format!("{}\t{}\t{}\t{request}\t{ago}", job.id, job.account, job.model)
}

fn ago(elapsed: Duration) -> String {
    let minutes = elapsed.as_secs() / 60;
    match minutes {
        0..60 => format!("{minutes} min ago"),
        60..2_880 => format!("{} h ago", minutes / 60),
        _ => format!("{} d ago", minutes / 1_440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_ago_is_said_in_the_unit_that_fits() {
        let said = [59, 3_599, 3_600, 172_799, 172_800].map(|seconds| ago(Duration::from_secs(seconds)));
        assert_eq!(said, ["0 min ago", "59 min ago", "1 h ago", "47 h ago", "2 d ago"]);
    }
}
