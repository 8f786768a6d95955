//! Sections (b), (c) and (f): jobs ended per second by the whole cluster, relative to a bare echo of the same
//! messages with the same commits; what each role costs; what the archive is sent; and the same with one, two and
//! four verifiers.

use std::time::Duration;

use infera_types::time::Timestamp;

use crate::databases;
use crate::echo::Echo;
use crate::network::{Network, Special};
use crate::settings::Settings;
use infera_bench::client::{Load, load};
use infera_bench::machine::{cpu_time, load as load_average};
use infera_bench::measure::as_f64;
use infera_bench::report::{Row, Section};
use infera_bench::{Fault, client};

/// The number of clients that wait for answers: twice the jobs that six nodes' slots hold at once, so that no slot is
/// idle.
const CLIENTS: usize = 64;
/// The number of gateways, as `make cluster` starts them.
const GATEWAYS: usize = 2;
const NODES: usize = 6;
const VERIFIERS: usize = 2;
/// The other numbers of verifiers, the most first: a verifier leaves in a moment, but joins only within a heartbeat.
const VERIFIER_COUNTS: [usize; 3] = [4, VERIFIERS, 1];
/// The lowest acceptable ratio.
const RATIO_MIN: f64 = 0.8;
const PUTS_MAX: f64 = 20.0;
/// How long archiving may take: the archiver waits half a minute for a whole segment, and the holder of its lease may
/// have ended.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(240);

/// The users of CPU time, in the order of the table.
const USERS: [&str; 6] = ["broker", "database", "gateways", "verifiers", "workers", "client"];

#[derive(Default)]
struct Rounds {
    echo: Vec<f64>,
    rates: [Vec<f64>; VERIFIER_COUNTS.len()],
    ratio: Vec<f64>,
    cpu_us: [Vec<f64>; USERS.len()],
    echo_cpu_us: [Vec<f64>; 3],
    loads: Vec<f64>,
    jobs: usize,
    puts: f64,
    put_bytes: f64,
    archive_s: f64,
}

pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Section>, Fault> {
    let rounds = measure_rounds(settings).await?;
    Ok(vec![lives(&rounds), archive(&rounds), verifiers(&rounds)])
}

fn lives(rounds: &Rounds) -> Section {
    let [_, rate, _] = &rounds.rates;
    let mut rows = vec![
        Row::new("bare echo of the messages, with the ledger's commits", "jobs/s", rounds.echo.clone()),
        Row::new("cluster: two gateways, two verifiers, six workers", "jobs/s", rate.clone()),
        Row::new("cluster over the echo", "", rounds.ratio.clone()).at_least(RATIO_MIN),
    ];
    for (name, cpu_us) in USERS.iter().zip(&rounds.cpu_us) {
        rows.push(Row::new(format!("CPU for each job: {name}"), "us", cpu_us.clone()));
    }
    for (name, cpu_us) in ["broker", "database", "all of its parts"].iter().zip(&rounds.echo_cpu_us) {
        rows.push(Row::new(format!("CPU for each job of the echo: {name}"), "us", cpu_us.clone()));
    }
    Section {
        title: "(b) jobs ended: chat requests on 64 connections, stub engine, three replicas each".to_owned(),
        rows: rows.into_iter().map(|row| row.under(&rounds.loads)).collect(),
        notes: vec![
            "The echo's parts are as many processes. It parses nothing, speaks no HTTP, draws, decodes, compares and \
             scores nothing, and nothing of it is \
             swept, folded or archived; its accepting, marking, taking, settling and posting are the ledger's own."
                .to_owned(),
        ],
    }
}

fn archive(rounds: &Rounds) -> Section {
    let jobs = as_f64(rounds.jobs);
    Section {
        title: format!("(c) the archive: {} jobs of those rounds, until all were archived", rounds.jobs),
        rows: vec![
            Row::new("PUTs for 10,000 jobs", "", vec![rounds.puts / jobs * 1e4]).at_most(PUTS_MAX),
            Row::new("bytes for each job", "bytes", vec![rounds.put_bytes / jobs]),
            Row::new("time in which they were put", "s", vec![rounds.archive_s]),
        ],
        notes: vec![
            "One verifier puts whole segments of 1,024 records, or what has waited for half a minute: fewer than some 30 \
             jobs a second make smaller segments and more of them for each job."
                .to_owned(),
        ],
    }
}

fn verifiers(rounds: &Rounds) -> Section {
    let mut counted: Vec<_> = VERIFIER_COUNTS.iter().zip(&rounds.rates).collect();
    counted.reverse();
    let row = |(count, rates): (&usize, &Vec<f64>)| {
        Row::new(format!("verifiers: {count}"), "jobs/s", rates.clone()).under(&rounds.loads)
    };
    Section {
        title: "(f) the same with more or fewer verifiers".to_owned(),
        rows: counted.into_iter().map(row).collect(),
        notes: vec![
            "All of them share this machine's cores with everything else: more verifiers can be no faster here than \
             one that isn't short of a core. What this shows is what sharing the work costs."
                .to_owned(),
        ],
    }
}

async fn measure_rounds(settings: &Settings) -> Result<Rounds, Fault> {
    let pace = settings.pace();
    let database = databases::make(settings, "echo").await?;
    // The first connection makes the tables.
    drop(databases::open(&database).await?);
    let echo =
        Echo { broker: settings.broker()?, database, gateways: GATEWAYS, verifiers: VERIFIERS, nodes: NODES };
    let mut network = Network::open_to_nodes(settings, "lives", Special::default()).await?;
    network.add_gateway().await?;
    network.set_verifiers(VERIFIER_COUNTS[0]).await?;
    network.set_workers(NODES).await?;
    let mut rounds = Rounds::default();
    let began = Timestamp::now();
    for _ in 0..pace.life_rounds {
        measure_echo(settings, &echo, &mut rounds).await?;
        for (index, count) in VERIFIER_COUNTS.into_iter().enumerate() {
            network.set_verifiers(count).await?;
            let rate = measure_cluster(settings, &network, count == VERIFIERS, &mut rounds).await?;
            if let Some(rates) = rounds.rates.get_mut(index) {
                rates.push(rate);
            }
        }
        let (cluster, echo) = (last(&rounds.rates[1]), last(&rounds.echo));
        rounds.ratio.push(cluster / echo);
        rounds.loads.push(load_average());
    }
    rounds.jobs = network.wait_until_archived(ARCHIVED_WITHIN).await?;
    let (puts, bytes) = network.puts();
    rounds.puts = as_f64(usize::try_from(puts)?);
    rounds.put_bytes = as_f64(usize::try_from(bytes)?);
    rounds.archive_s = Timestamp::now().since(began).as_secs_f64();
    network.close().await?;
    Ok(rounds)
}

fn last(values: &[f64]) -> f64 {
    values.last().copied().unwrap_or_default()
}

async fn measure_echo(settings: &Settings, echo: &Echo, rounds: &mut Rounds) -> Result<(), Fault> {
    let pace = settings.pace();
    let roots = [vec![settings.broker_pid], vec![settings.database_pid], vec![std::process::id()]];
    let mut looks: Vec<Vec<_>> = Vec::new();
    let look = || looks.push(roots.iter().map(|roots| cpu_time(roots)).collect());
    let rate = echo.run(CLIENTS, (pace.warm_up, pace.life_span), look).await?;
    let [before, after] = looks.as_slice() else {
        return Err("the echo's CPU time was not read twice".into());
    };
    // The warm-up's jobs use CPU time too, so they are counted here, at the same rate.
    let jobs = rate * (pace.warm_up + pace.life_span).as_secs_f64();
    for ((before, after), each) in before.iter().zip(after).zip(&mut rounds.echo_cpu_us) {
        each.push(after.saturating_sub(*before).as_secs_f64() * 1e6 / jobs);
    }
    rounds.echo.push(rate);
    Ok(())
}

async fn measure_cluster(
    settings: &Settings,
    network: &Network,
    counts_cpu: bool,
    rounds: &mut Rounds,
) -> Result<f64, Fault> {
    let pace = settings.pace();
    let users = network.users(settings);
    warm_up(network, pace.warm_up).await?;
    let before: Vec<_> = users.iter().map(|roots| cpu_time(roots)).collect();
    let replies = asked(network, Duration::ZERO, pace.life_span).await?;
    if counts_cpu {
        let used: Vec<f64> = users
            .iter()
            .zip(before)
            .map(|(roots, before)| cpu_time(roots).saturating_sub(before).as_secs_f64())
            .collect();
        // The programs are this process's children, so its CPU time includes theirs.
        let children: f64 = used.iter().skip(2).take(3).sum();
        for ((place, used), each) in used.iter().enumerate().zip(&mut rounds.cpu_us) {
            let own = if place + 1 == USERS.len() { used - children } else { *used };
            each.push(own * 1e6 / (replies * pace.life_span.as_secs_f64()));
        }
    }
    Ok(replies)
}

async fn warm_up(network: &Network, span: Duration) -> Result<(), Fault> {
    asked(network, Duration::ZERO, span).await?;
    Ok(())
}

/// Returns the replies per second, with half of the clients at each gateway.
async fn asked(network: &Network, warm_up: Duration, span: Duration) -> Result<f64, Fault> {
    let half = |gateway: usize| {
        let ask: client::Ask = network.chat(gateway);
        load(ask, CLIENTS / 2, warm_up, span)
    };
    let (first, second): (Load, Load) = tokio::try_join!(half(0), half(1))?;
    Ok(first.rate + second.rate)
}
