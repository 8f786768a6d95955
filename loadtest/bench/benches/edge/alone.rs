//! Section (a): one request at a time. What our gateway takes of a chat, beside what onwards adds to one.

use std::time::Duration;

use infera_bench::Fault;
use infera_bench::client::{Ask, Reply, load, load_observed};
use infera_bench::machine::load as load_average;
use infera_bench::measure::{median, percentile_ms};
use infera_bench::report::{Row, Section};
use infera_bench::server_timing::ServerTiming;

use crate::peers::Peers;
use crate::settings::{Pace, Settings};

/// The highest acceptable ratio of our gateway's share to what onwards adds.
const SHARE_MAX: f64 = 1.0;
/// The least and the most of the client's latency that the entries of `Server-Timing` may add up to.
const SUM: [f64; 2] = [0.95, 1.05];
const SHARE: f64 = 0.5;

/// Our chat in one round: medians over its requests, in microseconds.
struct Chat {
    latency: f64,
    gateway: f64,
    accept: f64,
    wait: f64,
    /// What the client measured and no entry holds.
    unnamed: f64,
    /// The sum of the entries over the client's latency.
    sum_ratio: f64,
}

#[derive(Default)]
struct Rounds {
    direct: Vec<f64>,
    /// The latency and what it adds to the direct one, of each peer.
    peers: Vec<[Vec<f64>; 2]>,
    chats: Vec<Chat>,
    /// The direct latency of a client that pauses for as long as our chat takes.
    rested: Vec<f64>,
    loads: Vec<f64>,
}

pub(crate) async fn measure(settings: &Settings, chat: &Ask, peers: &Peers) -> Result<Section, Fault> {
    let pace = settings.pace();
    let mut rounds = Rounds::default();
    rounds.peers.resize_with(peers.all().count(), Default::default);
    for _ in 0..pace.rounds {
        let direct = p50_us(&peers.direct, pace.warm_up, pace.span).await?;
        for (peer, [whole, added]) in peers.all().zip(&mut rounds.peers) {
            let p50 = p50_us(&peer.chat, peer.warm_up, pace.span).await?;
            whole.push(p50);
            added.push(p50 - direct);
        }
        rounds.direct.push(direct);
        let chat = measure_chat(chat, pace).await?;
        let rested = peers.direct.clone().after(Duration::from_secs_f64(chat.latency / 1e6));
        rounds.rested.push(p50_us(&rested, pace.warm_up, pace.span).await?);
        rounds.chats.push(chat);
        rounds.loads.push(load_average());
    }
    Ok(table(&rounds, peers))
}

fn table(rounds: &Rounds, peers: &Peers) -> Section {
    let of = |value: fn(&Chat) -> f64| rounds.chats.iter().map(value).collect::<Vec<f64>>();
    let over = |others: &[f64], value: fn(&Chat) -> f64| -> Vec<f64> {
        of(value).iter().zip(others).map(|(value, other)| value / other).collect()
    };
    let with_rested = rounds.chats.iter().zip(&rounds.rested);
    let with_rested =
        with_rested.map(|(chat, rested)| 1.0 + (rested - chat.unnamed) / chat.latency).collect();
    let mut rows = vec![Row::new("p50  the mock directly", "µs", rounds.direct.clone())];
    for (peer, [whole, added]) in peers.all().zip(&rounds.peers) {
        rows.push(Row::new(format!("p50  {}", peer.name), "µs", whole.clone()));
        rows.push(Row::new(format!("p50  {} less the mock directly", peer.name), "µs", added.clone()));
    }
    rows.extend([
        Row::new("p50  ours: a chat, verified by three nodes", "µs", of(|chat| chat.latency)),
        Row::new("p50  ours: gateway", "µs", of(|chat| chat.gateway)),
        Row::new("p50  ours: accept, the ledger's commit", "µs", of(|chat| chat.accept)),
        Row::new("p50  ours: wait, for the network", "µs", of(|chat| chat.wait)),
        Row::new("p50  ours: what no entry holds", "µs", of(|chat| chat.unnamed)),
        Row::new("ours: sum of the entries over the client's latency", "", of(|chat| chat.sum_ratio))
            .at_least(SUM[0])
            .at_most(SUM[1]),
        Row::new("p50  the mock directly, after a pause as long as our chat", "µs", rounds.rested.clone()),
        Row::new("ours: the entries and that, over the client's latency", "", with_rested),
    ]);
    // onwards is the first, where it is installed.
    if let (Some(_), Some([whole, added])) = (&peers.onwards, rounds.peers.first()) {
        let shares = over(added, |chat| chat.gateway);
        rows.push(Row::new("ours: gateway over what onwards adds", "", shares).at_most(SHARE_MAX));
        let wholes = over(whole, |chat| chat.gateway + chat.unnamed);
        rows.push(Row::new("ours: gateway and what no entry holds, over onwards", "", wholes));
    }
    let mut notes = vec![
        "gateway is the time from when the kernel was asked for the request's head, which it had, to the reply's being \
         handed to hyper, less accept and wait: hyper's reading, routing, the key, the limits, checking the body, the \
         reply. What no entry holds is waking the connection's task, hyper's writing, the kernel, and the client; it is \
         part of what onwards adds and of the mock's latency, so the last row compares with both."
            .to_owned(),
        "While a chat is answered, its client and its connection sleep. Waking both takes time in which nothing of \
         ours runs: the mock, asked after a pause as long, shows how much."
            .to_owned(),
        "Ours checks a key, counts limits, commits the job, and compares three answers. onwards checks a key and \
         counts limits. Portkey has no keys of its own. LiteLLM checks a key, and has no database here."
            .to_owned(),
    ];
    notes.extend(peers.missing.iter().cloned());
    Section {
        title: "(a) one request at a time".to_owned(),
        rows: rows.into_iter().map(|row| row.under(&rounds.loads)).collect(),
        notes,
    }
}

async fn p50_us(ask: &Ask, warm_up: Duration, span: Duration) -> Result<f64, Fault> {
    let mut load = load(ask.clone(), 1, warm_up, span).await?;
    Ok(percentile_ms(&mut load.times, SHARE) * 1e3)
}

async fn measure_chat(chat: &Ask, pace: Pace) -> Result<Chat, Fault> {
    let load = load_observed(chat.clone(), 1, pace.warm_up, pace.span, observe).await?;
    let all: Option<Vec<Chat>> = load.times.into_iter().collect();
    let all = all.ok_or("a reply without the entries gateway, accept and wait in Server-Timing")?;
    let of = |value: fn(&Chat) -> f64| median(&all.iter().map(value).collect::<Vec<f64>>());
    Ok(Chat {
        latency: of(|chat| chat.latency),
        gateway: of(|chat| chat.gateway),
        accept: of(|chat| chat.accept),
        wait: of(|chat| chat.wait),
        unnamed: of(|chat| chat.unnamed),
        sum_ratio: of(|chat| chat.sum_ratio),
    })
}

/// Reads how one chat's time was spent.
fn observe(reply: Reply<'_>, time: Duration) -> Option<Chat> {
    let timing = ServerTiming::parse(reply.header("server-timing")?)?;
    let latency = time.as_secs_f64() * 1e6;
    let us = |name| timing.ms(name).map(|ms| ms * 1e3);
    let sum = timing.sum_ms() * 1e3;
    Some(Chat {
        latency,
        gateway: us("gateway")?,
        accept: us("accept")?,
        wait: us("wait")?,
        unnamed: latency - sum,
        sum_ratio: sum / latency,
    })
}
