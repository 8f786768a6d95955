//! `make bench-cluster`: one table of what the programs cost on RabbitMQ, PostgreSQL and MinIO, with each figure
//! beside a limit that is measured in the same run.
//!
//! * **(a)** accepted submits per second through a gateway, relative to what PostgreSQL, RabbitMQ and hyper alone
//!   could do one after the other; and the tail at half that rate, relative to single commits at the same rate.
//! * **(b)** jobs ended per second by the whole cluster with the stub engine, relative to a bare echo of the same
//!   messages with the ledger's commits; CPU time of each role for each job.
//! * **(c)** what the archive is sent. **(d)** memory while jobs queue up. **(e)** a gateway's start and idle memory.
//! * **(f)** jobs ended per second with one, two and four verifiers.
//! * **(g)** a thousand streams at once of five tokens a second each: gaps, memory a stream in gateways and in verifiers, frames a second,
//!   the broker's CPU time.
//!
//! Every figure is the median of interleaved rounds with the lowest and the highest beside it, and the machine's load
//! average (this benchmark's own work included). A ratio is computed within each round, and then its median is taken.

mod accepts;
mod bare_postgres;
mod bodies;
mod databases;
mod echo;
mod footprint;
mod lives;
mod network;
mod publisher;
mod queued;
mod run;
mod settings;
mod store;
mod streams;

use clap::Parser as _;
use infera_bench::Fault;

fn main() -> Result<(), Fault> {
    if let Some(part) = echo::Part::told()? {
        return part.runtime()?.block_on(part.act());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let settings = settings::Settings::parse();
    runtime.block_on(run::all(&settings))
}
