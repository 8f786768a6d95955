//! Section (g): many streams at once, whose nodes' stub engines say five tokens a second to each.

use std::time::{Duration, Instant};

use infera_bench::Fault;
use infera_bench::crowd::crowd;
use infera_bench::fixtures::WHOLE_TOKEN_MIN;
use infera_bench::machine::{cpu_time, load as load_average, resident_mib};
use infera_bench::measure::{as_f64, percentile_ms};
use infera_bench::report::{Row, Section};
use infera_telemetry::metrics::{BROKER_FLEETING, VERIFIER_FRAMES};

use crate::network::{Network, Special};
use crate::settings::Settings;

const GATEWAYS: usize = 2;
const VERIFIERS: usize = 2;
const NODES: usize = 6;
/// The time of a token.
const TOKEN: Duration = Duration::from_millis(200);
/// The longest acceptable p99 of the gaps, in times of a token.
const GAP_MAX: f64 = 2.0;
const MEMORY_MAX_KIB: f64 = 64.0;
const FRAMES_MAX: f64 = 150.0;

/// What is read while all streams are open.
struct Read {
    memory_mib: [f64; 2],
    /// Frames that verifiers read, and that they sent to gateways, a second.
    frames: [f64; 2],
    broker_s: f64,
    span: Duration,
}

pub(crate) async fn measure(settings: &Settings) -> Result<Section, Fault> {
    let (streams, tokens) = settings.pace().open_streams;
    let mut network = Network::open_to_nodes(settings, "streams", special(streams, tokens)?).await?;
    for _ in 1..GATEWAYS {
        network.add_gateway().await?;
    }
    network.set_verifiers(VERIFIERS).await?;
    network.set_workers(NODES).await?;
    let asks = |count: usize| {
        (0..count).map(|number| network.streamed(number % GATEWAYS, tokens)).collect::<Vec<_>>()
    };
    // Whatever the first streams bring about once is no cost of each.
    crowd(asks(8), async || Ok(())).await?;
    tokio::time::sleep(settings.pace().idle).await;
    let before = memory_mib(&network)?;
    let mut read = None;
    let seen = crowd(asks(streams), async || {
        read = Some(look(settings, &network, TOKEN * u32::try_from(tokens / 3)?).await?);
        Ok(())
    })
    .await?;
    let read = read.ok_or("nothing was read while streams were open")?;
    network.close().await?;
    let each = as_f64(streams);
    let shown = each * read.span.as_secs_f64() / TOKEN.as_secs_f64();
    let [read_frames, sent_frames] = read.frames;
    let grown = |place: usize| (read.memory_mib[place] - before[place]) * 1024.0 / each;
    let mut gaps = seen.gaps;
    let mut gap = |share, name: &str| {
        let value = percentile_ms(&mut gaps, share) / (TOKEN.as_secs_f64() * 1e3);
        Row::new(format!("{name} of the gaps over the time of a token"), "", vec![value])
    };
    let rows = vec![
        gap(0.5, "p50"),
        gap(0.99, "p99").at_most(GAP_MAX),
        gap(1.0, "longest"),
        Row::new("memory a stream, gateways", "KiB", vec![grown(0)]).at_most(MEMORY_MAX_KIB),
        Row::new("memory a stream, verifiers", "KiB", vec![grown(1)]).at_most(MEMORY_MAX_KIB),
        Row::new("frames a second that a verifier reads", "", vec![read_frames / as_f64(VERIFIERS)])
            .at_most(FRAMES_MAX),
        Row::new("frames a second that a gateway reads", "", vec![sent_frames / as_f64(GATEWAYS)])
            .at_most(FRAMES_MAX),
        Row::new("broker's CPU time for 1,000 tokens shown", "ms", vec![read.broker_s * 1e6 / shown]),
    ];
    let load = load_average();
    Ok(Section {
        title: format!("(g) open streams: {streams} at once through two gateways, {tokens} tokens each, 5 a second"),
        rows: rows.into_iter().map(|row| row.under(&[load])).collect(),
        notes: vec![
            "Memory is what is resident more while all streams are open. Frames are counted by the verifiers' metrics: what they read \
             of nodes, and what they send to gateways."
                .to_owned(),
        ],
    })
}

fn special(streams: usize, tokens: usize) -> Result<Special, Fault> {
    let micros = u64::try_from(TOKEN.as_micros())?;
    // Each stream has three of six nodes. Nodes are drawn by chance, so that some have more than half of the streams.
    let room = (streams * 3 / 4).to_string();
    let worker = vec![
        ("engine.stub.decode_us", micros.to_string()),
        ("engine.stub.answer_tokens", tokens.to_string()),
        ("engine.stub.sequences_max", room.clone()),
        ("engine.stub.top_rows", "true".to_owned()),
        ("engine.stub.token_min", WHOLE_TOKEN_MIN.to_string()),
        ("worker.slots", room),
    ];
    let gateway = vec![("gateway.offered_max", "0".to_owned())];
    let verifier = vec![("verifier.held_max", streams.to_string())];
    Ok(Special { settings: [gateway, verifier, worker], token_us: micros, has_metrics: true })
}

/// Returns the memory of all gateways and of all verifiers.
fn memory_mib(network: &Network) -> Result<[f64; 2], Fault> {
    let mut sums = [0.0; 2];
    for (role, pid) in network.roles() {
        sums[usize::from(role.starts_with("verifier"))] += resident_mib(pid)?;
    }
    Ok(sums)
}

async fn look(settings: &Settings, network: &Network, span: Duration) -> Result<Read, Fault> {
    let broker = [settings.broker_pid];
    let frames = async || -> Result<[f64; 2], Fault> {
        // Deltas are all that a verifier sends without a confirmation.
        let sent = network.metric(BROKER_FLEETING, "outcome=\"handed_on\"").await?;
        Ok([network.metric(VERIFIER_FRAMES, "outcome=\"read\"").await?, sent])
    };
    let (begun, before, counted) = (Instant::now(), cpu_time(&broker), frames().await?);
    tokio::time::sleep(span).await;
    let after = frames().await?;
    let (span, broker_s) = (begun.elapsed(), cpu_time(&broker).saturating_sub(before).as_secs_f64());
    let rate = |place: usize| (after[place] - counted[place]) / span.as_secs_f64();
    Ok(Read { memory_mib: memory_mib(network)?, frames: [rate(0), rate(1)], broker_s, span })
}
