//! Section (c): what it costs to refuse, relative to a good chat of the same gateway. If a refusal cost more, refused
//! clients could crowd out the others.

use infera_bench::Fault;
use infera_bench::client::Ask;
use infera_bench::machine::load as load_average;
use infera_bench::ours::Ours;
use infera_bench::report::{Row, Section};
use infera_gateway::access::ApiKey;

use crate::crowd::Crowd;
use crate::settings::Settings;

/// The highest acceptable cost of a refusal, relative to a good chat.
const COST_MAX: f64 = 1.0;

/// Good requests: what is measured first, in the order of the rows.
const GOOD: [&str; 2] = ["a good chat, verified by three nodes", "a list of models"];
/// Refusals, in the order of the rows.
const REFUSED: [&str; 3] =
    ["401, one wrong key", "401, wrong keys not seen before", "429, no request left this minute"];

/// The number of wrong keys: twice as many as a gateway remembers by default (`gateway.keys_max`), so that none of
/// them is remembered when its turn comes again.
const WRONG_KEYS: usize = 20_000;

#[derive(Default)]
struct Rounds {
    good: [Vec<Crowd>; GOOD.len()],
    refused: [Vec<Crowd>; REFUSED.len()],
    loads: Vec<f64>,
}

pub(crate) async fn measure(settings: &Settings, ours: &Ours) -> Result<Section, Fault> {
    let pace = settings.pace();
    let good = [ours.chat(), ours.models()];
    let wrong = [wrong_keys(ours, 1)?, wrong_keys(ours, WRONG_KEYS)?];
    let mut rounds = Rounds::default();
    for _ in 0..pace.rounds {
        let asks = good.iter().chain(&wrong);
        for (ask, crowds) in asks.zip(rounds.good.iter_mut().chain(&mut rounds.refused)) {
            crowds.push(Crowd::of(ask, &[ours.pid()], pace.warm_up, pace.span).await?);
        }
        let [.., limited] = &mut rounds.refused;
        limited.push(measure_limited(settings).await?);
        rounds.loads.push(load_average());
    }
    Ok(table(&rounds))
}

fn table(rounds: &Rounds) -> Section {
    let mut rows = Vec::new();
    let all = GOOD.iter().zip(&rounds.good).chain(REFUSED.iter().zip(&rounds.refused));
    for (name, crowds) in all {
        rows.push(Row::new(*name, "replies/s", crowds.iter().map(|crowd| crowd.rate).collect()));
        let cpu_us = crowds.iter().map(|crowd| crowd.cpu_us).collect();
        rows.push(Row::new("   CPU time of the process per reply", "µs", cpu_us));
    }
    let [chats, lists] = &rounds.good;
    for (name, refused) in REFUSED.iter().zip(&rounds.refused) {
        rows.push(
            Row::new(format!("{name}: over a good chat"), "", ratios(refused, chats)).at_most(COST_MAX),
        );
        rows.push(Row::new(format!("{name}: over a list of models"), "", ratios(refused, lists)));
    }
    Section {
        title: "(c) refusals, and good replies of the same gateway".to_owned(),
        rows: rows.into_iter().map(|row| row.under(&rounds.loads)).collect(),
        notes: vec![
            "The ratios are of CPU time. That of a good chat is the whole process's, with three nodes and the ledger; a \
             list of models is the cheapest good reply that needs a key."
                .to_owned(),
            "Wrong keys have the right form. A key that was not seen before is looked up in the ledger; 20,000 take \
             turns, twice as many as the gateway remembers."
                .to_owned(),
            "The 429 is that of another `infera up`, whose keys have one request a minute. All other limits are \
             counted and not reached."
                .to_owned(),
        ],
    }
}

/// Returns the CPU time of refusals over that of others, for each round.
fn ratios(refused: &[Crowd], others: &[Crowd]) -> Vec<f64> {
    refused.iter().zip(others).map(|(refusal, other)| refusal.cpu_us / other.cpu_us).collect()
}

/// Makes chats under `count` keys that were never issued.
fn wrong_keys(ours: &Ours, count: usize) -> Result<Ask, Fault> {
    let chat = || Ok::<_, Fault>(ours.chat_by(ApiKey::generate()?.expose()));
    let others = (1..count).map(|_| chat()).collect::<Result<Vec<Ask>, Fault>>()?;
    Ok(chat()?.in_turns_with(&others).expecting(401, "\"error\""))
}

/// Measures a gateway whose key has no request left. It is started for each round, because a request comes back every
/// minute.
async fn measure_limited(settings: &Settings) -> Result<Crowd, Fault> {
    let pace = settings.pace();
    let limited = Ours::start(settings.place(), &[("gateway.requests_per_minute", "1".to_owned())]).await?;
    limited.chat().once().await?;
    let ask = limited.chat().expecting(429, "\"error\"");
    let crowd = Crowd::of(&ask, &[limited.pid()], pace.warm_up, pace.span).await?;
    limited.end().await?;
    Ok(crowd)
}
