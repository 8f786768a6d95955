//! The types in which graphs take and give numbers: integers of 64 or 32 bits, floats of 32 or 16. The engine's own are
//! i64 and f32, which hold all of the others' values.

use std::borrow::Cow;

use half::{bf16, f16};
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor, TensorElementType};

use infera_model::folder::ElementType;

/// The type of an integer input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integer {
    Int64,
    Int32,
}

impl Integer {
    /// Returns the integer of an ONNX type; none for every other type.
    pub(super) const fn of(element: ElementType) -> Option<Self> {
        match element {
            ElementType::INT64 => Some(Self::Int64),
            ElementType::INT32 => Some(Self::Int32),
            _ => None,
        }
    }

    /// Makes a tensor of this type. Tokens, masks and positions fit into 32 bits.
    pub(super) fn tensor(self, sizes: &[usize], values: Vec<i64>) -> ort::Result<DynValue> {
        let sizes = sizes.to_vec();
        Ok(match self {
            Self::Int64 => Tensor::from_array((sizes, values))?.into_dyn(),
            Self::Int32 => {
                let short = |value| i32::try_from(value).unwrap_or(i32::MAX);
                Tensor::from_array((sizes, values.into_iter().map(short).collect::<Vec<_>>()))?.into_dyn()
            }
        })
    }
}

/// The type of logits or of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Float {
    Float32,
    Float16,
    Bfloat16,
}

impl Float {
    /// Returns the float of an ONNX type; none for every other type.
    pub(super) const fn of(element: ElementType) -> Option<Self> {
        match element {
            ElementType::FLOAT => Some(Self::Float32),
            ElementType::FLOAT16 => Some(Self::Float16),
            ElementType::BFLOAT16 => Some(Self::Bfloat16),
            _ => None,
        }
    }

    /// Returns the type's number in ONNX Runtime.
    pub(super) const fn kind(self) -> TensorElementType {
        match self {
            Self::Float32 => TensorElementType::Float32,
            Self::Float16 => TensorElementType::Float16,
            Self::Bfloat16 => TensorElementType::Bfloat16,
        }
    }

    /// Returns the bytes of one number.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Float32 => 4,
            Self::Float16 | Self::Bfloat16 => 2,
        }
    }

    /// Returns a tensor's values as f32: where they lie, if they are, and otherwise as a copy.
    pub(super) fn values(self, tensor: &DynValue) -> ort::Result<Cow<'_, [f32]>> {
        Ok(match self {
            Self::Float32 => Cow::Borrowed(tensor.try_extract_tensor::<f32>()?.1),
            Self::Float16 => Cow::Owned(copied(tensor, f16::to_f32)?),
            Self::Bfloat16 => Cow::Owned(copied(tensor, bf16::to_f32)?),
        })
    }
}

fn copied<T: PrimitiveTensorElementType + Copy>(
    tensor: &DynValue,
    widened: impl Fn(T) -> f32,
) -> ort::Result<Vec<f32>> {
    let (_, values) = tensor.try_extract_tensor::<T>()?;
    Ok(values.iter().map(|&value| widened(value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_that_are_read_are_known() {
        let known = |number| (Integer::of(ElementType(number)), Float::of(ElementType(number)));
        assert_eq!(known(7), (Some(Integer::Int64), None));
        assert_eq!(known(6), (Some(Integer::Int32), None));
        assert_eq!(known(1), (None, Some(Float::Float32)));
        assert_eq!(known(10), (None, Some(Float::Float16)));
        assert_eq!(known(16), (None, Some(Float::Bfloat16)));
        for other in [0, 2, 3, 9, 11, 17] {
            assert_eq!(known(other), (None, None));
        }
    }
}
