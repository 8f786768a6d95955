//! The figures of all rounds, and the table's sections that are made of them.

use std::collections::HashMap;
use std::time::Duration;

use infera_bench::machine;
use infera_bench::measure::as_f64;
use infera_bench::report::{Row, Section};

use crate::crowd::CLIENTS;
use crate::jobs::{ANSWER_TOKENS, LONG_PROMPT_TOKENS, MIXED, PROMPT_TOKENS};
use crate::long::{Beside, RUNNERS};
use crate::observed::Profile;
use crate::side::{Side, Sides};

/// How the names of peers begin that the goals are about.
const LLAMA: &str = "llama.cpp";
/// The variant of ours with weights of as many bits as the GGUF's.
const FOUR_BITS: &str = "ours q4";

/// The goals, by the number of clients or jobs: tokens per second over those of the fastest llama.cpp.
const OVER_LLAMA: [(usize, f64); 2] = [(1, 1.0), (MIXED, 1.3)];
/// 16 clients over bare steps of 16 sequences.
const OVER_STEPS: (usize, f64) = (16, 0.85);
/// A long prompt's time to first token beside others over that alone, and the others' gaps over usual ones.
const BESIDE_OVER_ALONE: f64 = 3.0;
const GAP_OVER_USUAL: f64 = 2.0;

/// The values of one figure, one a round.
type Values = Vec<f64>;

/// The figures of one engine.
#[derive(Debug, Default)]
struct Figures {
    rates: HashMap<usize, Values>,
    steps: HashMap<usize, Values>,
    alone_ms: Values,
    beside_ms: Values,
    usual_gap_ms: Values,
    gap_p99_ms: Values,
    gap_longest_ms: Values,
    peak_mib: Values,
    profile: Vec<(Profile, Duration)>,
}

/// All figures.
#[derive(Debug, Default)]
pub(crate) struct Table {
    figures: HashMap<String, Figures>,
    /// The load average at each round's beginning.
    loads: Values,
}

impl Table {
    pub(crate) fn round(&mut self) {
        self.loads.push(machine::load());
    }

    /// Drops the figures of an engine that failed.
    pub(crate) fn forget(&mut self, name: &str) {
        self.figures.remove(name);
    }

    fn of(&mut self, name: &str) -> &mut Figures {
        self.figures.entry(name.to_owned()).or_default()
    }

    /// Notes tokens per second with this number of clients, or of jobs at once.
    pub(crate) fn rate(&mut self, name: &str, count: usize, rate: f64) {
        self.of(name).rates.entry(count).or_default().push(rate);
    }

    /// Notes tokens per second of bare steps.
    pub(crate) fn steps(&mut self, name: &str, batch: usize, rate: f64) {
        self.of(name).steps.entry(batch).or_default().push(rate);
    }

    /// Notes what a long prompt met.
    pub(crate) fn long(&mut self, name: &str, alone: Duration, beside: &Beside) {
        let figures = self.of(name);
        figures.alone_ms.push(alone.as_secs_f64() * 1e3);
        figures.beside_ms.push(beside.first_token.as_secs_f64() * 1e3);
        figures.usual_gap_ms.push(beside.usual_gap_ms);
        figures.gap_p99_ms.push(beside.gap_p99_ms);
        figures.gap_longest_ms.push(beside.gap_longest_ms);
    }

    /// Notes the largest resident memory.
    pub(crate) fn memory(&mut self, name: &str, peak_mib: f64) {
        self.of(name).peak_mib.push(peak_mib);
    }

    /// Notes where the time of the mixed jobs went.
    pub(crate) fn profile(&mut self, name: &str, profile: &Profile, wall: Duration) {
        self.of(name).profile.push((*profile, wall));
    }

    /// Returns the table's sections; those without a figure are left out.
    pub(crate) fn sections(&self, sides: &Sides, threads: usize) -> Vec<Section> {
        let sections = [
            self.throughput(sides, threads),
            self.long_prompt(sides),
            self.largest_memory(sides),
            self.where_it_goes(sides),
        ];
        sections.into_iter().filter(|section| !section.rows.is_empty()).collect()
    }

    fn figures<'a>(&'a self, sides: &'a Sides) -> impl Iterator<Item = (&'a Side, &'a Figures)> {
        sides.all.iter().filter_map(|side| Some((side, self.figures.get(side.name())?)))
    }

    fn throughput(&self, sides: &Sides, threads: usize) -> Section {
        let mut rows = Vec::new();
        for count in CLIENTS.into_iter().chain([MIXED]) {
            let what = what(count);
            let rates = |side: &Side| self.figures.get(side.name())?.rates.get(&count);
            for side in &sides.all {
                let row = |values: &Values| {
                    Row::new(format!("{what}: {}", side.name()), "tokens/s", values.clone())
                };
                rows.extend(rates(side).map(|values| row(values).under(&self.loads)));
            }
            let llama =
                best(sides.all.iter().filter(|side| side.name().starts_with(LLAMA)).filter_map(rates));
            let peers = best(sides.all.iter().filter(|side| !side.is_ours()).filter_map(rates));
            for (side, figures) in self.figures(sides).filter(|(side, _)| side.is_ours()) {
                let Some(own) = figures.rates.get(&count) else { continue };
                let over = |name: &str, values: &Values| {
                    Row::new(format!("{what}: {} over {name}", side.name()), "", ratios(own, values))
                };
                let goal = OVER_LLAMA.iter().find(|(at, _)| *at == count && side.name() == FOUR_BITS);
                if !llama.is_empty() {
                    let row = over("the fastest llama.cpp", &llama);
                    rows.push(match goal {
                        Some((_, least)) => row.at_least(*least),
                        None => row,
                    });
                }
                if !peers.is_empty() {
                    rows.push(over("the fastest peer", &peers));
                }
                if let Some(steps) = figures.steps.get(&count) {
                    rows.push(Row::new(
                        format!("{what}: {}, bare steps", side.name()),
                        "tokens/s",
                        steps.clone(),
                    ));
                    let row = over("its bare steps", steps);
                    rows.push(if OVER_STEPS.0 == count { row.at_least(OVER_STEPS.1) } else { row });
                }
            }
        }
        Section { title: format!("(a) tokens per second, {threads} threads each"), rows, notes: notes(sides) }
    }

    fn long_prompt(&self, sides: &Sides) -> Section {
        let mut rows = Vec::new();
        for (side, figures) in self.figures(sides).filter(|(_, figures)| !figures.alone_ms.is_empty()) {
            let name = side.name();
            let row =
                |what: &str, unit, values: &Values| Row::new(format!("{name}: {what}"), unit, values.clone());
            let over = |what: &str, above: &Values, below: &Values, most| {
                let row = Row::new(format!("{name}: {what}"), "", ratios(above, below));
                if side.is_ours() { row.at_most(most) } else { row }
            };
            rows.extend([
                row("first token, alone", "ms", &figures.alone_ms),
                row("first token, beside others", "ms", &figures.beside_ms),
                over("beside others over alone", &figures.beside_ms, &figures.alone_ms, BESIDE_OVER_ALONE),
                row("others' gap before it", "ms", &figures.usual_gap_ms),
                row("others' gap meanwhile, p99", "ms", &figures.gap_p99_ms),
                over(
                    "p99 gap over the gap before",
                    &figures.gap_p99_ms,
                    &figures.usual_gap_ms,
                    GAP_OVER_USUAL,
                ),
                row("others' longest gap", "ms", &figures.gap_longest_ms),
            ]);
        }
        let notes = vec![format!(
            "A prompt of {LONG_PROMPT_TOKENS} tokens comes when {RUNNERS} sequences decode. The gap before it is the \
             median between two tokens of one of them; those meanwhile lie, wholly or in part, between its sending and its \
             first token. An engine that begins with it only when others have ended delays nobody, and has the longest time \
             to first token."
        )];
        Section { title: "(b) a long prompt beside running sequences".to_owned(), rows, notes }
    }

    fn largest_memory(&self, sides: &Sides) -> Section {
        let row = |(side, figures): (&Side, &Figures)| {
            Row::new(format!("{}: largest resident memory", side.name()), "MiB", figures.peak_mib.clone())
        };
        let rows = self.figures(sides).filter(|(_, figures)| !figures.peak_mib.is_empty()).map(row).collect();
        let notes = vec![
            "Pages of files that are mapped count as well. Ours reserves caches for the model's whole context and touches \
             them as they fill; llama.cpp touches its caches, of 2,048 tokens for each slot, when it starts."
                .to_owned(),
        ];
        Section { title: "(c) memory".to_owned(), rows, notes }
    }

    fn where_it_goes(&self, sides: &Sides) -> Section {
        let mut rows = Vec::new();
        for (side, figures) in self.figures(sides).filter(|(_, figures)| !figures.profile.is_empty()) {
            let mut row = |what: &str, unit, value: fn(&Profile, f64) -> f64| {
                let values = figures.profile.iter().map(|(profile, wall)| value(profile, wall.as_secs_f64()));
                rows.push(Row::new(
                    format!("{}, {}: {what}", what_of(MIXED), side.name()),
                    unit,
                    values.collect(),
                ));
            };
            row("prefills", "%", |profile, wall| 100.0 * profile.prefill_s / wall);
            row("decoding steps", "%", |profile, wall| 100.0 * profile.decode_s / wall);
            row("choosing tokens, and their numbers", "%", |profile, wall| 100.0 * profile.choose_s / wall);
            row("everything else, the worker's own", "%", |profile, wall| {
                100.0 * (1.0 - (profile.prefill_s + profile.decode_s + profile.choose_s) / wall)
            });
            row("sequences in a decoding step", "", |profile, _| {
                count(profile.step_rows) / count(profile.steps)
            });
            row("a decoding step", "ms", |profile, _| 1e3 * profile.decode_s / count(profile.steps));
            row("a prefill", "ms", |profile, _| 1e3 * profile.prefill_s / count(profile.prefills));
        }
        Section { title: "(d) where the time of our side goes".to_owned(), rows, notes: sides.notes.clone() }
    }
}

fn count(count: u64) -> f64 {
    usize::try_from(count.max(1)).map_or(f64::INFINITY, as_f64)
}

fn what(count: usize) -> String {
    match count {
        MIXED => what_of(count),
        1 => "1 client".to_owned(),
        _ => format!("{count} clients"),
    }
}

fn what_of(jobs: usize) -> String {
    format!("{jobs} jobs at once")
}

/// Returns each round's ratio.
fn ratios(above: &Values, below: &Values) -> Values {
    above.iter().zip(below).map(|(above, below)| above / below).collect()
}

/// Returns each round's largest value among those that were measured in it.
fn best<'a>(all: impl Iterator<Item = &'a Values>) -> Values {
    let all: Vec<_> = all.collect();
    let rounds = all.iter().map(|values| values.len()).max().unwrap_or_default();
    let largest =
        |round: usize| all.iter().filter_map(|values| values.get(round)).copied().fold(0.0, f64::max);
    (0..rounds).map(largest).collect()
}

/// Returns how to read the rates, what each engine is, and what is left out.
fn notes(sides: &Sides) -> Vec<String> {
    let mut notes = vec![format!(
        "Prompts of {} to {} tokens and answers of {} to {}, the same jobs for all, greedy, ends ignored, nothing kept of \
         earlier prompts. Clients ask again when they are answered; of them what arrives in a span counts, of {MIXED} jobs at \
         once everything until the last token. Ours chooses tokens with the numbers that verifiers want; the others give none.",
        PROMPT_TOKENS.start,
        PROMPT_TOKENS.end - 1,
        ANSWER_TOKENS.start,
        ANSWER_TOKENS.end - 1
    )];
    notes.push(
        "Bare steps: the engine of ours alone, with as many sequences, prompts not counted, tokens not chosen.".to_owned(),
    );
    notes.extend(sides.all.iter().map(|side| format!("{}: {}.", side.name(), side.about())));
    notes.extend(sides.missing.iter().map(|why| format!("LEFT OUT: {why}")));
    notes
}
