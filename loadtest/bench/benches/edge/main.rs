//! `make bench-edge`: one table of what our gateway costs beside other gateways. Ours is `infera up` with the stub
//! engine, which answers at once. The others forward to one mock, which is hyper alone with our own reply.
//!
//! * **(a)** one request at a time: what our gateway itself takes of a chat (`Server-Timing`), relative to what
//!   onwards adds to a request that goes to the mock directly; and whether the entries of `Server-Timing` add up to
//!   what the client measured.
//! * **(b)** 64 requests at a time: chats per second and their latency. Ours are whole: accepted in the ledger,
//!   answered by three nodes, compared, settled.
//! * **(c)** refusals: what a wrong key and a used-up limit cost, relative to a good chat.
//!
//! Every figure is the median of interleaved rounds with the lowest and the highest beside it, and the machine's load
//! average (this benchmark's own work included). A ratio is computed within each round, and then its median is taken.

mod alone;
mod crowd;
mod peers;
mod refusals;
mod settings;

use clap::Parser as _;
use infera_bench::ours::Ours;
use infera_bench::report::Report;
use infera_bench::{Fault, bare, machine};
use infera_program::print;

use crate::peers::Peers;
use crate::settings::Settings;

fn main() -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&Settings::parse()))
}

async fn run(settings: &Settings) -> Result<(), Fault> {
    let mut report = Report::new(machine::describe(), settings.is_quick());
    print("starting the gateways")?;
    let ours = Ours::start(settings.place(), &[]).await?;
    let chat = ours.chat();
    // The mock answers with our own reply, to the byte.
    let mock = bare::serve(chat.once().await?).await?;
    let peers = Peers::start(settings, mock).await?;
    if settings.wants("a") {
        print("measuring: (a) one request at a time")?;
        report.add(alone::measure(settings, &chat, &peers).await?);
    }
    if settings.wants("b") {
        print("measuring: (b) many at a time")?;
        report.add(crowd::measure(settings, &ours, &peers).await?);
    }
    drop(peers);
    if settings.wants("c") {
        print("measuring: (c) refusals")?;
        report.add(refusals::measure(settings, &ours).await?);
    }
    ours.end().await?;
    report.end(format!("{:.1}", machine::load()));
    print(&report.text())?;
    report.write(settings.json())
}
