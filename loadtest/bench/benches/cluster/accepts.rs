//! Section (a): jobs accepted per second through one gateway, relative to what its three parts could do one after the
//! other; and how long accepting takes at half that rate, relative to single commits at the same rate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_ledger::{Accepted, JobIntake as _};
use infera_ledger_postgres::PostgresLedger;
use infera_types::ids::AccountId;
use infera_types::messages::{JobNotice, Version, Wire as _};
use tokio::task::JoinSet;

use crate::bare_postgres::BarePostgres;
use crate::databases;
use crate::echo::queues::{JOBS, Queues};
use crate::network::Network;
use crate::publisher::{Parcel, Publisher, connect};
use crate::settings::{Pace, Settings};
use infera_bench::client::{Connection, load};
use infera_bench::fixtures::Asker;
use infera_bench::machine::load as load_average;
use infera_bench::measure::{as_f64, percentile_ms};
use infera_bench::report::{Row, Section};
use infera_bench::schedule::Schedule;
use infera_bench::{Fault, bare, client};

/// The number of connections, database callers and publishers: many clients, and few enough for two cores.
const CONNECTIONS: usize = 64;
/// The number of connections that take arrivals at a fixed rate: more than are ever busy while the gateway keeps up.
const PACED_CONNECTIONS: usize = 256;
/// The lowest acceptable ratio.
const RATIO_MIN: f64 = 0.7;
const TAIL_RATIO_MAX: f64 = 3.0;

#[derive(Default)]
struct Rounds {
    hyper: Vec<f64>,
    postgres: Vec<f64>,
    lapin: Vec<f64>,
    ledger: Vec<f64>,
    gateway: Vec<f64>,
    ratio: Vec<f64>,
    paced_rate: Vec<f64>,
    commit_p50: Vec<f64>,
    commit_p99: Vec<f64>,
    paced_p50: Vec<f64>,
    paced_p99: Vec<f64>,
    tail_ratio: Vec<f64>,
    loads: Vec<f64>,
}

pub(crate) async fn measure(settings: &Settings) -> Result<Section, Fault> {
    let rounds = measure_rounds(settings).await?;
    let loads = rounds.loads;
    let rows = vec![
        Row::new("hyper alone, 64 connections", "replies/s", rounds.hyper),
        Row::new("PostgreSQL alone: rows of 64 callers in batches, marks behind", "jobs/s", rounds.postgres),
        Row::new("lapin alone: notices confirmed by a quorum queue", "notices/s", rounds.lapin),
        Row::new("our ledger alone: 64 callers (checks and limits included)", "jobs/s", rounds.ledger),
        Row::new("gateway: POST /submit_job, 64 connections", "jobs/s", rounds.gateway),
        Row::new("gateway over 1/(1/PostgreSQL + 1/lapin + 1/hyper)", "", rounds.ratio).at_least(RATIO_MIN),
        Row::new("half that rate, for what follows", "jobs/s", rounds.paced_rate),
        Row::new("p50  PostgreSQL alone, a commit for each row", "ms", rounds.commit_p50),
        Row::new("p50  gateway: POST /submit_job", "ms", rounds.paced_p50),
        Row::new("p99  PostgreSQL alone, a commit for each row", "ms", rounds.commit_p99),
        Row::new("p99  gateway: POST /submit_job", "ms", rounds.paced_p99),
        Row::new("p99 of the gateway over PostgreSQL's", "", rounds.tail_ratio).at_most(TAIL_RATIO_MAX),
    ];
    Ok(Section {
        title: "(a) accepted submits: one gateway, RabbitMQ, PostgreSQL; no verifier".to_owned(),
        rows: rows.into_iter().map(|row| row.under(&loads)).collect(),
        notes: vec![
            "Servers, gateway and clients share the cores; each peer has them to itself while it is measured."
                .to_owned(),
            "PostgreSQL alone writes the same rows in the same tables and checks nothing: no limit of an account, no \
             idempotency, no job that was sent twice."
                .to_owned(),
        ],
    })
}

/// Everything that is measured, ready to run.
struct Peers {
    network: Network,
    bare_postgres: BarePostgres,
    ledger: Arc<PostgresLedger>,
    asker: Asker,
    publisher: Publisher,
    /// The publishers' connection, held because it ends when it is dropped.
    _publishing: lapin::Connection,
    hyper: client::Ask,
    gateway: client::Ask,
}

impl Peers {
    async fn open(settings: &Settings) -> Result<Self, Fault> {
        let network = Network::open(settings, "accepts").await?;
        let asker = Asker::new(AccountId::fresh(), 1)?;
        let ledger = databases::ledger(settings, "bare").await?;
        let bare_postgres = BarePostgres::open(&settings.database("bare")?, asker.clone()).await?;
        let broker = settings.broker()?;
        Queues::over(connect(&broker).await?).declare_shared(0).await?;
        let publishing = connect(&broker).await?;
        let publisher = Publisher::open(&publishing).await?;
        let gateway = network.submit(0);
        // hyper answers with the gateway's first reply, to the byte.
        let hyper = gateway.at(bare::serve(gateway.once().await?).await?);
        Ok(Self { network, bare_postgres, ledger, asker, publisher, _publishing: publishing, hyper, gateway })
    }
}

async fn measure_rounds(settings: &Settings) -> Result<Rounds, Fault> {
    let pace = settings.pace();
    let peers = Peers::open(settings).await?;
    let mut rounds = Rounds::default();
    for _ in 0..pace.accept_rounds {
        measure_rates(&peers, pace, &mut rounds).await?;
        measure_tails(&peers, pace, &mut rounds).await?;
        rounds.loads.push(load_average());
    }
    peers.network.close().await?;
    Ok(rounds)
}

async fn measure_rates(peers: &Peers, pace: Pace, rounds: &mut Rounds) -> Result<(), Fault> {
    let span = pace.accept_span;
    let hyper = load(peers.hyper.clone(), CONNECTIONS, pace.warm_up / 4, span).await?.rate;
    let postgres = peers.bare_postgres.accepts(CONNECTIONS, span).await?;
    let lapin = publishes(&peers.publisher, span).await?;
    let ledger = accepts(&peers.ledger, &peers.asker, span).await?;
    let gateway = load(peers.gateway.clone(), CONNECTIONS, pace.warm_up / 4, span).await?.rate;
    rounds.ratio.push(gateway * (1.0 / postgres + 1.0 / lapin + 1.0 / hyper));
    rounds.hyper.push(hyper);
    rounds.postgres.push(postgres);
    rounds.lapin.push(lapin);
    rounds.ledger.push(ledger);
    rounds.gateway.push(gateway);
    Ok(())
}

async fn measure_tails(peers: &Peers, pace: Pace, rounds: &mut Rounds) -> Result<(), Fault> {
    let rate = rounds.gateway.last().copied().unwrap_or_default() / 2.0;
    let mut commits = peers.bare_postgres.paced(rate, pace.paced_span).await?;
    let mut submits = paced(&peers.gateway, rate, pace.paced_span).await?;
    let [commit, submit] = [&mut commits, &mut submits].map(|times| percentile_ms(times, 0.99));
    rounds.paced_rate.push(rate);
    rounds.commit_p50.push(percentile_ms(&mut commits, 0.5));
    rounds.paced_p50.push(percentile_ms(&mut submits, 0.5));
    rounds.commit_p99.push(commit);
    rounds.paced_p99.push(submit);
    rounds.tail_ratio.push(submit / commit);
    Ok(())
}

/// Returns how long requests take that arrive at this rate. The client has a thread of its own, as in `load`.
async fn paced(ask: &client::Ask, rate: f64, span: Duration) -> Result<Vec<Duration>, Fault> {
    let ask = ask.clone();
    let here = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(paced_here(&ask, rate, span))
    });
    here.await?
}

async fn paced_here(ask: &client::Ask, rate: f64, span: Duration) -> Result<Vec<Duration>, Fault> {
    let mut connections = Vec::with_capacity(PACED_CONNECTIONS);
    for _ in 0..PACED_CONNECTIONS {
        connections.push(Connection::open(ask).await?);
    }
    let schedule = Arc::new(Schedule::new(rate, span));
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let (ask, schedule) = (ask.clone(), Arc::clone(&schedule));
        tasks.spawn(async move {
            let mut times = Vec::new();
            while let Some(begun) = schedule.next().await {
                connection.ask(&ask).await?;
                times.push(begun.elapsed());
            }
            Ok::<_, Fault>(times)
        });
    }
    joined(tasks).await
}

async fn joined(mut tasks: JoinSet<Result<Vec<Duration>, Fault>>) -> Result<Vec<Duration>, Fault> {
    let mut times = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        times.extend(ended??);
    }
    Ok(times)
}

/// Returns how many notices are confirmed per second, with as many at once as there are clients.
async fn publishes(publisher: &Publisher, span: Duration) -> Result<f64, Fault> {
    let end = Instant::now() + span;
    counted(span, |asker| {
        let publisher = publisher.clone();
        async move {
            let mut count = 0;
            while Instant::now() < end {
                let job_id = asker.job().id;
                let body = JobNotice { job_id, speaks: Version::NEWEST }.to_message("").body;
                let key = JOBS.to_owned();
                publisher.publish(Parcel { exchange: "", key, id: job_id.to_string(), body }).await?;
                count += 1;
            }
            Ok(count)
        }
    })
    .await
}

/// Returns how many jobs per second the ledger accepts, used as the gateway uses it; no notice is marked.
async fn accepts(ledger: &Arc<PostgresLedger>, asker: &Asker, span: Duration) -> Result<f64, Fault> {
    let end = Instant::now() + span;
    counted(span, |_| {
        let (ledger, asker) = (Arc::clone(ledger), asker.clone());
        async move {
            let mut count = 0;
            while Instant::now() < end {
                if ledger.accept(asker.job()).await? != (Accepted::New { is_held: false }) {
                    return Err("a new job was not accepted as new".into());
                }
                count += 1;
            }
            Ok(count)
        }
    })
    .await
}

/// Returns how many operations per second that many callers complete together.
async fn counted<F>(span: Duration, caller: impl Fn(Asker) -> F) -> Result<f64, Fault>
where
    F: Future<Output = Result<usize, Fault>> + Send + 'static,
{
    let asker = Asker::new(AccountId::fresh(), 1)?;
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        tasks.spawn(caller(asker.clone()));
    }
    let mut count = 0;
    while let Some(ended) = tasks.join_next().await {
        count += ended??;
    }
    Ok(as_f64(count) / span.as_secs_f64())
}
