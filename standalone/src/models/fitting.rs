//! Whether a model fits each device: what it needs beside what is free.

use std::path::Path;

use infera_engine_onnx::config::EngineConfig;
use infera_engine_onnx::devices::{self, Device};
use infera_engine_onnx::footprint::{Load, Needed, Shape, needed};
use infera_model::folder::{onnx_files, variant_of};
use infera_program::Failure;
use serde::Serialize;

use super::bytes::shown;
use super::speeds::{self, Speeds};
use super::up::{Terms, Up};
use crate::config::Config;
use crate::known_models;

/// What is asked.
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) variant: Option<String>,
    pub(super) context: Option<u64>,
    pub(super) batch: u64,
    /// The tokens of a prompt that one run computes.
    pub(super) chunk_tokens: u64,
    /// The bytes that the cached beginnings of prompts may take.
    pub(super) prefix_cache_bytes: u64,
    pub(super) engines: u64,
    /// Whether tokens per second are measured first, on the device that the settings name.
    pub(super) measures: bool,
    /// What `infera up` is reckoned by.
    pub(super) up: Terms,
    pub(super) json: bool,
}

/// The longest context that is assumed if none is named: few requests are longer, and caches for models' longest ones fit
/// hardly any machine.
const CONTEXT_USUAL: u64 = 4096;

/// What is left free by a model that fits well, as one part of this many.
const SPARE_SHARE: u64 = 10;

/// What becomes of a model on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// It fits, and a tenth stays free.
    Fits,
    /// It fits, and hardly anything stays free.
    Tight,
    /// It doesn't fit.
    TooLarge,
    /// The device doesn't say what is free.
    Unknown,
}

/// One variant on one device.
#[derive(Serialize)]
struct Line {
    variant: String,
    #[serde(flatten)]
    device: Device,
    context: u64,
    batch: u64,
    engines: u64,
    weights_bytes: u64,
    caches_bytes: u64,
    working_bytes: u64,
    fixed_bytes: u64,
    needed_bytes: u64,
    verdict: Verdict,
    /// The longest context that fits with this batch; none if none does, or if the device doesn't say what is free.
    context_fits: Option<u64>,
    /// What `infera up` needs by its settings, which is more than one engine with a usual context.
    up: Up,
    up_verdict: Verdict,
    /// Of one engine by itself, with the threads of the settings; none if that wasn't measured on this device with this batch.
    tokens_per_s: Option<f64>,
}

#[derive(Serialize)]
struct Fit {
    model: String,
    lines: Vec<Line>,
    /// Variants that can't be reckoned, and why.
    problems: Vec<String>,
}

/// Reckons whether a model fits, as a table or as JSON.
pub(super) fn fit(config: &Config, asked: &Asked) -> Result<String, Failure> {
    let chosen = known_models::choose_in(&asked.model, &config.models).map_err(Failure::settings)?;
    let folder = chosen.folder;
    let variants = match &asked.variant {
        Some(variant) => vec![variant.clone()],
        None => onnx_files(&folder).iter().map(|file| variant_of(file)).collect(),
    };
    if variants.is_empty() {
        let folder = folder.display();
        return Err(Failure::refused(format!(
            "{folder} has no ONNX file: fetch the model first, or go on with its fetch"
        )));
    }
    let devices = devices::all();
    let mut measured = Speeds::read(config)?;
    let mut fit = Fit { model: asked.model.clone(), lines: Vec::new(), problems: Vec::new() };
    for variant in variants {
        let shape = match Shape::read(&folder, &variant) {
            Ok(shape) => shape,
            Err(error) => {
                fit.problems.push(format!("{variant}: {error}"));
                continue;
            }
        };
        let mut lines: Vec<Line> =
            devices.iter().map(|device| line(&variant, device, &shape, asked)).collect();
        let engine = EngineConfig { folder: folder.clone(), variant, ..config.engine.clone() };
        if asked.measures {
            measure(&mut measured, &engine, &lines, asked.batch)?;
        }
        if let Some(digest) = speeds::digest_of(&engine) {
            for line in &mut lines {
                line.tokens_per_s = measured.find(digest, &line.device.device, engine.threads, asked.batch);
            }
        }
        fit.lines.append(&mut lines);
    }
    if fit.lines.is_empty() {
        return Err(Failure::refused(fit.problems.join("\n")));
    }
    if asked.json { Ok(serde_json::to_string_pretty(&fit)?) } else { Ok(table(&fit, &folder)) }
}

fn line(variant: &str, device: &Device, shape: &Shape, asked: &Asked) -> Line {
    let context = asked.context.unwrap_or(CONTEXT_USUAL).min(shape.context_max);
    let all = |context| total(shape, context, asked);
    let Needed { weights, caches, working, fixed, .. } = needed(shape, &load(context, asked));
    let needed_bytes = all(context);
    let context_fits =
        device.free_bytes.and_then(|free| longest(shape.context_max, |context| all(context) <= free));
    let up = asked.up.need(shape, device.free_bytes);
    Line {
        variant: variant.to_owned(),
        up,
        up_verdict: verdict(up.needed_bytes, device.free_bytes),
        device: device.clone(),
        context,
        batch: asked.batch,
        engines: asked.engines,
        weights_bytes: weights,
        caches_bytes: caches,
        working_bytes: working,
        fixed_bytes: fixed,
        needed_bytes,
        verdict: verdict(needed_bytes, device.free_bytes),
        context_fits,
        tokens_per_s: None,
    }
}

/// Measures a variant on the engine's device, unless it doesn't fit there.
fn measure(speeds: &mut Speeds, engine: &EngineConfig, lines: &[Line], batch: u64) -> Result<(), Failure> {
    let device = speeds::device_of(engine.device);
    let line = lines.iter().find(|line| line.device.device == device);
    match line.map(|line| line.verdict) {
        None => Err(Failure::settings(format!("there is no {device} here to measure on (engine.device)"))),
        Some(Verdict::TooLarge) => Ok(()),
        Some(Verdict::Fits | Verdict::Tight | Verdict::Unknown) => speeds.measure(engine, batch),
    }
}

fn total(shape: &Shape, context: u64, asked: &Asked) -> u64 {
    needed(shape, &load(context, asked)).total().saturating_mul(asked.engines)
}

fn load(context: u64, asked: &Asked) -> Load {
    let Asked { batch: sequences, chunk_tokens, prefix_cache_bytes, .. } = *asked;
    Load { context, sequences, chunk_tokens, prefix_cache_bytes }
}

fn verdict(needed: u64, free: Option<u64>) -> Verdict {
    match free {
        None => Verdict::Unknown,
        Some(free) if needed > free => Verdict::TooLarge,
        Some(free) if needed > free - free / SPARE_SHARE => Verdict::Tight,
        Some(_) => Verdict::Fits,
    }
}

/// Returns the largest number up to `most` for which `fits`, which holds for all smaller ones too.
fn longest(most: u64, fits: impl Fn(u64) -> bool) -> Option<u64> {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = high - (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    (low > 0).then_some(low)
}

impl Verdict {
    const fn said(self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::Tight => "fits, but hardly anything stays free",
            Self::TooLarge => "does not fit",
            Self::Unknown => "nothing says what is free",
        }
    }
}

/// Returns the line about `infera up`.
fn of_up(line: &Line, free: &str) -> String {
    let Up { nodes, sequences, context, needed_bytes, sequences_fit } = line.up;
    let (needed, verdict) = (shown(needed_bytes), line.up_verdict.said());
    let remedy = match sequences_fit {
        Some(most) if most < sequences => format!("; with --set engine.sequences_max={most} it would"),
        _ => String::new(),
    };
    format!(
        "        `infera up` with {nodes} nodes, each of up to {sequences} sequences of {context} tokens: needs {needed}, free {free}: \
         {verdict}{remedy}"
    )
}

fn table(fit: &Fit, folder: &Path) -> String {
    let mut lines = Vec::new();
    if let Some(Line { context, batch, engines, .. }) = fit.lines.first() {
        let of = if *engines == 1 { String::new() } else { format!(", {engines} engines") };
        lines.push(format!("{} in {}, context {context}, batch {batch}{of}:", fit.model, folder.display()));
    }
    for line in &fit.lines {
        let device = match &line.device.model {
            Some(model) => format!("{} ({model})", line.device.device),
            None => line.device.device.clone(),
        };
        let free = line.device.free_bytes.map_or("unknown".to_owned(), shown);
        let verdict = line.verdict.said();
        let longest = match line.context_fits {
            Some(longest) if line.verdict == Verdict::TooLarge => format!("; a context of {longest} would"),
            _ => String::new(),
        };
        let speed = match line.tokens_per_s {
            Some(rate) => format!("{rate:.1} tokens/s"),
            None => "tokens/s not measured (--measure)".to_owned(),
        };
        lines.push(format!(
            "    {} on {device}: needs {} (weights {}, caches {}, working {}, runtime {}), free {free}: {verdict}{longest}; {speed}",
            line.variant,
            shown(line.needed_bytes),
            shown(line.weights_bytes),
            shown(line.caches_bytes),
            shown(line.working_bytes),
            shown(line.fixed_bytes),
        ));
        lines.push(of_up(line, &free));
    }
    lines.extend(fit.problems.iter().map(|problem| format!("    {problem}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_says_whether_anything_stays_free() {
        assert_eq!(verdict(90, Some(100)), Verdict::Fits);
        assert_eq!(verdict(91, Some(100)), Verdict::Tight);
        assert_eq!(verdict(100, Some(100)), Verdict::Tight);
        assert_eq!(verdict(101, Some(100)), Verdict::TooLarge);
        assert_eq!(verdict(1, None), Verdict::Unknown);
        for most in [1, 2, 7, 8192] {
            for wanted in 0..=most {
                assert_eq!(longest(most, |number| number <= wanted), (wanted > 0).then_some(wanted));
            }
        }
    }
}
