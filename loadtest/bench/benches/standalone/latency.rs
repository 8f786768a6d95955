//! Section (b): how long a synchronous chat request takes when nothing else happens and the engine takes no time.

use tokio::runtime::Runtime;

use crate::commits::Bench;
use crate::settings::Settings;
use crate::stage::Stage;
use infera_bench::client::{Ask, load};
use infera_bench::fixtures::body;
use infera_bench::measure::percentile_ms;
use infera_bench::report::{Row, Section};
use infera_bench::{Fault, bare};

/// The percentiles that are shown.
const SHARES: [(f64, &str); 2] = [(0.5, "p50"), (0.99, "p99")];

/// The values of one percentile, per round.
#[derive(Default)]
struct Rounds {
    bare: Vec<f64>,
    chat: Vec<f64>,
    above_bare: Vec<f64>,
    accept: Vec<f64>,
    take: Vec<f64>,
    settle: Vec<f64>,
    rest: Vec<f64>,
}

pub(crate) fn measure(settings: &Settings, runtime: &Runtime) -> Result<Section, Fault> {
    let shares = runtime.block_on(measure_rounds(settings))?;
    let mut rows = Vec::new();
    for (rounds, (_, share)) in shares.into_iter().zip(SHARES) {
        rows.extend([
            Row::new(format!("{share}  hyper alone"), "ms", rounds.bare),
            Row::new(format!("{share}  chat, verified by three nodes"), "ms", rounds.chat),
            Row::new(format!("{share}  chat less hyper"), "ms", rounds.above_bare),
            Row::new(format!("{share}  commit alone: accept"), "ms", rounds.accept),
            Row::new(format!("{share}  commit alone: take"), "ms", rounds.take),
            Row::new(format!("{share}  commit alone: settle"), "ms", rounds.settle),
            Row::new(format!("{share}  chat less hyper less those three commits"), "ms", rounds.rest),
        ]);
    }
    Ok(Section {
        title: "(b) latency: one connection, gateway + verifier + three nodes with the stub engine".to_owned(),
        rows,
        notes: vec![
            "The stub's answer has 16 tokens, each chosen and its numbers reported as for a real engine; the rest also \
             holds the 2 ms for which a notice waits for others to be taken with."
                .to_owned(),
            "Percentiles are subtracted one by one; at p99 that is a difference of tails, not a tail of differences."
                .to_owned(),
        ],
    })
}

async fn measure_rounds(settings: &Settings) -> Result<[Rounds; 2], Fault> {
    let (folder, pace) = (settings.scratch()?, settings.pace());
    let stage = Stage::open(settings).await?;
    let alone = Bench::open(folder.path()).await?;
    let body = body("max_tokens");
    let key = stage.key.expose();
    let ask = Ask::post(stage.address, "/v1/chat/completions", key, &body, "\"status\":\"verified\"");
    let bare = ask.at(bare::serve(ask.once().await?).await?);
    let mut shares: [Rounds; 2] = Default::default();
    for _ in 0..pace.rounds {
        let mut hyper = load(bare.clone(), 1, pace.warm_up, pace.span).await?.times;
        let mut commits = alone.one_by_one(pace.span).await?;
        let mut chat = load(ask.clone(), 1, pace.warm_up, pace.span).await?.times;
        for (rounds, (share, _)) in shares.iter_mut().zip(SHARES) {
            let [hyper, chat] = [&mut hyper, &mut chat].map(|times| percentile_ms(times, share));
            let [accept, take, settle] = [&mut commits.accept, &mut commits.take, &mut commits.settle]
                .map(|times| percentile_ms(times, share));
            rounds.bare.push(hyper);
            rounds.chat.push(chat);
            rounds.above_bare.push(chat - hyper);
            rounds.accept.push(accept);
            rounds.take.push(take);
            rounds.settle.push(settle);
            rounds.rest.push(chat - hyper - accept - take - settle);
        }
    }
    stage.close().await?;
    Ok(shares)
}
