//! Section (a): jobs accepted per second through the gateway, relative to what its two halves could do one after the
//! other.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use infera_broker::memory::MemoryBroker;
use infera_gateway::access::ApiKey;
use infera_gateway::{Gateway, Seams};
use infera_ledger::{AccountBook as _, CatalogueEntry, NetworkBook as _};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{Digest, ModelName};
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::commits::Bench;
use crate::settings::Settings;
use crate::stage::generous;
use infera_bench::client::{Ask, load};
use infera_bench::fixtures::{MODEL, body};
use infera_bench::report::{Row, Section};
use infera_bench::{Fault, bare};

/// The number of connections, and of callers of the ledger alone: many clients, and few enough for two cores.
const CONNECTIONS: usize = 64;
/// The lowest acceptable ratio.
const RATIO_MIN: f64 = 0.7;

/// A gateway with nothing behind it: the jobs that it accepts stay where they are.
struct Accepting {
    address: SocketAddr,
    key: ApiKey,
    shutdown: Shutdown,
    running: JoinHandle<()>,
}

impl Accepting {
    async fn open(folder: &Path) -> Result<Self, Fault> {
        let path = folder.join("gateway.sqlite");
        let ledger = tokio::task::spawn_blocking(move || SqliteLedger::open(&path)).await??;
        let now = Timestamp::now();
        let entry = CatalogueEntry {
            name: ModelName::new(MODEL),
            digests: vec![Digest::of(b"model")],
            tokenizer: Digest::of(b"tokenizer"),
            context_max: 512,
            said_bytes_per_token: None,
            quantization: None,
            end_tokens: vec![2],
            reference_token_us: 200,
            bytes: None,
            created_ms: now,
            removed_ms: None,
        };
        ledger.list_model(&entry).await?;
        let account = ledger.sign_up("bench@infera.invalid", None, now).await?.account;
        let key = ApiKey::generate()?;
        ledger.issue_key(&key.row(account), now).await?;
        let seams = Seams {
            intake: ledger.clone(),
            reader: ledger.clone(),
            batches: ledger.clone(),
            lists: ledger.clone(),
            accounts: ledger.clone(),
            keys: ledger.clone(),
            erasures: ledger.clone(),
            network: Arc::clone(&ledger) as _,
            roster: Arc::clone(&ledger) as _,
            node_reader: Arc::clone(&ledger) as _,
            groups: Arc::clone(&ledger) as _,
            broker: MemoryBroker::new(),
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, shutdown) = (listener.local_addr()?, Shutdown::new());
        let running = tokio::spawn(Gateway::new(generous(), seams).run(listener, shutdown.clone()));
        Ok(Self { address, key, shutdown, running })
    }
}

#[derive(Default)]
struct Rounds {
    rates: [Vec<f64>; 3],
    cpu_us: [Vec<f64>; 3],
    ratios: Vec<f64>,
}

pub(crate) fn measure(settings: &Settings, runtime: &Runtime) -> Result<Section, Fault> {
    let rounds = runtime.block_on(measure_rounds(settings))?;
    let [bare, ledger, gateway] = rounds.rates;
    let [bare_cpu, ledger_cpu, gateway_cpu] = rounds.cpu_us;
    let mut rows = vec![
        Row::new("hyper alone, 64 connections", "replies/s", bare),
        Row::new("ledger alone, 64 callers, notices marked behind", "jobs/s", ledger),
        Row::new("gateway: POST /submit_job, 64 connections", "jobs/s", gateway),
        Row::new("gateway over 1/(1/ledger + 1/hyper)", "", rounds.ratios).at_least(RATIO_MIN),
    ];
    for (name, cpu_us) in [("hyper", bare_cpu), ("ledger", ledger_cpu), ("gateway", gateway_cpu)] {
        if !cpu_us.is_empty() {
            rows.push(Row::new(format!("CPU for each, the client's included: {name}"), "us", cpu_us));
        }
    }
    Ok(Section {
        title: "(a) submits: jobs accepted through the gateway".to_owned(),
        rows,
        notes: vec![
            "Client, server and the ledger's writer share the cores; the client costs the gateway and hyper the same."
                .to_owned(),
            "The ratio can pass 1: while the ledger waits for the disk, the gateway reads the next requests.".to_owned(),
        ],
    })
}

async fn measure_rounds(settings: &Settings) -> Result<Rounds, Fault> {
    let (folder, pace) = (settings.scratch()?, settings.pace());
    let gateway = Accepting::open(folder.path()).await?;
    let alone = Bench::open(folder.path()).await?;
    let body = body("max_output");
    let ask = Ask::post(gateway.address, "/submit_job", gateway.key.expose(), &body, "\"job_id\":\"job_");
    // hyper answers with the gateway's first reply, to the byte.
    let reply = first_reply(&ask).await?;
    let bare = ask.at(bare::serve(reply).await?);
    let mut rounds = Rounds::default();
    for _ in 0..pace.rounds {
        let hyper = load(bare.clone(), CONNECTIONS, pace.warm_up, pace.span).await?;
        let (ledger, ledger_cpu) = alone.accepts(CONNECTIONS, pace.span).await?;
        let through = load(ask.clone(), CONNECTIONS, pace.warm_up, pace.span).await?;
        let rates = [hyper.rate, ledger, through.rate];
        for (all, rate) in rounds.rates.iter_mut().zip(rates) {
            all.push(rate);
        }
        for (all, cpu_us) in rounds.cpu_us.iter_mut().zip([hyper.cpu_us, ledger_cpu, through.cpu_us]) {
            all.extend(cpu_us);
        }
        rounds.ratios.push(through.rate * (1.0 / ledger + 1.0 / hyper.rate));
    }
    gateway.shutdown.cancel();
    gateway.running.await?;
    Ok(rounds)
}

/// Returns the gateway's first good reply; it reads its catalogue moments after it listens.
async fn first_reply(ask: &Ask) -> Result<String, Fault> {
    const TRIES: usize = 50;
    const BETWEEN: std::time::Duration = std::time::Duration::from_millis(100);
    let mut outcome = ask.once().await;
    for _ in 0..TRIES {
        if outcome.is_ok() {
            break;
        }
        tokio::time::sleep(BETWEEN).await;
        outcome = ask.once().await;
    }
    outcome
}
