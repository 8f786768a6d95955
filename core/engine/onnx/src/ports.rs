//! Finds the inputs and outputs of a language model's graph by the names that Optimum and ONNX Runtime's model
//! builders use, and refuses a graph whose names or types are not understood. Apart from [`Ports::find`], which asks a
//! session, everything here is a pure function of what a graph says of itself.

use ort::session::Session;
use ort::value::{Outlet, TensorElementType, ValueType};

use crate::elements::{Float, Integer};
use infera_model::folder::{ElementType, GraphFacts, Port};

/// The side of a row on which shorter sequences are padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// For graphs of plain operators, which take every row's last column as its newest token.
    Left,
    /// For GroupQueryAttention, which takes as many of a row's first keys as its mask has ones.
    Right,
    /// For graphs of plain operators that count positions themselves: every sequence runs alone.
    Never,
}

/// One key or value tensor of one layer: its input, its output, and its fixed sizes in `[batch, heads, length,
/// size]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CachePort {
    pub(super) input: String,
    /// The place among the outputs.
    pub(super) output: usize,
    pub(super) output_name: String,
    pub(super) heads: usize,
    pub(super) size: usize,
    pub(super) element: Float,
}

/// Everything that must be known of a graph to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) ids: Integer,
    pub(super) mask: Integer,
    /// The type of the positions; none if the graph takes none.
    pub(super) positions: Option<Integer>,
    /// The type of [`KEPT`]; none if the graph doesn't know it.
    pub(super) kept: Option<Integer>,
    /// The place of the logits among the outputs.
    pub(super) logits: usize,
    pub(super) logits_element: Float,
    pub(super) vocabulary: usize,
    pub(super) caches: Vec<CachePort>,
    pub(super) padding: Padding,
    /// Whether the graph writes new keys and values into its inputs if they are bound as its outputs too.
    pub(super) writes_in_place: bool,
    /// How many rows a run must have for its numbers to equal those of any batch.
    pub(super) rows_min: usize,
}

pub(super) const INPUT_IDS: &str = "input_ids";
pub(super) const ATTENTION_MASK: &str = "attention_mask";
pub(super) const POSITION_IDS: &str = "position_ids";
/// The input that says for how many of the last positions logits are computed; 0 is all.
pub(super) const KEPT: &str = "num_logits_to_keep";
pub(super) const LOGITS: &str = "logits";
const PAST: &str = "past_key_values.";
const PRESENT: [&str; 2] = ["present.", "present_key_values."];

/// Inputs by which a graph shows that it is another kind of export, and what that is.
const REFUSED: [(&str, &str); 5] = [
    (
        "use_cache_branch",
        "switches between two graphs in one file, of which neither can be run by itself; export the decoder with its cache as one graph",
    ),
    ("use_cache", "switches the cache on and off; export the decoder with its cache always on"),
    ("inputs_embeds", "takes vectors in place of tokens: the file is a part of a model that sees or hears"),
    (
        "encoder_hidden_states",
        "belongs to a model with an encoder; only models that are all decoder can be served",
    ),
    ("beam_idx", "reorders the cache of a beam search, which is not done here"),
];

/// The property in which a model may state its padding: `left` or `right`.
const PADDING_PROPERTY: &str = "infera.padding";
/// The operator that implies right padding if the model states none.
const GROUP_QUERY_ATTENTION: &str = "GroupQueryAttention";

impl Ports {
    /// Returns whether a run may be told for how many positions logits are wanted.
    pub(super) const fn takes_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Returns the narrowest type of caches and logits, by which the class is named.
    pub(super) fn narrowest(&self) -> Float {
        let floats = || self.caches.iter().map(|port| port.element).chain([self.logits_element]);
        let is_there = |float| floats().any(|it| it == float);
        let narrow = [Float::Bfloat16, Float::Float16].into_iter().find(|&float| is_there(float));
        narrow.unwrap_or(Float::Float32)
    }

    /// Finds the ports; the error's text says what is not understood.
    pub(super) fn find(session: &Session, facts: &GraphFacts) -> Result<Self, String> {
        let said = session.metadata().ok().and_then(|metadata| metadata.custom(PADDING_PROPERTY));
        let inputs: Vec<Port> = session.inputs().iter().map(port).collect();
        let outputs: Vec<Port> = session.outputs().iter().map(port).collect();
        Self::of(&inputs, &outputs, said.as_deref(), facts)
    }

    /// Checks a file that no session was made of; the error's text says what is not understood.
    pub(super) fn check(facts: &GraphFacts) -> Result<(), String> {
        Self::of(&facts.inputs, &facts.outputs, None, facts).map(drop)
    }

    fn of(
        inputs: &[Port],
        outputs: &[Port],
        padding_said: Option<&str>,
        facts: &GraphFacts,
    ) -> Result<Self, String> {
        refuse_other_kinds(inputs)?;
        let integer = |name| named(inputs, name).map(integer).transpose();
        let needed = |name| integer(name)?.ok_or_else(|| format!("it has no input {name}"));
        let positions = integer(POSITION_IDS)?;
        if let Some(port) = named(inputs, POSITION_IDS).filter(|port| port.sizes.len() > 2) {
            return Err(format!(
                "its {POSITION_IDS} has {} dimensions, as models that see have them",
                port.sizes.len()
            ));
        }
        let place = output_place(outputs, LOGITS).ok_or_else(|| format!("it has no output {LOGITS}"))?;
        let logits_element = float(&outputs[place])?;
        let vocabulary = fixed(&outputs[place], 2).ok_or("its logits have no fixed length")?;
        let caches = inputs.iter().filter(|input| input.name.starts_with(PAST));
        let caches: Vec<CachePort> =
            caches.map(|input| cache_port(outputs, input)).collect::<Result<_, _>>()?;
        if caches.is_empty() {
            return Err(format!("it has no inputs {PAST}*; export it with its key and value cache"));
        }
        let padding = padding(padding_said, positions.is_some(), facts)?;
        // GroupQueryAttention alone does so, and with left padding its numbers would be wrong.
        let writes_in_place = padding == Padding::Right && facts.operators.contains(GROUP_QUERY_ATTENTION);
        // An input that has a value of its own may be given another one.
        let kept = match named(&facts.optional_inputs, KEPT) {
            Some(port) => Some(self::integer(port)?),
            None => integer(KEPT)?,
        };
        Ok(Self {
            ids: needed(INPUT_IDS)?,
            mask: needed(ATTENTION_MASK)?,
            positions,
            kept,
            logits: place,
            logits_element,
            vocabulary,
            caches,
            padding,
            writes_in_place,
            rows_min: rows_min(facts),
        })
    }
}

/// Refuses graphs of another kind by the input that shows it, and all that take an input of unknown meaning.
pub(super) fn refuse_other_kinds(inputs: &[Port]) -> Result<(), String> {
    if let Some((name, what)) = REFUSED.iter().find(|(name, _)| named(inputs, name).is_some()) {
        return Err(format!("its input {name} {what}"));
    }
    let known = |name: &str| {
        [INPUT_IDS, ATTENTION_MASK, POSITION_IDS, KEPT].contains(&name) || name.starts_with(PAST)
    };
    match inputs.iter().find(|input| !known(&input.name)) {
        Some(unknown) => Err(format!("its input {} is not understood", unknown.name)),
        None => Ok(()),
    }
}

fn padding(said: Option<&str>, takes_positions: bool, facts: &GraphFacts) -> Result<Padding, String> {
    match said {
        Some("left") if !takes_positions => Err(format!(
            "its {PADDING_PROPERTY} is left, but it has no input {POSITION_IDS}, without which rows of different length can't be left-padded"
        )),
        Some("left") => Ok(Padding::Left),
        Some("right") => Ok(Padding::Right),
        Some(other) => Err(format!("its {PADDING_PROPERTY} is {other:?}, neither left nor right")),
        None if facts.operators.contains(GROUP_QUERY_ATTENTION) => Ok(Padding::Right),
        None if takes_positions => Ok(Padding::Left),
        None => Ok(Padding::Never),
    }
}

/// Returns the smallest number of rows of a run. MatMulNBits has a separate kernel for a single row, which sums in
/// another order (measured: logits differ by 1e-5). Only with 8-bit activations, accuracy level 4, are the sums over
/// integers and so the same in any order; but not with zero points of 4-bit weights, which it adds in floats (measured
/// with SmolLM2's: logits differ by up to 0.17, and with 8-bit weights not at all).
fn rows_min(facts: &GraphFacts) -> usize {
    let sums_are_integers = facts.accuracy_levels.iter().all(|&level| level == 4) && !facts.shifted_weights;
    if sums_are_integers { 1 } else { 2 }
}

fn cache_port(outputs: &[Port], input: &Port) -> Result<CachePort, String> {
    let name = &input.name;
    let presents = PRESENT.map(|present| name.replacen(PAST, present, 1));
    let output = presents.iter().find_map(|present| output_place(outputs, present));
    let output = output.ok_or_else(|| format!("it has no output {}", presents[0]))?;
    let output_name = outputs[output].name.clone();
    let element = float(input)?;
    if float(&outputs[output])? != element {
        return Err(format!("its {name} and {output_name} are of different types"));
    }
    match (fixed(input, 1), fixed(input, 3)) {
        (Some(heads), Some(size)) => {
            Ok(CachePort { input: name.clone(), output, output_name, heads, size, element })
        }
        _ => Err(format!("its {name} has no fixed number and size of heads")),
    }
}

fn named<'a>(ports: &'a [Port], name: &str) -> Option<&'a Port> {
    ports.iter().find(|port| port.name == name)
}

fn output_place(outputs: &[Port], name: &str) -> Option<usize> {
    outputs.iter().position(|output| output.name == name)
}

fn integer(port: &Port) -> Result<Integer, String> {
    Integer::of(port.element)
        .ok_or_else(|| format!("its {} is of type {}; int64 and int32 are read", port.name, port.element))
}

fn float(port: &Port) -> Result<Float, String> {
    Float::of(port.element).ok_or_else(|| {
        format!("its {} is of type {}; float32, float16 and bfloat16 are read", port.name, port.element)
    })
}

/// Returns a size, if it is fixed.
fn fixed(port: &Port, place: usize) -> Option<usize> {
    port.sizes.get(place).copied().flatten().filter(|&size| size > 0)
}

/// Returns what a session says of an input or output.
fn port(outlet: &Outlet) -> Port {
    let name = outlet.name().to_owned();
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => {
            let sizes = shape.iter().map(|&size| usize::try_from(size).ok()).collect();
            Port { name, element: element(*ty), sizes }
        }
        _ => Port { name, ..Port::default() },
    }
}

/// Returns the number that `onnx.proto` gives a type. Types that no port may have need no telling apart beyond their
/// number.
fn element(kind: TensorElementType) -> ElementType {
    match kind {
        TensorElementType::Float32 => ElementType::FLOAT,
        TensorElementType::Float16 => ElementType::FLOAT16,
        TensorElementType::Bfloat16 => ElementType::BFLOAT16,
        TensorElementType::Int64 => ElementType::INT64,
        TensorElementType::Int32 => ElementType::INT32,
        TensorElementType::Bool => ElementType::BOOL,
        TensorElementType::Uint8 => ElementType(2),
        TensorElementType::Int8 => ElementType(3),
        _ => ElementType(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_port(name: &str, element: ElementType, sizes: &[Option<usize>]) -> Port {
        Port { name: name.to_owned(), element, sizes: sizes.to_vec() }
    }

    /// Returns a graph of plain operators with one layer, whose floats are of one type and whose integers of another.
    fn graph(float: ElementType, integer: ElementType) -> GraphFacts {
        let cache = [None, Some(3), None, Some(64)];
        GraphFacts {
            inputs: vec![
                named_port(INPUT_IDS, integer, &[None, None]),
                named_port(ATTENTION_MASK, integer, &[None, None]),
                named_port(POSITION_IDS, integer, &[None, None]),
                named_port("past_key_values.0.key", float, &cache),
                named_port("past_key_values.0.value", float, &cache),
            ],
            outputs: vec![
                named_port("present.0.key", float, &cache),
                named_port(LOGITS, float, &[None, None, Some(9)]),
                named_port("present.0.value", float, &cache),
            ],
            ..GraphFacts::default()
        }
    }

    fn of(facts: &GraphFacts) -> Result<Ports, String> {
        Ports::of(&facts.inputs, &facts.outputs, None, facts)
    }

    #[test]
    fn every_type_of_the_hub_is_found() {
        for (float, known) in [
            (ElementType::FLOAT, Float::Float32),
            (ElementType::FLOAT16, Float::Float16),
            (ElementType::BFLOAT16, Float::Bfloat16),
        ] {
            for (integer, short) in
                [(ElementType::INT64, Integer::Int64), (ElementType::INT32, Integer::Int32)]
            {
                let ports = of(&graph(float, integer)).expect("sound");
                assert_eq!((ports.ids, ports.mask, ports.positions), (short, short, Some(short)));
                assert_eq!((ports.logits, ports.logits_element, ports.vocabulary), (1, known, 9));
                let output = |port: &CachePort| (port.output, port.heads, port.size, port.element);
                assert_eq!(
                    ports.caches.iter().map(output).collect::<Vec<_>>(),
                    [(0, 3, 64, known), (2, 3, 64, known)]
                );
            }
        }
    }

    #[test]
    fn padding_follows_from_the_graph_unless_it_is_said() {
        let mut facts = graph(ElementType::FLOAT, ElementType::INT64);
        let said = |facts: &GraphFacts, word| {
            Ports::of(&facts.inputs, &facts.outputs, word, facts).map(|it| it.padding)
        };
        assert_eq!(said(&facts, None), Ok(Padding::Left));
        assert_eq!(said(&facts, Some("right")), Ok(Padding::Right));
        assert!(said(&facts, Some("up")).expect_err("no side").contains("\"up\""));
        facts.inputs.retain(|input| input.name != POSITION_IDS);
        assert_eq!(said(&facts, None), Ok(Padding::Never));
        assert!(said(&facts, Some("left")).expect_err("no positions").contains(POSITION_IDS));
        facts.operators.insert(GROUP_QUERY_ATTENTION.to_owned());
        assert_eq!(said(&facts, None), Ok(Padding::Right));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let plain = || graph(ElementType::FLOAT, ElementType::INT64);
        let with = |name: &str, element| {
            let mut facts = plain();
            facts.inputs.retain(|input| input.name != name);
            facts.inputs.push(named_port(name, element, &[None]));
            of(&facts).expect_err(name)
        };
        for (name, element, says) in [
            ("use_cache_branch", ElementType::BOOL, "switches between two graphs"),
            ("use_cache", ElementType::BOOL, "on and off"),
            ("inputs_embeds", ElementType::FLOAT, "sees or hears"),
            ("encoder_hidden_states", ElementType::FLOAT, "encoder"),
            ("beam_idx", ElementType::INT32, "beam"),
            ("past_conv.0", ElementType::FLOAT, "not understood"),
            (INPUT_IDS, ElementType::FLOAT, "type float32; int64 and int32"),
            ("past_key_values.0.key", ElementType(3), "type ONNX type 3; float32, float16"),
            ("past_key_values.0.key", ElementType::FLOAT16, "different types"),
            ("past_key_values.0.key", ElementType::FLOAT, "no fixed number"),
        ] {
            let error = with(name, element);
            assert!(error.contains(name) && error.contains(says), "{error}");
        }
        for (name, says) in [
            (INPUT_IDS, "no input input_ids"),
            (ATTENTION_MASK, "no input attention_mask"),
            (LOGITS, "no output logits"),
            ("present.0.value", "no output present.0.value"),
        ] {
            let mut facts = plain();
            facts.inputs.retain(|input| input.name != name);
            facts.outputs.retain(|output| output.name != name);
            let error = of(&facts).expect_err(name);
            assert!(error.contains(says), "{error}");
        }
        let mut facts = plain();
        facts.inputs.retain(|input| !input.name.starts_with(PAST));
        assert!(of(&facts).expect_err("no cache").contains("past_key_values.*"));
        facts = plain();
        facts.inputs[2].sizes = vec![Some(3), None, None];
        assert!(of(&facts).expect_err("three kinds of positions").contains("3 dimensions"));
    }
}
