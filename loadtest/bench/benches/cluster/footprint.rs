//! Section (e): one gateway from outside: the time from exec to ready, and its memory when idle.

use crate::network::Network;
use crate::settings::Settings;
use infera_bench::Fault;
use infera_bench::machine::{load as load_average, resident_mib};
use infera_bench::report::{Row, Section};

pub(crate) async fn measure(settings: &Settings) -> Result<Section, Fault> {
    let pace = settings.pace();
    let (mut ready, mut memory, mut loads) = (Vec::new(), Vec::new(), Vec::new());
    let network = Network::prepare(settings, "footprint").await?;
    for _ in 0..pace.starts {
        let (mut gateway, address) = network.start_gateway()?;
        ready.push(gateway.ready(address).await?.as_secs_f64() * 1e3);
        tokio::time::sleep(pace.idle).await;
        memory.push(resident_mib(gateway.pid())?);
        gateway.end().await?;
        loads.push(load_average());
    }
    Ok(Section {
        title: "(e) one gateway".to_owned(),
        rows: vec![
            Row::new("exec to ready, tables in place", "ms", ready).under(&loads),
            Row::new(
                format!("resident memory, idle, {:.0} s after ready", pace.idle.as_secs_f64()),
                "MiB",
                memory,
            )
            .under(&loads),
        ],
        notes: Vec::new(),
    })
}
