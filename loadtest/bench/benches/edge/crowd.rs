//! Section (b): 64 requests at a time: chats per second, their latency, and the CPU time that each gateway spends.

use std::time::Duration;

use infera_bench::Fault;
use infera_bench::client::{Ask, load};
use infera_bench::machine::{cpu_time, load as load_average};
use infera_bench::measure::{as_f64, percentile_ms};
use infera_bench::ours::Ours;
use infera_bench::report::{Row, Section};

use crate::peers::Peers;
use crate::settings::Settings;

/// The number of connections: many clients, and few enough for two cores.
pub(crate) const CONNECTIONS: usize = 64;

/// One load, as its row shows it.
pub(crate) struct Crowd {
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// CPU time of the gateway's process for each reply, in microseconds; 0 where the mock was asked directly.
    pub(crate) cpu_us: f64,
}

impl Crowd {
    /// Asks on all connections and reads what the processes `pids` spend meanwhile.
    pub(crate) async fn of(
        ask: &Ask,
        pids: &[u32],
        warm_up: Duration,
        span: Duration,
    ) -> Result<Self, Fault> {
        let loading = tokio::spawn(load(ask.clone(), CONNECTIONS, warm_up, span));
        tokio::time::sleep(warm_up).await;
        let before = cpu_time(pids);
        tokio::time::sleep(span).await;
        let spent = cpu_time(pids).saturating_sub(before);
        let mut load = loading.await??;
        Ok(Self {
            rate: load.rate,
            p50_ms: percentile_ms(&mut load.times, 0.5),
            p99_ms: percentile_ms(&mut load.times, 0.99),
            cpu_us: spent.as_secs_f64() * 1e6 / as_f64(load.times.len().max(1)),
        })
    }
}

pub(crate) async fn measure(settings: &Settings, ours: &Ours, peers: &Peers) -> Result<Section, Fault> {
    let pace = settings.pace();
    let mut measured = vec![
        ("the mock directly", peers.direct.clone(), Vec::new(), pace.warm_up),
        ("ours, verified by three nodes", ours.chat(), vec![ours.pid()], pace.warm_up),
    ];
    measured.extend(peers.all().map(|peer| (peer.name, peer.chat.clone(), vec![peer.pid()], peer.warm_up)));
    let mut rounds: Vec<Vec<Crowd>> = measured.iter().map(|_| Vec::new()).collect();
    let mut loads = Vec::new();
    for _ in 0..pace.rounds {
        for ((_, ask, pids, warm_up), crowds) in measured.iter().zip(&mut rounds) {
            crowds.push(Crowd::of(ask, pids, *warm_up, pace.span).await?);
        }
        loads.push(load_average());
    }
    let mut rows = Vec::new();
    for ((name, _, pids, _), crowds) in measured.iter().zip(&rounds) {
        let of = |value: fn(&Crowd) -> f64| crowds.iter().map(value).collect();
        rows.push(Row::new(*name, "chats/s", of(|crowd| crowd.rate)));
        rows.push(Row::new("   p50", "ms", of(|crowd| crowd.p50_ms)));
        rows.push(Row::new("   p99", "ms", of(|crowd| crowd.p99_ms)));
        if !pids.is_empty() {
            rows.push(Row::new("   CPU time of the process per chat", "µs", of(|crowd| crowd.cpu_us)));
        }
    }
    let mut notes = vec![
        "Ours is whole: key, limits, a commit, a queue, three nodes, the comparison, a settlement, the archive, \
         all in the process whose CPU time is shown. The others forward a request to the mock, which is in this \
         process with the client and shares the cores with them."
            .to_owned(),
        format!(
            "{CONNECTIONS} connections for each. Portkey and LiteLLM, which has one worker, are asked for {:.0} s \
             before they are measured, the others for {:.1} s.",
            pace.slow_warm_up.as_secs_f64(),
            pace.warm_up.as_secs_f64()
        ),
    ];
    notes.extend(peers.missing.iter().cloned());
    Ok(Section {
        title: format!("(b) {CONNECTIONS} requests at a time"),
        rows: rows.into_iter().map(|row| row.under(&loads)).collect(),
        notes,
    })
}
