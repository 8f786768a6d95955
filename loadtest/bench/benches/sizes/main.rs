//! How many bytes a job takes in the ledger and in the archive, and its messages on the way: no times, so that the machine's load
//! doesn't matter.
//!
//! Jobs are accepted, taken, settled with three replicas that agree to the bit, posted, folded and archived, as a verifier does
//! it, in a SQLite ledger. Their numbers are as a model's are: each its own, of four tokens out of 49,152. What is counted are the
//! pages of the file that hold something, with their indexes, less those of an empty ledger. Beside it stands what the same
//! jobs took as the version before stored them: the same rows, rewritten as text, with its indexes, in a fresh file.

mod jobs;
mod ledger;
mod messages;
mod pages;
#[path = "../../../../core/ledger/sqlite/tests/support/unpacking.rs"]
mod unpacking;

use infera_bench::Fault;
use infera_bench::report::Report;

fn main() -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new(Vec::new(), false);
    for wanted in ledger::WANTED {
        report.add(runtime.block_on(ledger::measure(&wanted))?);
    }
    report.add(messages::section()?);
    infera_program::print(&report.text())?;
    Ok(())
}
