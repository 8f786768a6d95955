//! An input or output of an ONNX graph: its name, the type of its elements and its sizes.

use std::fmt;

use super::protobuf::{Malformed, Wire, fields, messages, text};

/// Field numbers of `onnx.proto`, by message.
mod field {
    pub(super) const VALUE_NAME: u64 = 1;
    pub(super) const VALUE_TYPE: u64 = 2;
    pub(super) const TYPE_TENSOR: u64 = 1;
    pub(super) const TENSOR_ELEMENT: u64 = 1;
    pub(super) const TENSOR_SHAPE: u64 = 2;
    pub(super) const SHAPE_SIZE: u64 = 1;
    pub(super) const SIZE_VALUE: u64 = 1;
}

/// The type of a tensor's elements, by its number in `onnx.proto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ElementType(pub u64);

impl ElementType {
    /// 32-bit floats.
    pub const FLOAT: Self = Self(1);
    /// 32-bit integers.
    pub const INT32: Self = Self(6);
    /// 64-bit integers.
    pub const INT64: Self = Self(7);
    /// Booleans.
    pub const BOOL: Self = Self(9);
    /// 16-bit floats of IEEE 754.
    pub const FLOAT16: Self = Self(10);
    /// 16-bit floats with the exponent of 32-bit ones.
    pub const BFLOAT16: Self = Self(16);
}

impl fmt::Display for ElementType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FLOAT => formatter.write_str("float32"),
            Self::INT32 => formatter.write_str("int32"),
            Self::INT64 => formatter.write_str("int64"),
            Self::BOOL => formatter.write_str("bool"),
            Self::FLOAT16 => formatter.write_str("float16"),
            Self::BFLOAT16 => formatter.write_str("bfloat16"),
            Self(0) => formatter.write_str("no tensor"),
            Self(number) => write!(formatter, "ONNX type {number}"),
        }
    }
}

/// An input or output of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The type of its elements; 0 if it is no tensor.
    pub element: ElementType,
    /// Its sizes; none for one that the graph leaves open.
    pub sizes: Vec<Option<usize>>,
}

/// Reads a port from a `ValueInfoProto`.
pub(super) fn read(value: &[u8]) -> Result<Port, Malformed> {
    let mut port = Port::default();
    for (number, bytes) in messages(value)? {
        match number {
            field::VALUE_NAME => port.name = text(bytes)?,
            field::VALUE_TYPE => {
                for (_, tensor) in messages(bytes)?.into_iter().filter(|kind| kind.0 == field::TYPE_TENSOR) {
                    read_tensor(tensor, &mut port)?;
                }
            }
            _ => {}
        }
    }
    Ok(port)
}

fn read_tensor(tensor: &[u8], port: &mut Port) -> Result<(), Malformed> {
    for (number, wire) in fields(tensor)? {
        match wire {
            Wire::Integer(element) if number == field::TENSOR_ELEMENT => port.element = ElementType(element),
            Wire::Bytes(shape) if number == field::TENSOR_SHAPE => {
                let sizes = messages(shape)?.into_iter().filter(|size| size.0 == field::SHAPE_SIZE);
                port.sizes = sizes.map(|(_, size)| read_size(size)).collect::<Result<_, _>>()?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_size(size: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut values = fields(size)?.into_iter().filter_map(|(number, wire)| match wire {
        Wire::Integer(value) if number == field::SIZE_VALUE => usize::try_from(value).ok(),
        _ => None,
    });
    Ok(values.next())
}

#[cfg(test)]
mod tests {
    use super::super::protobuf::tests::message;
    use super::*;

    #[test]
    fn types_and_sizes_are_those_of_the_file() {
        let size = |content: &[u8]| message(1, content);
        let shape = [size(&message(2, b"batch_size")), size(&[1 << 3, 3]), size(&[])].concat();
        let tensor = [vec![1 << 3, 10], message(2, &shape)].concat();
        let value = [message(1, b"past_key_values.0.key"), message(2, &message(1, &tensor))].concat();
        let port = read(&value).expect("well formed");
        assert_eq!(port.name, "past_key_values.0.key");
        assert_eq!(port.element, ElementType::FLOAT16);
        assert_eq!(port.sizes, [None, Some(3), None]);
        let sequence = [message(1, b"x"), message(2, &message(4, &[]))].concat();
        assert_eq!(read(&sequence).expect("well formed").element.to_string(), "no tensor");
        assert_eq!(read(&message(2, &[0x0a, 9])), Err(Malformed));
    }
}
