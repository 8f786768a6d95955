//! Memory on the device that computes: where caches lie and where logits are put, and buffers there. On the CPU both are plain
//! memory. On CUDA caches never leave the GPU, and logits come to pinned memory of the host, once a run.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr::{self, NonNull};

use half::{bf16, f16};
use ort::AsPointer as _;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::value::{DynTensor, DynTensorValueType, DynValue, Tensor, TensorElementType};

use super::elements::Float;
use super::ports::CachePort;
use super::settings::Device;

/// Where a session's outputs are put.
pub(super) struct Places {
    /// The memory of caches: that of the device.
    pub(super) caches: Allocator,
    /// The memory of logits: the CPU can read it.
    pub(super) logits: Allocator,
}

/// The GPU's number among those that the process may see; `CUDA_VISIBLE_DEVICES` chooses which that is.
const FIRST_GPU: i32 = 0;

impl Places {
    /// Finds a session's memory on a device.
    pub(super) fn of(session: &Session, device: Device) -> ort::Result<Self> {
        let memory = |place, kind| {
            Allocator::new(session, MemoryInfo::new(place, FIRST_GPU, AllocatorType::Device, kind)?)
        };
        Ok(match device {
            Device::Cpu => Self { caches: Allocator::default(), logits: Allocator::default() },
            Device::Cuda => Self {
                caches: memory(AllocationDevice::CUDA, MemoryType::Default)?,
                logits: memory(AllocationDevice::CUDA_PINNED, MemoryType::CPUOutput)?,
            },
        })
    }
}

/// Returns a copy of a tensor that the CPU can read; none if it can read the tensor itself.
pub(super) fn on_host(value: &DynValue, memory: &Allocator) -> ort::Result<Option<DynValue>> {
    let tensor = value.view().downcast::<DynTensorValueType>()?;
    if tensor.memory_info().is_cpu_accessible() {
        return Ok(None);
    }
    copied(value, memory).map(Some)
}

/// Copies a tensor to the host. `ort` does that by a graph of one operator, which knows no bf16, so bf16's bits are copied as those
/// of fp16.
#[expect(unsafe_code, reason = "a tensor's bits under another type can't be had otherwise")]
fn copied(value: &DynValue, memory: &Allocator) -> ort::Result<DynValue> {
    let tensor = value.view().downcast::<DynTensorValueType>()?;
    if *tensor.data_type() != TensorElementType::Bfloat16 {
        return Ok(tensor.to(AllocationDevice::CPU, 0)?.into_dyn());
    }
    let shape = tensor.shape().to_vec();
    // SAFETY: the shape is the tensor's own, both types have two bytes, and the tensor outlives the view.
    let bits = unsafe { over(memory, tensor.data_ptr().cast_mut(), &shape, TensorElementType::Float16)? };
    let host = bits.view().downcast::<DynTensorValueType>()?.to(AllocationDevice::CPU, 0)?;
    let (_, halves) = host.try_extract_tensor::<f16>()?;
    let values: Vec<bf16> = halves.iter().map(|half| bf16::from_bits(half.to_bits())).collect();
    Ok(Tensor::from_array((shape, values))?.into_dyn())
}

/// Returns a tensor over memory that is there.
///
/// # Safety
/// The memory is of the kind that `memory` describes, has room for the shape, and outlives the tensor.
#[expect(unsafe_code, reason = "a tensor over a part of another one can't be had otherwise")]
unsafe fn over(
    memory: &Allocator,
    start: *mut c_void,
    shape: &[i64],
    kind: TensorElementType,
) -> ort::Result<DynValue> {
    let count =
        shape.iter().try_fold(1, |count: usize, size| count.checked_mul(usize::try_from(*size).ok()?));
    let bytes = count.and_then(|count| kind.byte_size(count));
    let bytes = bytes.ok_or_else(|| ort::Error::new("a tensor is larger than memory can be"))?;
    let mut value = ptr::null_mut();
    // SAFETY: the caller promises the memory; the sizes and the result outlive the call; the value is one that the call made.
    unsafe {
        let status = (ort::api().CreateTensorWithDataAsOrtValue)(
            memory.memory_info().ptr(),
            start,
            bytes,
            shape.as_ptr(),
            shape.len(),
            kind.into(),
            &raw mut value,
        );
        ort::Error::result_from_status(status)?;
        let value = NonNull::new(value).ok_or_else(|| ort::Error::new("no tensor was made"))?;
        Ok(DynValue::from_ptr(value, Some(memory)))
    }
}

/// One cache port's memory of all rows, `[rows, heads, context, size]`, zeroed.
pub(super) struct Buffer {
    tensor: DynTensor,
    rows: usize,
    sizes: [usize; 3],
    element: Float,
}

impl Buffer {
    /// Takes memory for `rows` rows of up to `context` tokens.
    pub(super) fn new(
        memory: &Allocator,
        port: &CachePort,
        rows: usize,
        context: usize,
    ) -> ort::Result<Self> {
        let (sizes, element) = ([port.heads, context, port.size], port.element);
        let shape = [rows, port.heads, context, port.size];
        let length = shape.iter().try_fold(element.bytes(), |bytes, size| bytes.checked_mul(*size));
        if length.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
            return Err(ort::Error::new("the caches are larger than memory can be"));
        }
        // Zeros are copied, and bf16 can't be (see `copied`); only the views of the rows have the port's own type.
        let kind = if element.bytes() == 4 { TensorElementType::Float32 } else { TensorElementType::Float16 };
        let mut tensor = DynTensor::new(memory, kind, shape)?;
        // A device's memory comes with what was in it before: of another run, and perhaps not a number.
        DynTensor::new(&Allocator::default(), kind, shape)?.copy_into(&mut tensor)?;
        Ok(Self { tensor, rows, sizes, element })
    }

    /// Returns a tensor over neighbouring rows, which reads and writes them in place. The caller drops it before the buffer.
    #[expect(unsafe_code, reason = "as above")]
    pub(super) fn rows(&mut self, memory: &Allocator, rows: &Range<usize>) -> ort::Result<DynValue> {
        if rows.end > self.rows || rows.is_empty() {
            return Err(ort::Error::new("a tensor would lie outside its buffer"));
        }
        let row_bytes = self.sizes.iter().product::<usize>() * self.element.bytes();
        let [heads, context, size] = self.sizes;
        let shape = [rows.len(), heads, context, size].map(|size| i64::try_from(size).unwrap_or(i64::MAX));
        // SAFETY: the rows lie within the buffer, which came from this memory and outlives the tensor.
        unsafe {
            let first = self.tensor.data_ptr_mut().cast::<u8>().add(rows.start * row_bytes);
            over(memory, first.cast(), &shape, self.element.kind())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads the runtime, whose functions make tensors. Both of a process's loads name the same library.
    fn runtime() {
        let named = std::env::var_os("INFERA_ONNXRUNTIME_LIBRARY").map(std::path::PathBuf::from);
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let path = named.unwrap_or_else(|| root.join(".runtime/onnxruntime/libonnxruntime.so.1.31.1"));
        crate::runtime::environment(&path).expect("run `make setup`");
    }

    #[test]
    fn a_view_is_its_rows_alone_in_every_type() {
        runtime();
        let memory = Allocator::default();
        for element in [Float::Float32, Float::Float16, Float::Bfloat16] {
            let port = CachePort {
                input: "i".into(),
                output: 0,
                output_name: "o".into(),
                heads: 2,
                size: 3,
                element,
            };
            let mut buffer = Buffer::new(&memory, &port, 4, 5).expect("small");
            let view = buffer.rows(&memory, &(1..3)).expect("within");
            assert_eq!(view.shape()[..], [2, 2, 5, 3]);
            assert!(element.values(&view).expect("readable").iter().all(|&value| value == 0.0));
            assert!(on_host(&view, &memory).expect("a tensor").is_none(), "the CPU reads it where it lies");
            assert!(buffer.rows(&memory, &(3..5)).is_err() && buffer.rows(&memory, &(2..2)).is_err());
        }
    }

    /// What a GPU's tensors are read by, on tensors of the CPU.
    #[test]
    fn a_copy_has_the_same_bits_in_every_type() {
        runtime();
        let memory = Allocator::default();
        let numbers = [0.0, -0.0, 1.5, -2.0, 1.0e30, f32::INFINITY];
        let (wide, half, brain): (Vec<f32>, Vec<f16>, Vec<bf16>) =
            (numbers.to_vec(), numbers.map(f16::from_f32).to_vec(), numbers.map(bf16::from_f32).to_vec());
        let tensors = [
            (Float::Float32, Tensor::from_array(([2, 3], wide)).expect("made").into_dyn()),
            (Float::Float16, Tensor::from_array(([2, 3], half)).expect("made").into_dyn()),
            (Float::Bfloat16, Tensor::from_array(([2, 3], brain)).expect("made").into_dyn()),
        ];
        for (element, tensor) in tensors {
            let copy = copied(&tensor, &memory).expect("copied");
            assert_eq!(copy.shape()[..], [2, 3]);
            let bits = |value: &DynValue| {
                element.values(value).expect("readable").iter().map(|it| it.to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(bits(&copy), bits(&tensor), "{element:?}");
        }
    }
}
