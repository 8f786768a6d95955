//! Section (d): how fast a verifier takes jobs through their lives when its nodes answer at once.

use std::time::{Duration, Instant};

use infera_broker::{Address, Published, topology};
use infera_ledger::{AccountBook as _, JobIntake as _, JobReader as _, NetworkBook as _};
use infera_types::ids::{Digest, JobId, ModelName};
use infera_types::messages::{JobNotice, Version, Wire as _};
use infera_types::time::Timestamp;
use tokio::runtime::Runtime;

use crate::commits::{Bench, accept_all};
use crate::heard::CommitsHeard;
use crate::settings::Settings;
use crate::stage::Stage;
use infera_bench::Fault;
use infera_bench::fixtures::{Asker, MODEL};
use infera_bench::measure::{as_f64, cpu_time, cpu_us_each};
use infera_bench::report::{Row, Section};

/// The number of callers: as many as the three nodes have slots for jobs at once, by default.
const CALLERS: usize = 16;

/// How long settling all jobs may take; after that something is broken.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);

/// How often the ledger is asked, by a read that delays no commit.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Rounds {
    ledger: Vec<f64>,
    verifier: Vec<f64>,
    ratios: Vec<f64>,
    commits: Vec<f64>,
    operations: Vec<f64>,
    cpu_us: Vec<f64>,
}

pub(crate) fn measure(settings: &Settings, runtime: &Runtime) -> Result<Section, Fault> {
    let rounds = runtime.block_on(measure_rounds(settings))?;
    let jobs = settings.pace().jobs;
    let mut rows = vec![
        Row::new("ledger alone: take, settle, post by 16 callers", "jobs/s", rounds.ledger),
        Row::new("verifier, three nodes with the stub engine", "jobs/s", rounds.verifier),
        Row::new("verifier over the ledger alone", "", rounds.ratios),
        Row::new("commits for each job", "", rounds.commits),
        Row::new("writes for each job (they share commits)", "", rounds.operations),
    ];
    if !rounds.cpu_us.is_empty() {
        rows.push(Row::new("CPU for each job, nodes included", "us", rounds.cpu_us));
    }
    Ok(Section {
        title: format!("(d) verifying: {jobs} accepted jobs, from the first notice until all are settled"),
        rows,
        notes: vec![
            "Verifier, nodes, gateway and ledger share the cores. Commits and writes are all of the ledger's until \
             the last job is settled: projecting, sweeping and archiving included."
                .to_owned(),
        ],
    })
}

async fn measure_rounds(settings: &Settings) -> Result<Rounds, Fault> {
    let (folder, jobs) = (settings.scratch()?, settings.pace().jobs);
    let stage = Stage::open(settings).await?;
    let alone = Bench::open(folder.path()).await?;
    let now = Timestamp::now();
    let account = stage.seams.ledger.sign_up("bench@infera.invalid", None, now).await?.account;
    // The network has its epoch; the secret would be used only if there were none.
    let epoch = stage.seams.ledger.epoch(None, Digest::of(b"unused"), now).await?;
    let asker = Asker::new(account, epoch.number)?;
    let (heard, mut rounds) = (CommitsHeard::listen()?, Rounds::default());
    for _ in 0..settings.pace().rounds {
        let ledger = alone.lives(jobs, CALLERS).await?;
        let ids = accept_all(&stage.seams.ledger, &asker, jobs).await?;
        let (cpu_before, before) = (cpu_time(), heard.so_far());
        let rate = as_f64(jobs) / settle_all(&stage, &ids).await?.as_secs_f64();
        let written = heard.since(before)?;
        let each = |count: u64| as_f64(usize::try_from(count).unwrap_or(usize::MAX)) / as_f64(jobs);
        rounds.cpu_us.extend(cpu_us_each(cpu_before, jobs));
        rounds.commits.push(each(written.commits));
        rounds.operations.push(each(written.operations));
        rounds.ledger.push(ledger);
        rounds.verifier.push(rate);
        rounds.ratios.push(rate / ledger);
    }
    stage.close().await?;
    Ok(rounds)
}

/// Publishes the notices of accepted jobs, as the gateway does, and returns when all have succeeded.
async fn settle_all(stage: &Stage, ids: &[JobId]) -> Result<Duration, Fault> {
    let ledger = &stage.seams.ledger;
    let wanted = ledger.statistics(Timestamp::now()).await?.succeeded + u64::try_from(ids.len())?;
    let address = Address::Queue(topology::jobs(&ModelName::new(MODEL)).name);
    let begun = Instant::now();
    for id in ids {
        let notice = JobNotice { job_id: *id, speaks: Version::NEWEST }.to_message(id.to_string());
        if stage.seams.broker.publish(&address, notice).await != Published::Confirmed {
            return Err("a notice was not confirmed".into());
        }
    }
    for some in ids.chunks(256) {
        ledger.confirm(some, Timestamp::now()).await?;
    }
    loop {
        let ended = ledger.statistics(Timestamp::now()).await?;
        if ended.succeeded >= wanted {
            return Ok(begun.elapsed());
        }
        if ended.failed + ended.expired + ended.cancelled > 0 || begun.elapsed() > SETTLED_WITHIN {
            return Err(format!("jobs did not all succeed: {ended:?}").into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
