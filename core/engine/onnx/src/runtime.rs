//! ONNX Runtime itself: one library and one environment per process, the sessions made in it, and what a session's
//! numbers depend on. It knows nothing of language models.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep;
use ort::logging::LogLevel;
use ort::session::Session;

use crate::settings::{Device, OnnxConfig};
use infera_engine::EngineError;

/// The environment, once it is made, and the path of its library. ONNX Runtime allows one in a process's life.
static ENVIRONMENT: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

fn load_error(text: String) -> EngineError {
    EngineError::Load(text)
}

/// Returns the process's environment; the first call makes it from the library at `path`.
///
/// # Errors
/// The library is missing or of another version, or another library is already in use.
pub fn environment(path: &Path) -> Result<Environment, EngineError> {
    // Loading a missing library would panic later, and a relative path would be searched for elsewhere.
    let path = path.canonicalize().map_err(|error| {
        let path = path.display();
        load_error(format!(
            "ONNX Runtime is not at {path} ({error}): run `make setup`, which fetches it, or configure its library's path"
        ))
    })?;
    let mut made = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    match made.as_ref() {
        Some((used, environment)) if *used == path => return Ok(environment.clone()),
        Some((used, _)) => {
            let (used, path) = (used.display(), path.display());
            return Err(load_error(format!(
                "ONNX Runtime is already loaded from {used}; {path} needs a process of its own"
            )));
        }
        None => {}
    }
    forbid_telemetry();
    let builder = ort::init_from(&path).map_err(|error| {
        load_error(format!(
            "ONNX Runtime can't be loaded: {error}; `make setup` fetches the version that is needed"
        ))
    })?;
    // A node runner's machine must send no telemetry.
    let environment = builder.with_telemetry(false).build();
    let environment =
        environment.map_err(|error| load_error(format!("ONNX Runtime doesn't start: {error}")))?;
    *made = Some((path, environment.clone()));
    Ok(environment)
}

/// The variable by which ONNX Runtime's builds with telemetry send none. They read it as they are loaded.
const TELEMETRY_VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Sets [`TELEMETRY_VARIABLE`] before the library is loaded.
#[expect(unsafe_code, reason = "ONNX Runtime takes this from the environment alone")]
fn forbid_telemetry() {
    // SAFETY: the standard library's own accesses are synchronised with this one, and it happens once in a process, before
    // ONNX Runtime's threads exist. C code that reads the environment at this very moment in another thread is the risk that
    // remains; programs load their engine before they serve anything.
    unsafe { std::env::set_var(TELEMETRY_VARIABLE, "1") };
}

/// The part of ONNX Runtime's CUDA build that computes on a GPU. It is loaded from the folder of the library.
const CUDA_PART: &str = "libonnxruntime_providers_cuda.so";

/// Checks that the library is ONNX Runtime's CUDA build where CUDA is asked for, by the part that lies beside it, so that its lack is
/// told before anything is loaded. A library that isn't there is told of when it is loaded.
pub(super) fn check_build(device: Device, library_path: &Path) -> Result<(), EngineError> {
    let has_part = library_path.parent().is_some_and(|folder| folder.join(CUDA_PART).is_file());
    if device == Device::Cpu || has_part || !library_path.is_file() {
        return Ok(());
    }
    Err(load_error(format!(
        "engine.device=cuda needs the GPU build of ONNX Runtime, and {} is the CPU's: {CUDA_PART} isn't beside it. `python3 infra/gpu/parts.py \
         .runtime/onnxruntime-gpu` fetches that build with CUDA's libraries, and prints the path to give as engine.library \
         (--set engine.library=PATH); the folder must be in LD_LIBRARY_PATH too",
        library_path.display()
    )))
}

/// Makes a session of the file on the configured device. CUDA is required strictly: without it there is no session,
/// never a slow one on the CPU in its place.
pub(super) fn session(config: &OnnxConfig, file: &Path) -> Result<Session, EngineError> {
    let environment = environment(&config.library_path)?;
    build_session(&environment, config, file).map_err(|error| {
        let remedy = match config.device {
            Device::Cpu => "the model may need a newer ONNX Runtime, or be damaged",
            Device::Cuda => "CUDA needs the GPU build of ONNX Runtime, and CUDA's and cuDNN's libraries where the loader finds them",
        };
        load_error(format!("no session on {} for {}: {error}; {remedy}", config.device.word(), file.display()))
    })
}

fn build_session(environment: &Environment, config: &OnnxConfig, file: &Path) -> ort::Result<Session> {
    let mut builder = Session::builder(environment)?
        // What it warns of while it loads a model concerns those who export it, such as an optional input.
        .with_log_level(LogLevel::Error)?
        .with_intra_threads(config.threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(!config.shares_cores)?
        .with_deterministic_compute(true)?;
    if config.device == Device::Cuda {
        builder = builder.with_execution_providers([cuda().build().error_on_failure()])?;
    }
    builder.commit_from_file(file)
}

/// Returns CUDA with what makes its numbers depend on as little as possible: no TF32, which has fewer bits than the class says;
/// no choice of convolutions by a race between them, which two processes may decide differently.
fn cuda() -> ep::CUDA {
    ep::CUDA::default()
        .with_tf32(false)
        .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Default)
        // Growing by powers of two would take up to twice the memory that caches need.
        .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
}

/// Returns the library's version and the commit that it was built from, such as `1.31.1+6af1a93`, because a patched
/// build differs.
pub(super) fn version(library_path: &Path) -> Result<String, EngineError> {
    let whole = library_path.canonicalize().unwrap_or_else(|_| library_path.to_owned());
    let number = version_number(&whole).map_err(|error| {
        load_error(format!("{} does not report its version: {error}", library_path.display()))
    })?;
    let commit = ort::info().split("git-commit-id=").nth(1).and_then(|rest| rest.split([',', ' ']).next());
    Ok(commit.map_or(number.clone(), |commit| format!("{number}+{commit}")))
}

/// Calls the library's one exported function, which `ort` calls too but does not expose.
#[expect(
    unsafe_code,
    reason = "C functions can't be called otherwise; ONNX Runtime's header promises their types"
)]
fn version_number(library_path: &Path) -> Result<String, libloading::Error> {
    type GetApiBase = unsafe extern "system" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: the same file is loaded already, so no initialiser runs; the function's type is the header's; the base
    // it returns and the text are static and never null.
    unsafe {
        let library = libloading::Library::new(library_path)?;
        let base = library.get::<GetApiBase>(b"OrtGetApiBase\0")?();
        let text = ((*base).GetVersionString)();
        Ok(std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}

/// Returns the instruction set that decides which kernels ONNX Runtime uses on this CPU, the widest first.
#[cfg(target_arch = "x86_64")]
pub(super) fn instruction_set() -> String {
    let word = if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
        if is_x86_feature_detected!("avx512vnni") { "avx512vnni" } else { "avx512" }
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        if is_x86_feature_detected!("avxvnni") { "avxvnni" } else { "avx2" }
    } else if is_x86_feature_detected!("avx") {
        "avx"
    } else {
        "baseline"
    };
    format!("x86_64-{word}")
}

/// Returns the instruction set that decides which kernels ONNX Runtime uses on this CPU, the widest first.
#[cfg(target_arch = "aarch64")]
pub(super) fn instruction_set() -> String {
    use std::arch::is_aarch64_feature_detected;
    let word = if is_aarch64_feature_detected!("i8mm") {
        "i8mm"
    } else if is_aarch64_feature_detected!("dotprod") {
        "dotprod"
    } else {
        "baseline"
    };
    format!("aarch64-{word}")
}

/// Returns the instruction set that decides which kernels ONNX Runtime uses on this CPU.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn instruction_set() -> String {
    std::env::consts::ARCH.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_an_error_with_its_remedy() {
        let error =
            environment(Path::new("/nowhere/libonnxruntime.so")).expect_err("nothing there").to_string();
        assert!(error.contains("/nowhere/libonnxruntime.so") && error.contains("make setup"), "{error}");
    }

    #[test]
    fn a_library_without_its_part_for_cuda_is_told_of_where_cuda_is_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("libonnxruntime.so");
        assert!(check_build(Device::Cuda, &library).is_ok(), "its loading says that there is none");
        std::fs::write(&library, "").expect("written");
        let told = check_build(Device::Cuda, &library).expect_err("the CPU's").to_string();
        assert!(told.contains("GPU build") && told.contains("infra/gpu/parts.py"), "{told}");
        assert!(!told.contains("self_check"), "{told}");
        assert!(check_build(Device::Cpu, &library).is_ok());
        std::fs::write(folder.path().join(CUDA_PART), "").expect("written");
        assert!(check_build(Device::Cuda, &library).is_ok());
    }
}
