//! Reads from an ONNX file, without ONNX Runtime, the operators it uses and the data files it names. It knows just
//! enough of protocol buffers to walk `ModelProto` by field numbers; it does not validate, and decodes no weights.

use std::collections::BTreeSet;

/// Field numbers of `onnx.proto`, by message.
mod field {
    pub(super) const MODEL_GRAPH: u64 = 7;
    pub(super) const GRAPH_NODE: u64 = 1;
    pub(super) const GRAPH_INITIALIZER: u64 = 5;
    pub(super) const NODE_OPERATOR: u64 = 4;
    pub(super) const NODE_ATTRIBUTE: u64 = 5;
    pub(super) const ATTRIBUTE_NAME: u64 = 1;
    pub(super) const ATTRIBUTE_INTEGER: u64 = 3;
    pub(super) const ATTRIBUTE_TENSORS: [u64; 2] = [5, 10];
    pub(super) const ATTRIBUTE_GRAPHS: [u64; 2] = [6, 11];
    pub(super) const TENSOR_EXTERNAL_DATA: u64 = 13;
    pub(super) const ENTRY_KEY: u64 = 1;
    pub(super) const ENTRY_VALUE: u64 = 2;
}

/// How deeply nested graphs (branches, loops) are followed; a file with deeper ones is refused.
const DEPTH_MAX: usize = 8;

/// The bytes are not a valid protocol buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// The facts that an ONNX file states about itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GraphFacts {
    /// Operator types in use, such as `GroupQueryAttention`.
    pub operators: BTreeSet<String>,
    /// The `accuracy_level`s of its `MatMulNBits` nodes; 0 for a node that names none.
    pub accuracy_levels: BTreeSet<u64>,
    /// The files beside it that hold tensors, by the names that it uses.
    pub data_files: BTreeSet<String>,
}

impl GraphFacts {
    /// Reads the facts from a whole `ModelProto`.
    ///
    /// # Errors
    /// [`Malformed`] for any other input.
    pub fn read(model: &[u8]) -> Result<Self, Malformed> {
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
        let (mut operator, mut accuracy_level) = (String::new(), 0);
        for (number, bytes) in messages(node)? {
            if number == field::NODE_OPERATOR {
                operator = text(bytes)?;
            } else if number == field::NODE_ATTRIBUTE {
                accuracy_level = self.read_attribute(bytes, depth)?.unwrap_or(accuracy_level);
            }
        }
        if operator == "MatMulNBits" {
            self.accuracy_levels.insert(accuracy_level);
        }
        self.operators.insert(operator);
        Ok(())
    }

    /// Reads an attribute, and returns its value if it is the accuracy level.
    fn read_attribute(&mut self, attribute: &[u8], depth: usize) -> Result<Option<u64>, Malformed> {
        let (mut is_level, mut integer) = (false, 0);
        for (number, wire) in fields(attribute)? {
            match wire {
                Wire::Bytes(name) if number == field::ATTRIBUTE_NAME => is_level = name == b"accuracy_level",
                Wire::Bytes(graph) if field::ATTRIBUTE_GRAPHS.contains(&number) => {
                    self.read_graph(graph, depth + 1)?
                }
                Wire::Bytes(tensor) if field::ATTRIBUTE_TENSORS.contains(&number) => {
                    self.read_tensor(tensor)?
                }
                Wire::Integer(value) if number == field::ATTRIBUTE_INTEGER => integer = value,
                _ => {}
            }
        }
        Ok(is_level.then_some(integer))
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

/// A field's value by its wire type.
enum Wire<'a> {
    Bytes(&'a [u8]),
    Integer(u64),
}

/// Returns the fields of a message with their numbers; floats are skipped.
fn fields(mut bytes: &[u8]) -> Result<Vec<(u64, Wire<'_>)>, Malformed> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match tag & 7 {
            0 => found.push((tag >> 3, Wire::Integer(varint(&mut bytes)?))),
            1 => drop(take(&mut bytes, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).map_err(|_| Malformed)?;
                found.push((tag >> 3, Wire::Bytes(take(&mut bytes, length)?)));
            }
            5 => drop(take(&mut bytes, 4)?),
            _ => return Err(Malformed),
        }
    }
    Ok(found)
}

/// Returns those fields that are messages or text.
fn messages(bytes: &[u8]) -> Result<Vec<(u64, &[u8])>, Malformed> {
    let found = fields(bytes)?.into_iter();
    let bytes = |(number, wire)| match wire {
        Wire::Bytes(bytes) => Some((number, bytes)),
        Wire::Integer(_) => None,
    };
    Ok(found.filter_map(bytes).collect())
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

    /// Makes a length-delimited field.
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
    fn accuracy_levels_are_those_of_the_nodes() {
        let level = |value: u8| message(5, &[message(1, b"accuracy_level"), vec![3 << 3, value]].concat());
        let other = message(5, &[message(1, b"bits"), vec![3 << 3, 8]].concat());
        let node =
            |attributes: &[Vec<u8>]| message(1, &[message(4, b"MatMulNBits"), attributes.concat()].concat());
        let read = |nodes: &[Vec<u8>]| {
            GraphFacts::read(&message(7, &nodes.concat())).expect("well formed").accuracy_levels
        };
        assert_eq!(read(&[node(&[level(4), other.clone()])]), [4].into());
        assert_eq!(read(&[node(&[other, level(1)]), node(&[])]), [0, 1].into());
        assert!(read(&[message(1, &[message(4, b"Cast"), level(4)].concat())]).is_empty());
    }

    #[test]
    fn cut_and_endless_bytes_are_malformed() {
        for bytes in [&[0x3a, 5, 1][..], &[0x3a], &[0xff; 12], &[0x3b, 0], &[0x39, 1, 2]] {
            assert_eq!(GraphFacts::read(bytes), Err(Malformed), "{bytes:?}");
        }
    }
}
