//! Section (d): memory of each role while jobs queue up, because no node exists that could answer them.

use crate::network::Network;
use crate::settings::Settings;
use infera_bench::Fault;
use infera_bench::client::fill;
use infera_bench::machine::{load as load_average, resident_mib};
use infera_bench::measure::as_f64;
use infera_bench::report::{Row, Section};

/// The number of connections, the same as in (a).
const CONNECTIONS: usize = 64;
/// The highest acceptable growth.
const GROWTH_MAX_MIB: f64 = 20.0;

/// The memory of one process at both depths.
struct Memory {
    role: String,
    few: f64,
    many: f64,
}

pub(crate) async fn measure(settings: &Settings) -> Result<Section, Fault> {
    let [few, many] = settings.pace().queued;
    let mut network = Network::open(settings, "queued").await?;
    network.add_gateway().await?;
    network.set_verifiers(2).await?;
    let first = depth(settings, &network, few).await?;
    let second = depth(settings, &network, many - few).await?;
    network.close().await?;
    let memory = first.into_iter().zip(second).map(|((role, few), (_, many))| Memory { role, few, many });
    let load = load_average();
    let mut rows = Vec::new();
    for Memory { role, few: before, many: after } in memory {
        rows.push(Row::new(format!("{role}, {few} jobs queued"), "MiB", vec![before]).under(&[load]));
        rows.push(Row::new(format!("{role}, {many} jobs queued"), "MiB", vec![after]).under(&[load]));
        let growth = Row::new(format!("{role}, more"), "MiB", vec![after - before]);
        rows.push(growth.at_most(GROWTH_MAX_MIB));
    }
    Ok(Section {
        title: format!("(d) memory with {few} and {many} jobs queued, resident"),
        rows,
        notes: vec![
            "No worker runs, so nothing is taken. A worker holds what it was assigned and no queue: it has no part in \
             this."
                .to_owned(),
        ],
    })
}

/// Submits `more` jobs, waits until everything is idle, and returns each process's memory.
async fn depth(settings: &Settings, network: &Network, more: usize) -> Result<Vec<(String, f64)>, Fault> {
    let half = |gateway: usize| fill(network.submit(gateway), CONNECTIONS / 2, more / 2);
    tokio::try_join!(half(0), half(1))?;
    // Notices and marks follow within moments.
    tokio::time::sleep(settings.pace().idle).await;
    let queued = network.queued().await?;
    if as_f64(queued) < as_f64(more) {
        return Err(format!("{queued} jobs are queued, fewer than were submitted").into());
    }
    network.roles().into_iter().map(|(role, pid)| Ok((role, resident_mib(pid)?))).collect()
}
