//! Finds the inputs and outputs of a language model's graph by the names that Optimum and ONNX Runtime's model
//! builders use, and refuses a graph whose names or types are not understood.

use ort::session::Session;
use ort::value::{Outlet, TensorElementType, ValueType};

use infera_model::folder::GraphFacts;

/// The side of a row on which shorter sequences are padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// For graphs of plain operators, which take every row's last column as its newest token.
    Left,
    /// For GroupQueryAttention, which takes as many of a row's first keys as its mask has ones.
    Right,
}

/// One key or value tensor of one layer: its input, its output, and its fixed sizes in `[batch, heads, length,
/// size]`.
#[derive(Clone, Debug)]
pub(super) struct CachePort {
    pub(super) input: String,
    /// The place among the outputs.
    pub(super) output: usize,
    pub(super) heads: usize,
    pub(super) size: usize,
}

/// Everything that must be known of a graph to run it.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    pub(super) takes_positions: bool,
    /// The place of the logits among the outputs.
    pub(super) logits: usize,
    pub(super) vocabulary: usize,
    pub(super) caches: Vec<CachePort>,
    pub(super) padding: Padding,
    /// How many rows a run must have for its numbers to equal those of any batch.
    pub(super) rows_min: usize,
}

pub(super) const INPUT_IDS: &str = "input_ids";
pub(super) const ATTENTION_MASK: &str = "attention_mask";
pub(super) const POSITION_IDS: &str = "position_ids";
const LOGITS: &str = "logits";
const PAST: &str = "past_key_values.";
const PRESENT: &str = "present.";

/// The property in which a model may state its padding: `left` or `right`.
const PADDING_PROPERTY: &str = "infera.padding";
/// The operator that implies right padding if the model states none.
const GROUP_QUERY_ATTENTION: &str = "GroupQueryAttention";

impl Ports {
    /// Finds the ports; the error's text says what is not understood.
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

/// Returns the smallest number of rows of a run. MatMulNBits has a separate kernel for a single row, which sums in
/// another order (measured: logits differ by 1e-5). Only with 8-bit activations, accuracy level 4, are the sums over
/// integers and so the same in any order.
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

/// Returns a size, if it is fixed.
fn fixed(sizes: &[i64], place: usize) -> Option<usize> {
    sizes.get(place).and_then(|&size| usize::try_from(size).ok()).filter(|&size| size > 0)
}
