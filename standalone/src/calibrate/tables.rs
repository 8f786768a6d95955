//! What a calibration prints, in Markdown: the honest distances, and how often pretenders pass.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use infera_types::ids::Digest;
use infera_verifier::decisions::thresholds::calibration::{Calibration, Quantiles};
use infera_verifier::decisions::thresholds::{Against, Thresholds};

use super::power::{Passed, Pretence, passed};
use super::replicas::{Bench, Results, Work, answer_tokens};

/// The levels whose quantiles are printed.
const LEVELS: [f64; 4] = [0.5, 0.99, 0.999, 1.0];

/// Returns both tables.
pub(super) fn tables(
    bench: &Bench<'_>,
    honest: usize,
    results: &Results,
    calibration: &Calibration,
    thresholds: &Thresholds,
) -> String {
    let tokens: Vec<usize> = bench.jobs.iter().map(|job| job.prompt.len()).collect();
    let (least, most) = (tokens.iter().min().unwrap_or(&0), tokens.iter().max().unwrap_or(&0));
    let mean = tokens.iter().sum::<usize>() as f64 / tokens.len().max(1) as f64;
    let answers = answer_tokens(bench.jobs, results);
    format!(
        "{} jobs; prompts of {least} to {most} tokens, {mean:.0} on average; answers of {answers:.1} tokens on average\n\n{}\n{}",
        bench.jobs.len(),
        distances(bench, results, calibration),
        powers(bench, honest, results, thresholds)
    )
}

fn distances(bench: &Bench<'_>, results: &Results, calibration: &Calibration) -> String {
    let mut names: BTreeMap<Digest, &str> = BTreeMap::new();
    for (export, one) in bench.exports.iter().enumerate() {
        if let Some(computed) = results.get(&Work::Decode { export, offset: 0 }) {
            names.insert(computed.class.model_digest, &one.name);
        }
    }
    let mut text = "\
| pair of classes | pairs | other choice | of these unlisted | gap: median, 99 %, 99.9 %, largest | mean distance: the same | largest distance: the same |
| --- | --- | --- | --- | --- | --- | --- |
"
    .to_owned();
    for Quantiles { pair, pairs, diverged, unlisted, means, maxima, gaps } in calibration.quantiles(&LEVELS) {
        let [one, other] =
            pair.sides.clone().map(|side| names.get(&side.model).copied().unwrap_or("?").to_owned());
        let pair = match (pair.is_one_class(), pair.against) {
            (true, Against::Decoded) => format!("{one}, one class"),
            (true, Against::Scored) => format!("{one}, scored by itself"),
            (false, Against::Decoded) => format!("{one} with {other}"),
            (false, Against::Scored) => format!("{one} and {other}, each scored by the other"),
        };
        let gaps = if diverged > unlisted { line(&gaps) } else { "none".to_owned() };
        let _ = writeln!(
            text,
            "| {pair} | {pairs} | {diverged} | {unlisted} | {gaps} | {} | {} |",
            line(&means),
            line(&maxima)
        );
    }
    text
}

fn powers(bench: &Bench<'_>, honest: usize, results: &Results, thresholds: &Thresholds) -> String {
    let mut text = "\
| compared with | says it runs | runs | answers | identical | excused | numbers inside | both |
| --- | --- | --- | --- | --- | --- | --- | --- |
"
    .to_owned();
    for against in [Against::Decoded, Against::Scored] {
        for own in 0..honest {
            for claimed in 0..honest {
                for actual in 0..bench.exports.len() {
                    let pretence = Pretence { honest: own, claimed, actual, against };
                    let found =
                        passed(pretence, bench.jobs, results, thresholds).filter(|one| one.answers > 0);
                    text.extend(found.map(|passed| power(bench, pretence, passed)));
                }
            }
        }
    }
    text
}

fn power(bench: &Bench<'_>, pretence: Pretence, passed: Passed) -> String {
    let name = |export: usize| &bench.exports[export].name;
    let Pretence { honest, claimed, actual, against } = pretence;
    let scores = if against == Against::Scored { ", scoring" } else { "" };
    let actual = if actual == claimed { "that".to_owned() } else { format!("**{}**", name(actual)) };
    let share = |count: u64| format!("{:.1} %", 100.0 * count as f64 / passed.answers as f64);
    let Passed { answers, identical, excused, inside, unnoticed } = passed;
    format!(
        "| {}{scores} | {} | {actual} | {answers} | {} | {} | {} | {} |\n",
        name(honest),
        name(claimed),
        share(identical),
        share(excused),
        share(inside),
        share(unnoticed)
    )
}

fn line(values: &[f64]) -> String {
    let short = |value: &f64| match value {
        value if *value == 0.0 => "0".to_owned(),
        value if *value < 0.01 => format!("{value:.1e}"),
        value => format!("{value:.2}"),
    };
    values.iter().map(short).collect::<Vec<_>>().join(", ")
}
