//! What a GPU's numbers depend on beside ONNX Runtime: the GPU, as its driver describes it, and the libraries that compute, as
//! this process has loaded them.

use std::ffi::{CStr, c_char, c_int};
use std::path::{Path, PathBuf};

use infera_engine::EngineError;

/// A GPU as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gpu {
    /// Such as `NVIDIA H200`.
    model: String,
    /// The compute capability, 9 and 0 for 9.0.
    capability: (c_int, c_int),
    /// The number of multiprocessors, by which work is divided: a slice of a GPU has fewer under the same name.
    multiprocessors: c_int,
}

/// Returns the word for the first GPU that this process may see, such as `nvidia-h200-sm90-132mp`.
///
/// # Errors
/// [`EngineError::Load`]: the driver doesn't say.
pub(super) fn hardware() -> Result<String, EngineError> {
    let unknown = |reason: String| {
        EngineError::Load(format!("the GPU's model can't be found ({reason}); set it as `gpu_model`"))
    };
    let found = asked().map_err(|error| unknown(format!("{DRIVER}: {error}")))?;
    found.map(|gpu| word(&gpu)).ok_or_else(|| unknown(format!("{DRIVER} knows no GPU")))
}

fn word(gpu: &Gpu) -> String {
    let model = gpu.model.trim().to_lowercase();
    let model: Vec<&str> = model.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
    let model: Vec<&str> = model.into_iter().filter(|part| !part.is_empty()).collect();
    let (major, minor) = gpu.capability;
    format!("{}-sm{major}{minor}-{}mp", model.join("-"), gpu.multiprocessors)
}

/// The driver's library.
#[cfg(windows)]
const DRIVER: &str = "nvcuda.dll";
/// The driver's library.
#[cfg(not(windows))]
const DRIVER: &str = "libcuda.so.1";
/// The numbers of what is asked, as `cuda.h` has them.
const MULTIPROCESSORS: c_int = 16;
/// See above.
const CAPABILITY: [c_int; 2] = [75, 76];
/// The room for a model's name.
const NAME_BYTES: usize = 256;

#[expect(
    unsafe_code,
    reason = "the driver's C functions can't be called otherwise; cuda.h promises their types"
)]
fn asked() -> Result<Option<Gpu>, libloading::Error> {
    type Init = unsafe extern "C" fn(flags: u32) -> c_int;
    type Get = unsafe extern "C" fn(device: *mut c_int, place: c_int) -> c_int;
    type Name = unsafe extern "C" fn(name: *mut c_char, length: c_int, device: c_int) -> c_int;
    type Attribute = unsafe extern "C" fn(value: *mut c_int, attribute: c_int, device: c_int) -> c_int;
    let mut name = [0; NAME_BYTES];
    // SAFETY: the types are those of cuda.h; every pointer is to a local value that outlives its call; the name is longer than
    // the driver is told, so it ends with a zero.
    unsafe {
        let driver = libloading::Library::new(DRIVER)?;
        let init = driver.get::<Init>(b"cuInit\0")?;
        let get = driver.get::<Get>(b"cuDeviceGet\0")?;
        let name_of = driver.get::<Name>(b"cuDeviceGetName\0")?;
        let attribute_of = driver.get::<Attribute>(b"cuDeviceGetAttribute\0")?;
        let mut device = 0;
        if init(0) != 0 || get(&raw mut device, 0) != 0 {
            return Ok(None);
        }
        let attribute = |number| {
            let mut value = 0;
            (attribute_of(&raw mut value, number, device) == 0).then_some(value)
        };
        let numbers = [CAPABILITY[0], CAPABILITY[1], MULTIPROCESSORS].map(attribute);
        let ([Some(major), Some(minor), Some(multiprocessors)], 0) =
            (numbers, name_of(name.as_mut_ptr(), 255, device))
        else {
            return Ok(None);
        };
        let model = CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned();
        Ok(Some(Gpu { model, capability: (major, minor), multiprocessors }))
    }
}

/// A library whose version changes bits: its word, how its file's name begins, and the function that says the version.
struct Part {
    word: &'static str,
    file: &'static str,
    function: &'static [u8],
}

/// CUDA's runtime says its version through a pointer, the others return it.
const PARTS: [Part; 3] = [
    Part { word: "cuda", file: "libcudart.so", function: b"cudaRuntimeGetVersion\0" },
    Part { word: "cublaslt", file: "libcublasLt.so", function: b"cublasLtGetVersion\0" },
    Part { word: "cudnn", file: "libcudnn.so", function: b"cudnnGetVersion\0" },
];

/// Returns the versions of those parts that this process has loaded, such as `+cuda13000+cublaslt130200`. A part that isn't
/// loaded after a run of every shape takes no part in the numbers.
pub(super) fn libraries() -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let said = loaded(&maps).into_iter().map(|(part, path)| {
        let version = version(part, &path).map_or_else(|_| "unknown".to_owned(), |it| it.to_string());
        format!("+{}{version}", part.word)
    });
    said.collect()
}

/// Returns the files of the parts that a process's table of memory names.
fn loaded(maps: &str) -> Vec<(&'static Part, PathBuf)> {
    let files: Vec<&Path> =
        maps.lines().filter_map(|line| line.find('/').map(|begin| Path::new(&line[begin..]))).collect();
    let is_of = |part: &Part, file: &Path| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(part.file))
    };
    let found = |part: &'static Part| {
        files.iter().find(|file| is_of(part, file)).map(|file| (part, file.to_path_buf()))
    };
    PARTS.iter().filter_map(found).collect()
}

#[expect(
    unsafe_code,
    reason = "C functions can't be called otherwise; the libraries' headers promise their types"
)]
fn version(part: &Part, path: &Path) -> Result<usize, libloading::Error> {
    type ByPointer = unsafe extern "C" fn(version: *mut c_int) -> c_int;
    type Returned = unsafe extern "C" fn() -> usize;
    // SAFETY: the file is loaded already, so no initialiser runs; the functions' types are those of the headers, and the pointer
    // is to a local value that outlives the call.
    unsafe {
        let library = libloading::Library::new(path)?;
        if part.word != PARTS[0].word {
            return Ok(library.get::<Returned>(part.function)?());
        }
        let mut version = 0;
        library.get::<ByPointer>(part.function)?(&raw mut version);
        Ok(usize::try_from(version).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpus_word_says_what_its_kernels_are_chosen_by() {
        let gpu = Gpu { model: "NVIDIA H200".to_owned(), capability: (9, 0), multiprocessors: 132 };
        assert_eq!(word(&gpu), "nvidia-h200-sm90-132mp");
        let slice = Gpu { model: " NVIDIA A100-SXM4-40GB MIG 1g.5gb".to_owned(), ..gpu };
        assert_eq!(word(&slice), "nvidia-a100-sxm4-40gb-mig-1g-5gb-sm90-132mp");
    }

    #[test]
    fn loaded_libraries_are_those_of_the_process() {
        let maps = "7f00-7f01 r-xp 0 08:01 1    /opt/nvidia/cu13/lib/libcudart.so.13\n\
                    7f01-7f02 r--p 0 08:01 1    /opt/nvidia/cu13/lib/libcudart.so.13\n\
                    7f02-7f03 r-xp 0 08:01 2    /usr/lib/x/libcublasLt.so.13.0.2.14\n\
                    7f03-7f04 rw-p 0 00:00 0    [heap]\n\
                    7f04-7f05 r-xp 0 08:01 3    /usr/lib/x/libcudnn_ops.so.9\n";
        let found: Vec<(&str, PathBuf)> =
            loaded(maps).into_iter().map(|(part, path)| (part.word, path)).collect();
        let expected = [
            ("cuda", "/opt/nvidia/cu13/lib/libcudart.so.13"),
            ("cublaslt", "/usr/lib/x/libcublasLt.so.13.0.2.14"),
        ];
        assert_eq!(found, expected.map(|(word, path)| (word, PathBuf::from(path))));
        assert!(loaded("").is_empty());
    }

    /// Without a driver the error says what to set; with one the word has the capability.
    #[test]
    fn the_driver_is_asked() {
        match hardware() {
            Ok(word) => assert!(word.contains("-sm"), "{word}"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(DRIVER) && text.contains("gpu_model"), "{text}");
            }
        }
    }
}
