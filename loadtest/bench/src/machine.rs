//! What the machine reports about itself and about processes: load, CPU time, memory. It reads `/proc`, so it works
//! on Linux only.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::Fault;

/// The rate at which Linux shows clock ticks to programs, whatever its own rate is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Returns facts by name, in the order of printing.
#[must_use]
pub fn describe() -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        ("when", said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])),
        ("CPU", field("/proc/cpuinfo", "model name").unwrap_or_default()),
        ("cores", cores.to_string()),
        ("memory", field("/proc/meminfo", "MemTotal").unwrap_or_default()),
        ("kernel", said("uname", &["-sr"])),
        ("rustc", said("rustc", &["--version"])),
        ("commit", said("git", &["describe", "--always", "--dirty"])),
        ("load at the start", format!("{:.1}", load())),
    ]
}

/// Returns the average number of processes that wanted a core in the last minute, this benchmark's own included; 0 if
/// it is unknown.
#[must_use]
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(|| "unknown".to_owned(), |text| String::from_utf8_lossy(&text).trim().to_owned())
}

/// Returns the first value under a name in a file of `name: value` lines.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Returns the resident memory of one process, in MiB.
///
/// # Errors
/// The process has ended.
pub fn resident_mib(pid: u32) -> Result<f64, Fault> {
    memory_mib(pid, "VmRSS")
}

/// Returns the largest resident memory that one process has had, in MiB.
///
/// # Errors
/// The process has ended.
pub fn peak_mib(pid: u32) -> Result<f64, Fault> {
    memory_mib(pid, "VmHWM")
}

fn memory_mib(pid: u32, name: &str) -> Result<f64, Fault> {
    let value = field(&format!("/proc/{pid}/status"), name).ok_or("a process has ended")?;
    Ok(value.split(' ').next().unwrap_or_default().parse::<f64>()? / 1024.0)
}

/// CPU time that the kernel counts for one process.
struct Times {
    parent: u32,
    own: f64,
    /// The time of children that have ended and were waited for.
    ended: f64,
}

/// Returns all present processes.
fn processes() -> HashMap<u32, Times> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, times(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect()
}

fn times(stat: &str) -> Option<Times> {
    // The name, in parentheses, may contain spaces; after it come state and parent, and the times as fields 14 to 17.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(Times {
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(11)? + ticks(12)?,
        ended: ticks(13)? + ticks(14)?,
    })
}

/// Returns the CPU time used up to now by these processes and all their descendants.
#[must_use]
pub fn cpu_time(roots: &[u32]) -> Duration {
    let all = processes();
    let is_under = |mut pid: u32| {
        // No chain of parents is longer than the number of processes.
        for _ in 0..all.len() {
            if roots.contains(&pid) {
                return true;
            }
            match all.get(&pid) {
                Some(times) if times.parent > 1 => pid = times.parent,
                _ => return false,
            }
        }
        false
    };
    let running = all.iter().filter(|(pid, _)| is_under(**pid)).map(|(_, times)| times.own);
    let ended = roots.iter().filter_map(|root| all.get(root)).map(|times| times.ended);
    Duration::from_secs_f64((running.sum::<f64>() + ended.sum::<f64>()) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "7 (a) b) S 3 7 7 0 -1 4194560 100 200 0 0 11 12 13 14 20 0 1 0 5 6 7";
        let times = times(stat).unwrap();
        assert_eq!((times.parent, times.own, times.ended), (3, 23.0, 27.0));
    }
}
