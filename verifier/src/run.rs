//! Runs one tenure: starts its tasks, keeps its lease, and ends both.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use infera_ledger::LedgerError;
use infera_types::shutdown::Shutdown;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::background::{Archiver, Cancellations, Capacity, ChatKeeper, Feeder, Projector, Warden, sweeper};
use crate::intake::{frames, jobs, replicas, strays, suspects};
use crate::seams::Gate;
use crate::streams::Teller;
use crate::tenure::{LEDGER_RETRY, LeaseName, Tenure};

/// Why a tenure ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TenureEnd {
    /// The verifier was told to stop.
    Shutdown,
    /// The lease could not be renewed in time: others may take its jobs, so it must not go on.
    LeaseLost,
    /// One of its tasks broke: it is deaf or blind somewhere, so it lets go of everything.
    TaskLost,
}

/// Owns jobs until shut down or until the lease is lost. With a `gate` it also looks after nodes' connections.
pub(crate) async fn run(tenure: &Arc<Tenure>, gate: Option<&Gate>, shutdown: &Shutdown) -> TenureEnd {
    // However this future ends, the jobs' tasks end with it.
    let _ends = tenure.ended.clone().drop_guard();
    // Listening comes first: a heartbeat missed now would not come again for a while. The lease is taken last, because it
    // isn't renewed before there is work: while the broker is away it would run out.
    let mut tasks = JoinSet::new();
    tasks.spawn(replicas::run(Arc::clone(tenure)));
    tasks.spawn(Arc::clone(&tenure.parking).run());
    let ready = async {
        // `Notify` stores a permit, so that a signal sent before this waits is not lost.
        tenure.listening.notified().await;
        prepare(tenure).await
    };
    let renewed = tokio::select! {
        () = shutdown.cancelled() => return TenureEnd::Shutdown,
        renewed = ready => renewed,
        Some(ended) = tasks.join_next() => return lost(tenure, &ended),
    };
    start(tenure, gate, &mut tasks);
    tracing::info!(verifier = %tenure.id, "this verifier owns jobs from now on");
    let end = tokio::select! {
        () = keep_lease(tenure, renewed) => TenureEnd::LeaseLost,
        () = serve(tenure, shutdown) => TenureEnd::Shutdown,
        Some(ended) = tasks.join_next() => lost(tenure, &ended),
    };
    tenure.ended.cancel();
    tenure.vitals.hold_lease(None);
    // Consumers go with their tasks, and what they held is given out again.
    tasks.shutdown().await;
    tenure.jobs.close();
    tenure.jobs.wait().await;
    if end == TenureEnd::LeaseLost {
        tenure.counters.leases_lost.add_one();
    } else {
        tenure.leases.give_back().await;
    }
    end
}

/// Reports a task that ended: none of them does so by itself.
fn lost(tenure: &Tenure, ended: &Result<(), JoinError>) -> TenureEnd {
    tenure.counters.panics.add_one();
    tracing::error!(verifier = %tenure.id, ?ended, "a task that never ends has ended");
    TenureEnd::TaskLost
}

/// Starts the tasks that need the lease. Each is handed what it needs; those that begin or end jobs need all of it.
fn start(tenure: &Arc<Tenure>, gate: Option<&Gate>, tasks: &mut JoinSet<()>) {
    let (seams, config, leases) = (&tenure.seams, &tenure.config, &tenure.leases);
    tasks.spawn(strays::run(Arc::clone(tenure)));
    tasks.spawn(keep_fresh(Arc::clone(tenure)));
    tasks.spawn(jobs::run(Arc::clone(tenure)));
    tasks.spawn(suspects::run(Arc::clone(tenure)));
    start_streaming(tenure, tasks);
    tasks.spawn(sweeper::run(Arc::clone(tenure)));
    let feeder = Feeder {
        config: Arc::clone(config),
        feeding: Arc::clone(&seams.feeding),
        sweeping: Arc::clone(&seams.sweeping),
        leases: Arc::clone(leases),
        ledger_view: Arc::clone(&tenure.ledger_view),
        nodes: Arc::clone(&tenure.nodes),
        broker: Arc::clone(&seams.broker),
    };
    tasks.spawn(feeder.run());
    let cancellations =
        Cancellations { reader: Arc::clone(&seams.reader), in_flight: Arc::clone(&tenure.in_flight) };
    tasks.spawn(cancellations.run());
    let capacity = Capacity {
        verifier: tenure.id.clone(),
        config: Arc::clone(config),
        chats: Arc::clone(&tenure.chats),
        ledger_view: Arc::clone(&tenure.ledger_view),
        nodes: Arc::clone(&tenure.nodes),
        broker: Arc::clone(&seams.broker),
    };
    tasks.spawn(capacity.run());
    let chat_keeper = ChatKeeper {
        config: Arc::clone(config),
        chats: Arc::clone(&tenure.chats),
        source: tenure.chat_source.clone(),
        ledger_view: Arc::clone(&tenure.ledger_view),
        vitals: Arc::clone(&tenure.vitals),
    };
    tasks.spawn(chat_keeper.run());
    let projector = Projector {
        config: Arc::clone(config),
        standing: Arc::clone(&seams.standing),
        leases: Arc::clone(leases),
    };
    tasks.spawn(projector.run());
    let archiver = Archiver {
        config: Arc::clone(config),
        index: Arc::clone(&seams.index),
        pruning: Arc::clone(&seams.pruning),
        erasing: Arc::clone(&seams.erasing),
        segments: Arc::clone(&seams.segments),
        archive: Arc::clone(&seams.archive),
        leases: Arc::clone(leases),
    };
    tasks.spawn(archiver.run());
    if let Some(gate) = gate {
        let warden = Warden {
            gate: gate.clone(),
            ledger_view: Arc::clone(&tenure.ledger_view),
            nodes: Arc::clone(&tenure.nodes),
            broker: Arc::clone(&seams.broker),
            leases: Arc::clone(leases),
            counters: Arc::clone(&tenure.counters),
        };
        tasks.spawn(warden.run());
    }
}

/// Starts the tasks by which answers in progress are seen.
fn start_streaming(tenure: &Arc<Tenure>, tasks: &mut JoinSet<()>) {
    tasks.spawn(frames::run(Arc::clone(tenure)));
    tasks.spawn(frames::watch(Arc::clone(tenure)));
    let teller = Teller {
        verifier: tenure.id.clone(),
        streams: Arc::clone(&tenure.streams),
        broker: Arc::clone(&tenure.seams.broker),
    };
    tasks.spawn(teller.run());
}

/// Waits for shutdown, then for the jobs in hand, as long as draining may take.
async fn serve(tenure: &Tenure, shutdown: &Shutdown) {
    shutdown.cancelled().await;
    tenure.vitals.draining.store(true, Ordering::Relaxed);
    tenure.draining.cancel();
    tenure.jobs.close();
    let drain = Duration::from_millis(tenure.config.drain_ms);
    if tokio::time::timeout(drain, tenure.jobs.wait()).await.is_err() {
        let left = tenure.jobs.len();
        tracing::warn!(left, "jobs still in hand after draining; others will take them");
    }
}

/// Reads the ledger's view of the network for the first time and takes the lease; returns when the lease was taken.
async fn prepare(tenure: &Tenure) -> Instant {
    let mut failures = 0_u32;
    loop {
        let read = refresh(tenure).await;
        let began = Instant::now();
        match (read, renew(tenure).await) {
            (Ok(()), Ok(true)) => {
                let ttl = Duration::from_millis(tenure.config.lease_ttl_ms);
                tenure.vitals.hold_lease(Some(began + ttl));
                return began;
            }
            (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "the ledger is not ready"),
            (Ok(()), Ok(false)) => tracing::warn!("a fresh id's lease is taken"),
        }
        failures = failures.saturating_add(1);
        tokio::time::sleep(LEDGER_RETRY.wait(failures)).await;
    }
}

async fn refresh(tenure: &Tenure) -> Result<(), LedgerError> {
    tenure.ledger_view.refresh(&*tenure.seams.network, &*tenure.seams.nodes, &*tenure.seams.standing).await
}

async fn renew(tenure: &Tenure) -> Result<bool, LedgerError> {
    tenure.leases.hold(LeaseName::Verifier, Duration::from_millis(tenure.config.lease_ttl_ms)).await
}

/// Renews the lease until it is lost: refused, or not renewed within its time. A renewal that hangs is cut off by the same
/// clock.
async fn keep_lease(tenure: &Tenure, mut renewed: Instant) {
    let ttl = Duration::from_millis(tenure.config.lease_ttl_ms);
    let pause = Duration::from_millis(tenure.config.lease_renew_ms);
    loop {
        tokio::time::sleep(pause.min(ttl / 3)).await;
        let began = Instant::now();
        match tokio::time::timeout_at(renewed + ttl, renew(tenure)).await {
            Ok(Ok(true)) => {
                renewed = began;
                tenure.vitals.hold_lease(Some(renewed + ttl));
            }
            Ok(Ok(false)) => return tracing::error!(verifier = %tenure.id, "lease taken by another"),
            Ok(Err(error)) => tracing::warn!(%error, "lease not renewed"),
            Err(_) => {}
        }
        if renewed + ttl <= Instant::now() {
            return tracing::error!(verifier = %tenure.id, "lease lost: not renewed in time");
        }
    }
}

/// Reads the ledger's view of the network again and again, and forgets nodes that left.
async fn keep_fresh(tenure: Arc<Tenure>) {
    loop {
        tokio::time::sleep(Duration::from_millis(tenure.config.refresh_ms)).await;
        tenure.nodes.forget_silent(Instant::now());
        if let Err(error) = refresh(&tenure).await {
            tracing::warn!(%error, "catalogue, nodes and standings can't be read; the last ones stay");
        }
    }
}
