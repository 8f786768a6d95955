//! Describes the machine that the figures were measured on. Unknown facts are shown as unknown.

use std::fs;
use std::process::Command;

use crate::model::onnx_config;
use crate::settings::Settings;

/// Returns facts by name, in the order of printing.
pub(crate) fn describe(settings: &Settings) -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().map_or_else(|_| unknown(), |cores| cores.to_string());
    let pace = settings.pace();
    vec![
        ("when", said("date", "-u +%Y-%m-%dT%H:%M:%SZ")),
        ("CPU", field("/proc/cpuinfo", "model name").unwrap_or_else(unknown)),
        ("cores", cores),
        ("memory", memory().unwrap_or_else(unknown)),
        ("kernel", fs::read_to_string("/proc/version").map_or_else(|_| unknown(), |text| words(&text, 3))),
        ("rustc", said("rustc", "--version")),
        ("ONNX Runtime", library(settings)),
        ("commit", said("git", "describe --always --dirty")),
        ("rounds", format!("{} of {:.1} s", pace.rounds, pace.span.as_secs_f64())),
        ("load at the start", load()),
    ]
}

/// Returns the average number of processes that wanted a core in the last minute: above the number of cores, others
/// took part of them.
pub(crate) fn load() -> String {
    fs::read_to_string("/proc/loadavg").map_or_else(|_| unknown(), |text| words(&text, 1))
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn words(text: &str, count: usize) -> String {
    text.split_whitespace().take(count).collect::<Vec<_>>().join(" ")
}

/// Returns the first value under a name in a file of `name: value` lines.
pub(crate) fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory() -> Option<String> {
    let kibibytes: u64 = field("/proc/meminfo", "MemTotal")?.split(' ').next()?.parse().ok()?;
    Some(format!("{} GiB", (kibibytes + (1 << 19)) >> 20))
}

fn said(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(unknown, |text| String::from_utf8_lossy(&text).trim().to_owned())
}

/// Returns ONNX Runtime's version, which is in the library's name.
fn library(settings: &Settings) -> String {
    let path = onnx_config(&settings.models()[0].0, 1).library_path;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.trim_start_matches("libonnxruntime.").trim_start_matches("so.").trim_end_matches(".dylib").to_owned()
}
