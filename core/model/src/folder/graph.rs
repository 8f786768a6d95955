//! Reads from an ONNX file, without ONNX Runtime, the operators it uses, its inputs and outputs, and the data files it
//! names. It walks `ModelProto` by field numbers; it does not validate, and decodes no weights.

use std::collections::BTreeSet;

use super::port::{self, Port};
use super::protobuf::{Malformed, Wire, fields, messages, text};

/// Field numbers of `onnx.proto`, by message.
mod field {
    pub(super) const MODEL_GRAPH: u64 = 7;
    pub(super) const GRAPH_NODE: u64 = 1;
    pub(super) const GRAPH_INITIALIZER: u64 = 5;
    pub(super) const NODE_INPUT: u64 = 1;
    pub(super) const GRAPH_INPUT: u64 = 11;
    pub(super) const GRAPH_OUTPUT: u64 = 12;
    pub(super) const NODE_OPERATOR: u64 = 4;
    pub(super) const NODE_ATTRIBUTE: u64 = 5;
    pub(super) const ATTRIBUTE_NAME: u64 = 1;
    pub(super) const ATTRIBUTE_INTEGER: u64 = 3;
    pub(super) const ATTRIBUTE_TENSORS: [u64; 2] = [5, 10];
    pub(super) const ATTRIBUTE_GRAPHS: [u64; 2] = [6, 11];
    pub(super) const TENSOR_NAME: u64 = 8;
    pub(super) const TENSOR_EXTERNAL_DATA: u64 = 13;
    pub(super) const ENTRY_KEY: u64 = 1;
    pub(super) const ENTRY_VALUE: u64 = 2;
}

/// How deeply nested graphs (branches, loops) are followed; a file with deeper ones is refused.
const DEPTH_MAX: usize = 8;

/// The facts that an ONNX file states about itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GraphFacts {
    /// Operator types in use, such as `GroupQueryAttention`.
    pub operators: BTreeSet<String>,
    /// The `accuracy_level`s of its `MatMulNBits` nodes; 0 for a node that names none.
    pub accuracy_levels: BTreeSet<u64>,
    /// Whether a `MatMulNBits` has zero points and fewer than 8 bits.
    pub shifted_weights: bool,
    /// The files beside it that hold tensors, by the names that it uses.
    pub data_files: BTreeSet<String>,
    /// The inputs that a run must be given, in the file's order.
    pub inputs: Vec<Port>,
    /// The inputs that have a value of their own, which a run may replace.
    pub optional_inputs: Vec<Port>,
    /// The outputs, in the file's order.
    pub outputs: Vec<Port>,
}

/// What counts of a quantised product, by its attributes' defaults.
struct Product {
    accuracy_level: u64,
    bits: u64,
}

impl Default for Product {
    fn default() -> Self {
        Self { accuracy_level: 0, bits: 4 }
    }
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
        let (mut inputs, mut initializers) = (Vec::new(), BTreeSet::new());
        for (number, bytes) in messages(graph)? {
            match number {
                field::GRAPH_NODE => self.read_node(bytes, depth)?,
                field::GRAPH_INITIALIZER => initializers.extend(self.read_tensor(bytes)?),
                field::GRAPH_INPUT if depth == 0 => inputs.push(port::read(bytes)?),
                field::GRAPH_OUTPUT if depth == 0 => self.outputs.push(port::read(bytes)?),
                _ => {}
            }
        }
        if depth == 0 {
            (self.optional_inputs, self.inputs) =
                inputs.into_iter().partition(|input| initializers.contains(&input.name));
        }
        Ok(())
    }

    fn read_node(&mut self, node: &[u8], depth: usize) -> Result<(), Malformed> {
        let (mut operator, mut inputs, mut product) = (String::new(), Vec::new(), Product::default());
        for (number, bytes) in messages(node)? {
            match number {
                field::NODE_INPUT => inputs.push(bytes),
                field::NODE_OPERATOR => operator = text(bytes)?,
                field::NODE_ATTRIBUTE => self.read_attribute(bytes, depth, &mut product)?,
                _ => {}
            }
        }
        if operator == "MatMulNBits" {
            self.accuracy_levels.insert(product.accuracy_level);
            // The fourth input; an absent one may have an empty name.
            let has_zero_points = inputs.get(3).is_some_and(|name| !name.is_empty());
            self.shifted_weights |= has_zero_points && product.bits < 8;
        }
        self.operators.insert(operator);
        Ok(())
    }

    /// Reads an attribute, which may be one of a quantised product.
    fn read_attribute(
        &mut self,
        attribute: &[u8],
        depth: usize,
        product: &mut Product,
    ) -> Result<(), Malformed> {
        let (mut named, mut integer) = (&[][..], 0);
        for (number, wire) in fields(attribute)? {
            match wire {
                Wire::Bytes(name) if number == field::ATTRIBUTE_NAME => named = name,
                Wire::Bytes(graph) if field::ATTRIBUTE_GRAPHS.contains(&number) => {
                    self.read_graph(graph, depth + 1)?
                }
                Wire::Bytes(tensor) if field::ATTRIBUTE_TENSORS.contains(&number) => {
                    self.read_tensor(tensor)?;
                }
                Wire::Integer(value) if number == field::ATTRIBUTE_INTEGER => integer = value,
                _ => {}
            }
        }
        match named {
            b"accuracy_level" => product.accuracy_level = integer,
            b"bits" => product.bits = integer,
            _ => {}
        }
        Ok(())
    }

    /// Reads where a tensor's data lie, and returns its name.
    fn read_tensor(&mut self, tensor: &[u8]) -> Result<Option<String>, Malformed> {
        let mut name = None;
        for (number, entry) in messages(tensor)? {
            if number == field::TENSOR_NAME {
                name = Some(text(entry)?);
            } else if number == field::TENSOR_EXTERNAL_DATA {
                let of = |wanted, fields: &[(u64, &[u8])]| {
                    fields.iter().find(|field| field.0 == wanted).map(|field| text(field.1)).transpose()
                };
                let fields = messages(entry)?;
                if of(field::ENTRY_KEY, &fields)?.as_deref() == Some("location") {
                    self.data_files.extend(of(field::ENTRY_VALUE, &fields)?);
                }
            }
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::protobuf::tests::message;
    use super::*;

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
    fn inputs_with_a_value_of_their_own_are_optional() {
        let input = |name: &[u8]| message(11, &message(1, name));
        let initializer = |name: &[u8]| message(5, &message(8, name));
        let inner = message(1, &message(5, &message(6, &input(b"within"))));
        let graph =
            [input(b"ids"), inner, initializer(b"kept"), input(b"kept"), message(12, &message(1, b"logits"))];
        let facts = GraphFacts::read(&message(7, &graph.concat())).expect("well formed");
        let names = |ports: &[Port]| ports.iter().map(|port| port.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&facts.inputs), ["ids"]);
        assert_eq!(names(&facts.optional_inputs), ["kept"]);
        assert_eq!(names(&facts.outputs), ["logits"]);
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
    fn weights_are_shifted_by_zero_points_of_fewer_than_eight_bits() {
        let bits = |value: u8| message(5, &[message(1, b"bits"), vec![3 << 3, value]].concat());
        let read = |inputs: &[&[u8]], attributes: &[Vec<u8>]| {
            let inputs: Vec<u8> = inputs.iter().flat_map(|name| message(1, name)).collect();
            let node = [inputs, message(4, b"MatMulNBits"), attributes.concat()].concat();
            GraphFacts::read(&message(7, &message(1, &node))).expect("well formed").shifted_weights
        };
        let shifted: [&[u8]; 4] = [b"x", b"w", b"s", b"z"];
        assert!(read(&shifted, &[bits(4)]) && read(&shifted, &[]));
        assert!(!read(&shifted, &[bits(8)]));
        assert!(!read(&shifted[..3], &[bits(4)]) && !read(&[b"x", b"w", b"s", b"", b"g"], &[]));
    }

    #[test]
    fn cut_and_endless_bytes_are_malformed() {
        for bytes in [&[0x3a, 5, 1][..], &[0x3a], &[0xff; 12], &[0x3b, 0], &[0x39, 1, 2]] {
            assert_eq!(GraphFacts::read(bytes), Err(Malformed), "{bytes:?}");
        }
    }
}
