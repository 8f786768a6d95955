//! What can be read of an ONNX file without ONNX Runtime: the operators it uses and the data files it names. Just
//! enough of protocol buffers to walk `ModelProto` by field numbers; not a validator, and no weights are decoded.

use std::collections::BTreeSet;

/// Field numbers of `onnx.proto`, by message.
mod field {
    pub(super) const MODEL_GRAPH: u64 = 7;
    pub(super) const GRAPH_NODE: u64 = 1;
    pub(super) const GRAPH_INITIALIZER: u64 = 5;
    pub(super) const NODE_OPERATOR: u64 = 4;
    pub(super) const NODE_ATTRIBUTE: u64 = 5;
    pub(super) const ATTRIBUTE_TENSORS: [u64; 2] = [5, 10];
    pub(super) const ATTRIBUTE_GRAPHS: [u64; 2] = [6, 11];
    pub(super) const TENSOR_EXTERNAL_DATA: u64 = 13;
    pub(super) const ENTRY_KEY: u64 = 1;
    pub(super) const ENTRY_VALUE: u64 = 2;
}

/// Graphs within graphs (branches, loops) that are followed; a file with more is not one of ours to read.
const DEPTH_MAX: usize = 8;

/// The bytes don't hold what protocol buffers prescribe.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What an ONNX file says about itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GraphFacts {
    /// Operator types in use, such as `GroupQueryAttention`.
    pub(crate) operators: BTreeSet<String>,
    /// Files beside it that hold tensors, as it names them.
    pub(crate) data_files: BTreeSet<String>,
}

impl GraphFacts {
    /// Reads the facts from a whole `ModelProto`.
    pub(crate) fn read(model: &[u8]) -> Result<Self, Malformed> {
        let mut facts = Self::default();
        for (number, graph) in messages(model)? {
            if number == field::MODEL_GRAPH {
                facts.read_graph(graph, 0)?;
            }
        }
        Ok(facts)
    }

    fn read_graph(&mut self, graph: &[u8], depth: usize) -> Result<(), Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed);
        }
        for (number, bytes) in messages(graph)? {
            match number {
                field::GRAPH_NODE => self.read_node(bytes, depth)?,
                field::GRAPH_INITIALIZER => self.read_tensor(bytes)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_node(&mut self, node: &[u8], depth: usize) -> Result<(), Malformed> {
        for (number, bytes) in messages(node)? {
            if number == field::NODE_OPERATOR {
                self.operators.insert(text(bytes)?);
            } else if number == field::NODE_ATTRIBUTE {
                for (number, bytes) in messages(bytes)? {
                    if field::ATTRIBUTE_GRAPHS.contains(&number) {
                        self.read_graph(bytes, depth + 1)?;
                    } else if field::ATTRIBUTE_TENSORS.contains(&number) {
                        self.read_tensor(bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn read_tensor(&mut self, tensor: &[u8]) -> Result<(), Malformed> {
        for (number, entry) in messages(tensor)? {
            if number == field::TENSOR_EXTERNAL_DATA {
                let of = |wanted, fields: &[(u64, &[u8])]| {
                    fields.iter().find(|field| field.0 == wanted).map(|field| text(field.1)).transpose()
                };
                let fields = messages(entry)?;
                if of(field::ENTRY_KEY, &fields)?.as_deref() == Some("location") {
                    self.data_files.extend(of(field::ENTRY_VALUE, &fields)?);
                }
            }
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed)
}

/// The length-delimited fields of a message, with their numbers; other kinds are passed over.
fn messages(mut bytes: &[u8]) -> Result<Vec<(u64, &[u8])>, Malformed> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match tag & 7 {
            0 => drop(varint(&mut bytes)?),
            1 => drop(take(&mut bytes, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).map_err(|_| Malformed)?;
                found.push((tag >> 3, take(&mut bytes, length)?));
            }
            5 => drop(take(&mut bytes, 4)?),
            _ => return Err(Malformed),
        }
    }
    Ok(found)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length-delimited field.
    fn message(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).expect("a short one");
        [&[number << 3 | 2, length][..], content].concat()
    }

    #[test]
    fn operators_and_data_files_are_found_in_nested_graphs() {
        let entry = |key: &[u8], value: &[u8]| message(13, &[message(1, key), message(2, value)].concat());
        let tensor = [entry(b"location", b"model.onnx_data"), entry(b"offset", b"4096")].concat();
        let inner = message(1, &message(4, b"GroupQueryAttention"));
        let node = [message(4, b"If"), message(5, &message(6, &inner))].concat();
        let graph = [message(1, &node), vec![0x18, 0xff, 0x01], message(5, &tensor)].concat();
        let facts = GraphFacts::read(&message(7, &graph)).expect("well formed");
        assert_eq!(facts.operators, ["GroupQueryAttention", "If"].map(str::to_owned).into());
        assert_eq!(facts.data_files, ["model.onnx_data".to_owned()].into());
    }

    #[test]
    fn cut_and_endless_bytes_are_malformed() {
        for bytes in [&[0x3a, 5, 1][..], &[0x3a], &[0xff; 12], &[0x3b, 0], &[0x39, 1, 2]] {
            assert_eq!(GraphFacts::read(bytes), Err(Malformed), "{bytes:?}");
        }
    }
}
