//! Writes the ONNX file of a tiny language model whose numbers can be reckoned by hand: a row is the sum of the vectors of
//! all tokens up to it (plus its position, if the graph takes positions), times a matrix. All of them are small integers,
//! which every type of float holds exactly.

use std::path::Path;

pub(crate) const VOCABULARY: usize = 8;
const SIZE: usize = 2;

/// Numbers of types in `onnx.proto`.
pub(crate) mod element {
    pub(crate) const FLOAT: u64 = 1;
    pub(crate) const INT32: u64 = 6;
    pub(crate) const INT64: u64 = 7;
    pub(crate) const BOOL: u64 = 9;
    pub(crate) const FLOAT16: u64 = 10;
    pub(crate) const BFLOAT16: u64 = 16;
}

/// Whether a graph has the input `num_logits_to_keep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It gives the logits of all positions.
    Unknown,
    /// A run must say it.
    Asked,
    /// A run may say it, and all positions are kept otherwise.
    Optional,
}

/// What a graph of the Hub may differ in.
#[derive(Clone, Debug)]
pub(crate) struct Tiny {
    /// The type of caches and logits.
    pub(crate) float: u64,
    /// The type of tokens, mask and positions.
    pub(crate) integer: u64,
    pub(crate) takes_positions: bool,
    /// How a run tells for how many of the last positions logits are computed.
    pub(crate) kept: Kept,
    /// Further inputs by name and type, which the graph doesn't use.
    pub(crate) extra: Vec<(&'static str, u64)>,
    /// Whether each of the two tensors lies in a file of its own.
    pub(crate) is_sharded: bool,
}

impl Default for Tiny {
    fn default() -> Self {
        Self {
            float: element::FLOAT,
            integer: element::INT64,
            takes_positions: true,
            kept: Kept::Unknown,
            extra: Vec::new(),
            is_sharded: false,
        }
    }
}

/// The vector of a token.
fn vector(token: usize) -> [f32; SIZE] {
    [(token % 3) as f32, (token % 2) as f32]
}

/// The column of the matrix for a token.
fn column(token: usize) -> [f32; SIZE] {
    [(token % 4) as f32, 1.0 - (token % 2) as f32]
}

/// Returns the row that the model gives after these tokens.
pub(crate) fn row(tokens: &[u32], takes_positions: bool) -> Vec<f32> {
    let position = if takes_positions { tokens.len() as f32 - 1.0 } else { 0.0 };
    let mut hidden = [position; SIZE];
    for &token in tokens {
        for (sum, value) in hidden.iter_mut().zip(vector(token as usize)) {
            *sum += value;
        }
    }
    let times = |token| hidden.iter().zip(column(token)).map(|(value, weight)| value * weight).sum();
    (0..VOCABULARY).map(times).collect()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn integer(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn message(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) -> Vec<u8> {
    let mut content: Vec<u8> = inputs.iter().flat_map(|name| message(1, name.as_bytes())).collect();
    content.extend(message(2, output.as_bytes()));
    content.extend(message(4, operator.as_bytes()));
    for (name, value) in attributes {
        let attribute = [message(1, name.as_bytes()), integer(3, *value as u64), integer(20, 2)].concat();
        content.extend(message(5, &attribute));
    }
    message(1, &content)
}

/// An input (number 11) or output (number 12); a size of 0 is open.
fn port(number: u64, name: &str, kind: u64, sizes: &[u64]) -> Vec<u8> {
    let size = |size: &u64| message(1, &if *size == 0 { message(2, b"open") } else { integer(1, *size) });
    let shape: Vec<u8> = sizes.iter().flat_map(size).collect();
    let tensor = [integer(1, kind), message(2, &shape)].concat();
    message(number, &[message(1, name.as_bytes()), message(2, &message(1, &tensor))].concat())
}

fn tensor(name: &str, kind: u64, sizes: &[usize], place: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = sizes.iter().flat_map(|size| integer(1, *size as u64)).collect();
    content.extend(integer(2, kind));
    content.extend(message(8, name.as_bytes()));
    content.extend(place);
    message(5, &content)
}

fn integers(name: &str, values: &[i64]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, element::INT64, &[values.len()], &message(9, &bytes))
}

fn floats(name: &str, sizes: &[usize], values: &[f32], file: Option<&Path>) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let place = match file {
        None => message(9, &bytes),
        Some(file) => {
            std::fs::write(file, &bytes).expect("written");
            let name = file.file_name().expect("a name").to_string_lossy();
            let entry = |key: &str, value: &str| {
                message(13, &[message(1, key.as_bytes()), message(2, value.as_bytes())].concat())
            };
            [entry("location", &name), entry("offset", "0"), integer(14, 1)].concat()
        }
    };
    tensor(name, element::FLOAT, sizes, &place)
}

fn nodes(tiny: &Tiny) -> Vec<Vec<u8>> {
    let (float, full) = (tiny.float as i64, element::FLOAT as i64);
    let mut nodes = vec![
        node("Gather", &["table", "input_ids"], "vectors", &[]),
        node("Unsqueeze", &["vectors", "one"], "new", &[]),
        node("Cast", &["attention_mask"], "mask", &[("to", full)]),
        node("Unsqueeze", &["mask", "one_three"], "column_mask", &[]),
        node("Mul", &["all_value", "column_mask"], "masked", &[]),
        node("CumSum", &["masked", "two"], "sums", &[]),
        node("Shape", &["input_ids"], "width", &[("start", 1), ("end", 2)]),
        node("Neg", &["width"], "from", &[]),
        node("Slice", &["sums", "from", "end", "two"], "last", &[]),
        node("Squeeze", &["last", "one"], "states", &[]),
    ];
    for kind in ["key", "value"] {
        let [past, present] = ["past_key_values", "present"].map(|way| format!("{way}.0.{kind}"));
        let [before, all] = ["before", "all"].map(|word| format!("{word}_{kind}"));
        nodes.insert(2, node("Cast", &[&all], &present, &[("to", float)]));
        nodes.insert(2, node("Concat", &[&before, "new"], &all, &[("axis", 2)]));
        nodes.insert(2, node("Cast", &[&past], &before, &[("to", full)]));
    }
    let states = if tiny.takes_positions {
        nodes.push(node("Cast", &["position_ids"], "positions", &[("to", full)]));
        nodes.push(node("Unsqueeze", &["positions", "two"], "column_positions", &[]));
        nodes.push(node("Add", &["states", "column_positions"], "placed", &[]));
        "placed"
    } else {
        "states"
    };
    let states = if tiny.kept == Kept::Unknown {
        states
    } else {
        let wide = [("to", element::INT64 as i64)];
        nodes.push(node("Cast", &["num_logits_to_keep"], "wide_kept", &wide));
        nodes.push(node("Neg", &["wide_kept"], "before_end", &[]));
        nodes.push(node("Unsqueeze", &["before_end", "zero"], "kept_from", &[]));
        nodes.push(node("Slice", &[states, "kept_from", "end", "one"], "kept_states", &[]));
        "kept_states"
    };
    nodes.push(node("MatMul", &[states, "matrix"], "full_logits", &[]));
    nodes.push(node("Cast", &["full_logits"], "logits", &[("to", float)]));
    nodes
}

/// Writes `variant.onnx` into a folder, and its weights beside it if they are sharded.
pub(crate) fn write(folder: &Path, variant: &str, tiny: &Tiny) {
    let file = |name: &str| tiny.is_sharded.then(|| folder.join(format!("{variant}.onnx_data{name}")));
    let table: Vec<f32> = (0..VOCABULARY).flat_map(vector).collect();
    let columns: Vec<[f32; SIZE]> = (0..VOCABULARY).map(column).collect();
    let matrix: Vec<f32> = (0..SIZE).flat_map(|row| columns.iter().map(move |column| column[row])).collect();
    let mut graph = nodes(tiny).concat();
    graph.extend(message(2, b"tiny"));
    graph.extend(floats("table", &[VOCABULARY, SIZE], &table, file("").as_deref()));
    graph.extend(floats("matrix", &[SIZE, VOCABULARY], &matrix, file("_1").as_deref()));
    let lists =
        [("zero", &[0][..]), ("one", &[1]), ("two", &[2]), ("one_three", &[1, 3]), ("end", &[i64::MAX])];
    for (name, values) in lists {
        graph.extend(integers(name, values));
    }
    if tiny.kept == Kept::Optional {
        let all = vec![0; if tiny.integer == element::INT32 { 4 } else { 8 }];
        graph.extend(tensor("num_logits_to_keep", tiny.integer, &[], &message(9, &all)));
    }
    if tiny.kept != Kept::Unknown {
        graph.extend(port(11, "num_logits_to_keep", tiny.integer, &[]));
    }
    for name in ["input_ids", "attention_mask", "position_ids"] {
        if name != "position_ids" || tiny.takes_positions {
            graph.extend(port(11, name, tiny.integer, &[0, 0]));
        }
    }
    for kind in ["key", "value"] {
        let sizes = [0, 1, 0, SIZE as u64];
        graph.extend(port(11, &format!("past_key_values.0.{kind}"), tiny.float, &sizes));
        graph.extend(port(12, &format!("present.0.{kind}"), tiny.float, &sizes));
    }
    for (name, kind) in &tiny.extra {
        graph.extend(port(11, name, *kind, &[]));
    }
    graph.extend(port(12, "logits", tiny.float, &[0, 0, VOCABULARY as u64]));
    let operators = [message(1, b""), integer(2, 18)].concat();
    let model = [integer(1, 9), message(8, &operators), message(7, &graph)].concat();
    std::fs::write(folder.join(format!("{variant}.onnx")), model).expect("written");
}
