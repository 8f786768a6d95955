//! Section (f): the time to a stream's first token with three nodes, of which two must agree, over that with one node alone. Both
//! go through a gateway and a verifier, one stream at a time.

use std::time::Duration;

use infera_bench::Fault;
use infera_bench::client::{Ask, Connection};
use infera_bench::fixtures::{WHOLE_TOKEN_MIN, streamed_body};
use infera_bench::measure::percentile_ms;
use infera_bench::ours::Ours;
use infera_bench::report::{Row, Section};
use infera_engine::stub::StubConfig;
use tokio::runtime::Runtime;

use crate::settings::Settings;
use crate::stage::Stage;

/// The time of a prompt, and of a token: 20 a second.
const PREFILL: Duration = Duration::from_millis(100);
const TOKEN: Duration = Duration::from_millis(50);
/// A single time is within `1 ± SPREAD` of these, uniformly.
const SPREAD: f64 = 0.5;
/// Tokens of an answer: the first comes before the answer ends, and a stream is short.
const ANSWER_TOKENS: usize = 2;
/// The pause before each stream: the node that nobody waits for may be a prompt and a few tokens behind, and streams come one at a time.
const PAUSE: Duration = Duration::from_millis(200);
/// The rounds: the median of five tolerates a disturbed one on either side.
const ROUNDS: usize = 5;
/// The highest acceptable ratios. With times that are spread uniformly the second of three is as fast as one in the median, and faster at
/// its slowest; a ninth of the median is what frames, comparison and the longer way may cost.
const RATIO_MAX: [(f64, &str, f64); 2] = [(0.5, "p50", 1.15), (0.99, "p99", 1.0)];

/// One node's stream, whose verdict can't be `verified`.
const ALONE: (&str, &str) = (r#""replicas":1,"release":"first""#, "\"status\":\"unverified\"");
const AGREED: (&str, &str) = (r#""release":"agreed""#, "\"status\":\"verified\"");

pub(crate) fn measure(settings: &Settings, runtime: &Runtime) -> Result<Section, Fault> {
    let (alone, agreed) = runtime.block_on(measure_stubs(settings))?;
    let mut rows = Vec::new();
    for (share, name, most) in RATIO_MAX {
        let of =
            |rounds: &Rounds| rounds.iter().map(|times| percentile_ms(&mut times.clone(), share)).collect();
        rows.push(Row::new(format!("{name}  one node alone, `first`"), "ms", of(&alone)));
        rows.push(Row::new(format!("{name}  three nodes, `agreed`"), "ms", of(&agreed)));
        // Of all streams at once: the slowest hundredth of one round is a handful.
        let [alone, agreed] = [&alone, &agreed].map(|rounds| percentile_ms(&mut rounds.concat(), share));
        rows.push(
            Row::new(format!("{name}  agreed over alone, of all rounds"), "", vec![agreed / alone])
                .at_most(most),
        );
    }
    let model = runtime.block_on(measure_model(settings))?;
    for (share, name, _) in RATIO_MAX {
        for (times, what) in model.iter().zip(["one node, `first`", "three nodes, `agreed`"]) {
            let value = percentile_ms(&mut times.clone(), share);
            rows.push(Row::new(format!("{name}  infera-tiny, {what}"), "ms", vec![value]));
        }
    }
    Ok(Section {
        title: format!(
            "(f) first token: {} streams of each kind, one at a time; the stub takes 100 ms for a prompt, 50 ms for a token, each ± 50 %",
            alone.iter().map(Vec::len).sum::<usize>()
        ),
        rows,
        notes: vec![
            "The two kinds run beside each other on networks of their own, one stream at a time each, so that whatever disturbs the \
             machine disturbs both. Each node's times are its own."
                .to_owned(),
            "infera-tiny's three nodes share the cores, so three prompts take as long as they have cores for.".to_owned(),
        ],
    })
}

type Rounds = Vec<Vec<Duration>>;

async fn measure_stubs(settings: &Settings) -> Result<(Rounds, Rounds), Fault> {
    let stubs: Vec<_> = (0..4).map(stub).collect();
    let alone = Stage::of_stubs(settings, &stubs[3..], TOKEN).await?;
    let three = Stage::of_stubs(settings, &stubs[..3], TOKEN).await?;
    let each = settings.pace().first_tokens.div_ceil(ROUNDS);
    let (mut alones, mut agreeds) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let [one, other] = [(&alone, ALONE), (&three, AGREED)].map(|(stage, kind)| ask(stage, kind));
        let (first, second) =
            tokio::try_join!(one_by_one(&one, each, PAUSE), one_by_one(&other, each, PAUSE))?;
        alones.push(first);
        agreeds.push(second);
    }
    alone.close().await?;
    three.close().await?;
    Ok((alones, agreeds))
}

/// Makes the stub of one node, whose times differ from the others'.
fn stub(index: u64) -> StubConfig {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    StubConfig {
        prefill_us: micros(PREFILL),
        decode_us: micros(TOKEN),
        spread: SPREAD,
        spread_seed: 1 + index,
        answer_tokens: ANSWER_TOKENS,
        token_min: WHOLE_TOKEN_MIN,
        ..StubConfig::default()
    }
}

fn ask(stage: &Stage, (verification, expected): (&str, &'static str)) -> Ask {
    let body = streamed_body(verification, 16);
    Ask::post(stage.address, "/v1/chat/completions", stage.key.expose(), &body, expected)
}

/// Returns the time to the first token of `count` streams, each of which is read to its end.
async fn one_by_one(ask: &Ask, count: usize, pause: Duration) -> Result<Vec<Duration>, Fault> {
    let mut connection = Connection::open(ask).await?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        tokio::time::sleep(pause).await;
        times.push(connection.stream(ask, || ()).await?.first()?);
    }
    Ok(times)
}

/// Returns the times with the bundled model, in turns on one network.
async fn measure_model(settings: &Settings) -> Result<[Vec<Duration>; 2], Fault> {
    let special = [("engine.kind", "onnx".to_owned())];
    let network = Ours::start(settings.place_of(settings.infera()), &special).await?;
    let mut times = [Vec::new(), Vec::new()];
    let each = settings.pace().first_tokens.div_ceil(ROUNDS * ROUNDS);
    for _ in 0..ROUNDS {
        for (times, (verification, expected)) in times.iter_mut().zip([ALONE, AGREED]) {
            let ask = network.streamed(verification, 16, expected);
            times.extend(one_by_one(&ask, each, Duration::from_millis(20)).await?);
        }
    }
    network.end().await?;
    Ok(times)
}
