//! Memory of a fixed size that ONNX Runtime reads and writes in place. All of this crate's work with raw memory is here.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::{self, NonNull};

use ort::AsPointer as _;
use ort::memory::Allocator;
use ort::value::DynValue;

/// Zeroed memory for `f32`s. The operating system provides a page when it is first written, so that what is never used
/// costs nothing.
pub(super) struct Memory {
    /// What was allocated; the numbers begin at the next cache line.
    allocated: NonNull<u8>,
    start: NonNull<f32>,
    length: usize,
}

/// An alignment that every kernel of ONNX Runtime is content with: a cache line.
const ALIGNMENT_BYTES: usize = 64;
/// The alignment that is asked of the allocator. Rust's own takes zeroed pages from the operating system up to this one, and
/// writes zeros itself for any larger: all of the memory would be in use at once.
const ALLOCATED_ALIGNMENT_BYTES: usize = 8;

#[expect(unsafe_code, reason = "the memory has one owner and no thread of its own")]
// SAFETY: the pointer is to memory that this value alone owns.
unsafe impl Send for Memory {}

impl Memory {
    /// Allocates room for `length` numbers, at least one.
    #[expect(unsafe_code, reason = "ONNX Runtime keeps addresses, which a Vec may not promise")]
    pub(super) fn new(length: usize) -> ort::Result<Self> {
        let length = length.max(1);
        let layout =
            layout(length).ok_or_else(|| ort::Error::new("the caches are larger than memory can be"))?;
        let absent =
            || ort::Error::new(format!("the system gives no {} bytes for the caches", layout.size()));
        // SAFETY: the layout's size isn't 0.
        let allocated = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(absent)?;
        let before = allocated.as_ptr().align_offset(ALIGNMENT_BYTES);
        if before >= ALIGNMENT_BYTES {
            return Err(ort::Error::new("memory for the caches can't be aligned"));
        }
        // SAFETY: the layout has room for as many bytes more than the numbers take.
        let start = unsafe { allocated.add(before) }.cast();
        Ok(Self { allocated, start, length })
    }

    /// Returns a tensor over the numbers from `from` on, which reads and writes them in place. The caller drops it before the
    /// memory.
    #[expect(unsafe_code, reason = "a tensor that both input and output are bound to can't be had otherwise")]
    pub(super) fn tensor(&mut self, from: usize, shape: [usize; 4]) -> ort::Result<DynValue> {
        let count: usize = shape.iter().product();
        if from.checked_add(count).is_none_or(|end| end > self.length) {
            return Err(ort::Error::new("a tensor would lie outside its memory"));
        }
        let sizes = shape.map(|size| i64::try_from(size).unwrap_or(i64::MAX));
        let allocator = Allocator::default();
        let mut value = ptr::null_mut();
        // SAFETY: the numbers lie within the memory, which outlives the tensor; the sizes and the result outlive the call; the
        // value is one that the call made.
        unsafe {
            let status = (ort::api().CreateTensorWithDataAsOrtValue)(
                allocator.memory_info().ptr(),
                self.start.as_ptr().add(from).cast(),
                count * size_of::<f32>(),
                sizes.as_ptr(),
                sizes.len(),
                ort::sys::ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                &raw mut value,
            );
            ort::Error::result_from_status(status)?;
            let value = NonNull::new(value).ok_or_else(|| ort::Error::new("no tensor was made"))?;
            Ok(DynValue::from_ptr(value, Some(&allocator)))
        }
    }

    /// Copies `count` numbers from one place to another.
    #[expect(unsafe_code, reason = "tensors point to the memory, so no slice of it may exist")]
    pub(super) fn copy_within(&mut self, from: usize, to: usize, count: usize) {
        assert!(from + count <= self.length && to + count <= self.length, "a copy within the memory");
        // SAFETY: both places are within the memory, and nothing else accesses it between two runs.
        unsafe { ptr::copy(self.start.as_ptr().add(from), self.start.as_ptr().add(to), count) }
    }

    /// Adds `count` numbers from `from` on to `values`.
    #[expect(unsafe_code, reason = "as above")]
    pub(super) fn read(&self, from: usize, count: usize, values: &mut Vec<f32>) {
        assert!(from + count <= self.length, "a copy out of the memory");
        values.reserve(count);
        // SAFETY: the place is within the memory, all of which was written (as zeros, at least); there is room for `count` more
        // values.
        unsafe {
            ptr::copy_nonoverlapping(
                self.start.as_ptr().add(from),
                values.as_mut_ptr().add(values.len()),
                count,
            );
            values.set_len(values.len() + count);
        }
    }

    /// Writes numbers from `to` on.
    #[expect(unsafe_code, reason = "as above")]
    pub(super) fn write(&mut self, to: usize, values: &[f32]) {
        assert!(to + values.len() <= self.length, "a copy into the memory");
        // SAFETY: the place is within the memory, and `values` lie elsewhere.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), self.start.as_ptr().add(to), values.len()) }
    }
}

/// The least that is asked of the allocator. glibc's takes all of this size from the operating system, untouched; smaller memory
/// may come from what was used before, which it then fills with zeros.
const ALLOCATED_MIN_BYTES: usize = 33 << 20;

fn layout(length: usize) -> Option<Layout> {
    let bytes = length.checked_mul(size_of::<f32>())?.checked_add(ALIGNMENT_BYTES)?.max(ALLOCATED_MIN_BYTES);
    Layout::from_size_align(bytes, ALLOCATED_ALIGNMENT_BYTES).ok()
}

impl Drop for Memory {
    #[expect(unsafe_code, reason = "as above")]
    fn drop(&mut self) {
        if let Some(layout) = layout(self.length) {
            // SAFETY: the memory was allocated with this layout, and its owner is gone.
            unsafe { dealloc(self.allocated.as_ptr(), layout) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the bytes of this process that are in memory.
    #[cfg(target_os = "linux")]
    fn resident_bytes() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
    }

    /// Half a gigabyte is some ten thousand tokens of a small model, of which one has been written.
    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_is_not_used_is_not_taken() {
        let before = resident_bytes();
        let mut memory = Memory::new(128 << 20).expect("room");
        assert_eq!(memory.start.as_ptr().align_offset(ALIGNMENT_BYTES), 0);
        memory.write((128 << 20) - 2, &[1.0, 2.0]);
        let mut values = Vec::new();
        memory.read((128 << 20) - 3, 3, &mut values);
        memory.read(0, 1, &mut values);
        assert_eq!(values, [0.0, 1.0, 2.0, 0.0]);
        let taken = resident_bytes().saturating_sub(before);
        assert!(taken < 64 << 20, "{taken} bytes are in use");
    }
}
