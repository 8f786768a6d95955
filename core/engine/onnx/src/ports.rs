//! What goes in and out of a language model's graph, found by the names that Optimum and the model builders of ONNX
//! Runtime use, and refused where a name or a type isn't understood.

use ort::session::Session;
use ort::value::{Outlet, TensorElementType, ValueType};

use infera_model::folder::GraphFacts;

/// The side of a row on which shorter sequences are filled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// For graphs of plain operators, which take every row's last column for its newest token.
    Left,
    /// For GroupQueryAttention, which takes the first keys of a row, as many as its mask has ones.
    Right,
}

/// One key or value tensor of one layer: in, out, and the fixed sizes in `[batch, heads, length, size]`.
#[derive(Clone, Debug)]
pub(super) struct CachePort {
    pub(super) input: String,
    /// Place among the outputs.
    pub(super) output: usize,
    pub(super) heads: usize,
    pub(super) size: usize,
}

/// Everything about a graph that feeding it needs.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    pub(super) takes_positions: bool,
    /// Place of the logits among the outputs.
    pub(super) logits: usize,
    pub(super) vocabulary: usize,
    pub(super) caches: Vec<CachePort>,
    pub(super) padding: Padding,
    /// How many rows a run must have for its numbers to be those of any batch.
    pub(super) rows_min: usize,
}

pub(super) const INPUT_IDS: &str = "input_ids";
pub(super) const ATTENTION_MASK: &str = "attention_mask";
pub(super) const POSITION_IDS: &str = "position_ids";
const LOGITS: &str = "logits";
const PAST: &str = "past_key_values.";
const PRESENT: &str = "present.";

/// The model's own word on its padding, where it has one: `left` or `right`.
const PADDING_PROPERTY: &str = "infera.padding";
/// The operator that wants right padding where nothing is said.
const GROUP_QUERY_ATTENTION: &str = "GroupQueryAttention";

impl Ports {
    /// Finds the ports; the text of an error says what isn't understood.
    pub(super) fn find(session: &Session, facts: &GraphFacts) -> Result<Self, String> {
        let padding = padding(session, facts)?;
        let inputs: Vec<&str> = session.inputs().iter().map(Outlet::name).collect();
        for needed in [INPUT_IDS, ATTENTION_MASK] {
            if !inputs.contains(&needed) {
                return Err(format!("it has no input {needed}"));
            }
        }
        let takes_positions = inputs.contains(&POSITION_IDS);
        if !takes_positions && padding == Padding::Left {
            return Err(format!(
                "it has no input {POSITION_IDS}, without which rows of different length can't be left-padded"
            ));
        }
        let known =
            |name: &str| [INPUT_IDS, ATTENTION_MASK, POSITION_IDS].contains(&name) || name.starts_with(PAST);
        if let Some(unknown) = inputs.iter().find(|name| !known(name)) {
            return Err(format!("its input {unknown} is not understood"));
        }
        let logits = output_place(session, LOGITS)?;
        let (_, sizes) = float_sizes(&session.outputs()[logits])?;
        let vocabulary = fixed(&sizes, 2).ok_or("its logits have no fixed length")?;
        let caches = session.inputs().iter().filter(|input| input.name().starts_with(PAST));
        let caches: Vec<CachePort> =
            caches.map(|input| cache_port(session, input)).collect::<Result<_, _>>()?;
        if caches.is_empty() {
            return Err(format!("it has no inputs {PAST}*; export it with its key and value cache"));
        }
        Ok(Self { takes_positions, logits, vocabulary, caches, padding, rows_min: rows_min(facts) })
    }
}

fn padding(session: &Session, facts: &GraphFacts) -> Result<Padding, String> {
    let said = session.metadata().ok().and_then(|metadata| metadata.custom(PADDING_PROPERTY));
    match said.as_deref() {
        Some("left") => Ok(Padding::Left),
        Some("right") => Ok(Padding::Right),
        Some(other) => Err(format!("its {PADDING_PROPERTY} is {other:?}, neither left nor right")),
        None if facts.operators.contains(GROUP_QUERY_ATTENTION) => Ok(Padding::Right),
        None => Ok(Padding::Left),
    }
}

/// MatMulNBits has a kernel of its own for a single row, which sums in another order (measured: logits differ by
/// 1e-5). Only with activations of 8 bits, accuracy level 4, sums are of integers and in any order the same.
fn rows_min(facts: &GraphFacts) -> usize {
    if facts.accuracy_levels.iter().all(|&level| level == 4) { 1 } else { 2 }
}

fn cache_port(session: &Session, input: &Outlet) -> Result<CachePort, String> {
    let name = input.name();
    let output = output_place(session, &name.replacen(PAST, PRESENT, 1))?;
    let (name, sizes) = float_sizes(input)?;
    match (fixed(&sizes, 1), fixed(&sizes, 3)) {
        (Some(heads), Some(size)) => Ok(CachePort { input: name, output, heads, size }),
        _ => Err(format!("its {name} has no fixed number and size of heads")),
    }
}

fn output_place(session: &Session, name: &str) -> Result<usize, String> {
    let place = session.outputs().iter().position(|output| output.name() == name);
    place.ok_or_else(|| format!("it has no output {name}"))
}

fn float_sizes(port: &Outlet) -> Result<(String, Vec<i64>), String> {
    let name = port.name();
    match port.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => {
            Ok((name.to_owned(), shape.to_vec()))
        }
        ValueType::Tensor { ty, .. } => {
            Err(format!("its {name} is of type {ty}; only models with f32 cache and logits run here yet"))
        }
        _ => Err(format!("its {name} is no tensor")),
    }
}

/// A size that doesn't vary.
fn fixed(sizes: &[i64], place: usize) -> Option<usize> {
    sizes.get(place).and_then(|&size| usize::try_from(size).ok()).filter(|&size| size > 0)
}
