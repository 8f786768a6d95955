//! Writes a tiny model of one layer of GroupQueryAttention, in fp32 or in fp16 throughout: tokens are looked up, projected to
//! queries, keys and values, attended to with rotary positions, and projected to logits. Its weights are arbitrary.

use half::f16;
use tempfile::TempDir;

pub(crate) const FLOAT: u64 = 1;
pub(crate) const FLOAT16: u64 = 10;
const INT32: u64 = 6;
const INT64: u64 = 7;

const VOCABULARY: usize = 32;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const SIZE: usize = 16;
const HIDDEN: usize = HEADS * SIZE;
/// Not a multiple of any test's chunk.
const CONTEXT: usize = 60;
const CONTRIB: &str = "com.microsoft";

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

fn text(number: u64, content: &str) -> Vec<u8> {
    message(number, content.as_bytes())
}

fn attribute(name: &str, value: i64) -> Vec<u8> {
    message(5, &[text(1, name), integer(3, value as u64), integer(20, 2)].concat())
}

fn node(operator: &str, inputs: &[&str], outputs: &[&str], domain: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut content: Vec<u8> = inputs.iter().flat_map(|name| text(1, name)).collect();
    content.extend(outputs.iter().flat_map(|name| text(2, name)));
    content.extend(text(4, operator));
    content.extend(attributes.concat());
    content.extend(text(7, domain));
    message(1, &content)
}

fn tensor(name: &str, kind: u64, sizes: &[usize], bytes: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = sizes.iter().flat_map(|size| integer(1, *size as u64)).collect();
    content.extend([integer(2, kind), text(8, name), message(9, bytes)].concat());
    message(5, &content)
}

fn integers(name: &str, sizes: &[usize], values: &[i64]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, INT64, sizes, &bytes)
}

fn floats(name: &str, element: u64, sizes: &[usize], value: impl Fn(usize) -> f32) -> Vec<u8> {
    let count: usize = sizes.iter().product();
    let values = (0..count).map(value);
    let bytes: Vec<u8> = if element == FLOAT {
        values.flat_map(f32::to_le_bytes).collect()
    } else {
        values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect()
    };
    tensor(name, element, sizes, &bytes)
}

/// An input (number 11) or output (number 12); a size of 0 is open.
fn port(number: u64, name: &str, kind: u64, sizes: &[usize]) -> Vec<u8> {
    let size =
        |size: &usize| message(1, &if *size == 0 { text(2, "open") } else { integer(1, *size as u64) });
    let shape: Vec<u8> = sizes.iter().flat_map(size).collect();
    let tensor = [integer(1, kind), message(2, &shape)].concat();
    message(number, &[text(1, name), message(2, &message(1, &tensor))].concat())
}

/// Returns a spread of numbers within one, the same for the same seed.
fn spread(seed: usize, place: usize) -> f32 {
    let mixed = (place * 2_654_435_761 + seed * 40_503) % 65_521;
    mixed as f32 / 32_760.5 - 1.0
}

fn nodes() -> Vec<u8> {
    let to = |kind: u64| attribute("to", kind as i64);
    let attention = [
        attribute("num_heads", HEADS as i64),
        attribute("kv_num_heads", KV_HEADS as i64),
        attribute("do_rotary", 1),
    ];
    let past = ["past_key_values.0.key", "past_key_values.0.value"];
    [
        node("ReduceSum", &["attention_mask", "one"], &["count"], "", &[attribute("keepdims", 0)]),
        node("Sub", &["count", "one"], &["last"], "", &[]),
        node("Cast", &["last"], &["lengths"], "", &[to(INT32)]),
        node("Shape", &["attention_mask"], &["shape"], "", &[]),
        node("Gather", &["shape", "index_one"], &["wide"], "", &[]),
        node("Cast", &["wide"], &["total"], "", &[to(INT32)]),
        node("Gather", &["table", "input_ids"], &["states"], "", &[]),
        node("MatMul", &["states", "query"], &["q"], "", &[]),
        node("MatMul", &["states", "key"], &["k"], "", &[]),
        node("MatMul", &["states", "value"], &["v"], "", &[]),
        node(
            "GroupQueryAttention",
            &["q", "k", "v", past[0], past[1], "lengths", "total", "cos", "sin"],
            &["attended", "present.0.key", "present.0.value"],
            CONTRIB,
            &attention,
        ),
        node("Add", &["attended", "states"], &["mixed"], "", &[]),
        node("MatMul", &["mixed", "head"], &["logits"], "", &[]),
    ]
    .concat()
}

fn weights(element: u64) -> Vec<u8> {
    let matrix = |name: &str, seed, rows: usize, columns: usize| {
        let scale = 1.0 / (rows as f32).sqrt();
        floats(name, element, &[rows, columns], |place| spread(seed, place) * scale)
    };
    let angle = |place: usize| {
        let (position, pair) = (place / (SIZE / 2), place % (SIZE / 2));
        position as f32 / 10_000f32.powf(2.0 * pair as f32 / SIZE as f32)
    };
    [
        integers("one", &[1], &[1]),
        integers("index_one", &[], &[1]),
        floats("table", element, &[VOCABULARY, HIDDEN], |place| spread(1, place)),
        matrix("query", 2, HIDDEN, HIDDEN),
        matrix("key", 3, HIDDEN, KV_HEADS * SIZE),
        matrix("value", 4, HIDDEN, KV_HEADS * SIZE),
        matrix("head", 5, HIDDEN, VOCABULARY),
        floats("cos", element, &[CONTEXT, SIZE / 2], |place| angle(place).cos()),
        floats("sin", element, &[CONTEXT, SIZE / 2], |place| angle(place).sin()),
    ]
    .concat()
}

/// Makes a model's folder.
pub(crate) fn folder(element: u64) -> TempDir {
    let cache = [0, KV_HEADS, 0, SIZE];
    let mut ports =
        [port(11, "input_ids", INT64, &[0, 0]), port(11, "attention_mask", INT64, &[0, 0])].concat();
    for kind in ["key", "value"] {
        ports.extend(port(11, &format!("past_key_values.0.{kind}"), element, &cache));
        ports.extend(port(12, &format!("present.0.{kind}"), element, &cache));
    }
    ports.extend(port(12, "logits", element, &[0, 0, VOCABULARY]));
    let graph = [nodes(), text(2, "tiny"), weights(element), ports].concat();
    let operators = |domain, version| message(8, &[text(1, domain), integer(2, version)].concat());
    let model = [integer(1, 9), operators("", 18), operators(CONTRIB, 1), message(7, &graph)].concat();
    let folder = TempDir::new().expect("a temporary folder");
    let config = format!("{{\"max_position_embeddings\": {CONTEXT}}}");
    let config = config.as_bytes();
    for (name, content) in [
        ("config.json", config),
        ("tokenizer.json", &b"{}"[..]),
        ("tokenizer_config.json", b"{}"),
        ("model.onnx", &model),
    ] {
        std::fs::write(folder.path().join(name), content).expect("written");
    }
    folder
}
