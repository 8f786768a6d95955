//! Section (g): many streams at once on one `infera up`, whose stub engine says five tokens a second to each.

use std::time::Duration;

use infera_bench::Fault;
use infera_bench::crowd::crowd;
use infera_bench::fixtures::WHOLE_TOKEN_MIN;
use infera_bench::machine::resident_mib;
use infera_bench::measure::{as_f64, percentile_ms};
use infera_bench::ours::Ours;
use infera_bench::report::{Row, Section};
use tokio::runtime::Runtime;

use crate::settings::Settings;

/// The time of a token.
const TOKEN: Duration = Duration::from_millis(200);
/// The longest acceptable p99 of the gaps, in times of a token.
const GAP_MAX: f64 = 2.0;

pub(crate) fn measure(settings: &Settings, runtime: &Runtime) -> Result<Section, Fault> {
    runtime.block_on(measure_crowd(settings))
}

async fn measure_crowd(settings: &Settings) -> Result<Section, Fault> {
    let pace = settings.pace();
    let (streams, tokens) = pace.open_streams;
    let room = (streams + streams / 8).to_string();
    let micros = TOKEN.as_micros().to_string();
    let special = [
        ("engine.stub.decode_us", micros.clone()),
        ("engine.stub.answer_tokens", tokens.to_string()),
        ("engine.stub.sequences_max", room.clone()),
        ("engine.stub.top_rows", "true".to_owned()),
        ("engine.stub.token_min", WHOLE_TOKEN_MIN.to_string()),
        ("reference_token_us", micros),
        ("worker.slots", room.clone()),
        ("verifier.held_max", room),
        ("gateway.offered_max", "0".to_owned()),
    ];
    let network = Ours::start(settings.place_of(settings.infera()), &special).await?;
    let ask = network.streamed(r#""release":"agreed""#, tokens, "\"status\":\"verified\"");
    // Whatever the first streams bring about once is no cost of each.
    crowd(vec![ask.clone(); streams.min(8)], async || Ok(())).await?;
    tokio::time::sleep(pace.idle).await;
    let before = resident_mib(network.pid())?;
    let mut open = before;
    let seen = crowd(vec![ask; streams], async || {
        // In the middle of the answers.
        tokio::time::sleep(TOKEN * u32::try_from(tokens / 4)?).await;
        open = resident_mib(network.pid())?;
        Ok(())
    })
    .await?;
    network.end().await?;
    let mut gaps = seen.gaps;
    let token_ms = TOKEN.as_secs_f64() * 1e3;
    let mut row = |share, name: &str| {
        Row::new(
            format!("{name} of the gaps over the time of a token"),
            "",
            vec![percentile_ms(&mut gaps, share) / token_ms],
        )
    };
    let rows = vec![
        row(0.5, "p50"),
        row(0.99, "p99").at_most(GAP_MAX),
        row(1.0, "longest"),
        Row::new("pieces of text a stream", "", vec![as_f64(seen.pieces) / as_f64(streams)]),
        Row::new(
            "memory a stream, of all roles in one process",
            "KiB",
            vec![(open - before) * 1024.0 / as_f64(streams)],
        ),
    ];
    Ok(Section {
        title: format!("(g) open streams: {streams} at once, {tokens} tokens each, 5 a second"),
        rows,
        notes: vec![
            "Memory is what is resident more while all streams are open, of gateway, verifier and three nodes together. `make bench-cluster` \
             shows it by role, with frames a second and the broker's CPU time."
                .to_owned(),
        ],
    })
}
