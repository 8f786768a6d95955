//! The devices that a model may run on, and the memory that is free there.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::settings;

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// `cpu`, or `cuda:0`.
    pub device: String,
    /// The GPU's model; nothing for the CPU.
    pub model: Option<String>,
    /// Its memory, in bytes.
    pub total_bytes: Option<u64>,
    /// What is free of it; none if the system doesn't say.
    pub free_bytes: Option<u64>,
}

/// How long NVIDIA's program may take; it takes a second where the driver has to wake up.
const SMI_WITHIN: Duration = Duration::from_secs(10);
/// The pause between looks whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Returns the bytes that are free now where an engine on `device` puts its model: on the first GPU, or in the machine's memory
/// within the container's limit. None if the system doesn't say.
#[must_use]
pub fn free_bytes(device: settings::Device) -> Option<u64> {
    match device {
        settings::Device::Cpu => cpu().free_bytes,
        settings::Device::Cuda => all().into_iter().find(|found| found.model.is_some())?.free_bytes,
    }
}

/// Returns the CPU and all of NVIDIA's GPUs.
#[must_use]
pub fn all() -> Vec<Device> {
    let mut devices = vec![cpu()];
    devices.extend(smi().iter().flat_map(|text| text.lines()).filter_map(gpu));
    devices
}

fn cpu() -> Device {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let (total, free) = (line(&text, "MemTotal:"), line(&text, "MemAvailable:"));
    let kibibytes = |value: Option<u64>| value.map(|value| value << 10);
    let (total, free) = (kibibytes(total), kibibytes(free));
    let limit = container();
    let least =
        |one: Option<u64>, other: Option<u64>| one.map(|one| other.map_or(one, |other| one.min(other)));
    Device {
        device: "cpu".to_owned(),
        model: None,
        total_bytes: least(total, limit.map(|limit| limit.0)),
        free_bytes: least(free, limit.map(|limit| limit.1)),
    }
}

/// Returns a container's limit and what is left of it, if there is one. What the kernel caches of files isn't in use.
fn container() -> Option<(u64, u64)> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let of = |limit: &str, used: &str, stat: &str, cached: &str| {
        let limit = number(limit)?;
        let cached = line(&fs::read_to_string(stat).unwrap_or_default(), cached).unwrap_or_default();
        Some((limit, limit.saturating_sub(number(used)?.saturating_sub(cached))))
    };
    let root = "/sys/fs/cgroup";
    of(
        &format!("{root}/memory.max"),
        &format!("{root}/memory.current"),
        &format!("{root}/memory.stat"),
        "inactive_file ",
    )
    .or_else(|| {
        let root = format!("{root}/memory");
        of(
            &format!("{root}/memory.limit_in_bytes"),
            &format!("{root}/memory.usage_in_bytes"),
            &format!("{root}/memory.stat"),
            "total_inactive_file ",
        )
    })
}

/// Returns the number behind `name` at a line's beginning.
fn line(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Asks NVIDIA's program; none where there is none, or where it hangs.
fn smi() -> Option<String> {
    let mut child = Command::new("nvidia-smi")
        .args(["--query-gpu=index,name,memory.total,memory.free", "--format=csv,noheader,nounits"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let until = Instant::now() + SMI_WITHIN;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break,
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK_AGAIN),
            _ => {
                // It may have ended by itself in between.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
    let mut text = String::new();
    child.stdout?.take(1 << 16).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Reads a line of its table, with memory in MiB.
fn gpu(line: &str) -> Option<Device> {
    let parts: Vec<&str> = line.split(',').map(str::trim).collect();
    let [index, model, total, free] = parts[..] else { return None };
    let bytes = |text: &str| text.parse::<u64>().ok().map(|mebibytes| mebibytes << 20);
    index.parse::<u32>().ok()?;
    Some(Device {
        device: format!("cuda:{index}"),
        model: Some(model.to_owned()),
        total_bytes: bytes(total),
        free_bytes: bytes(free),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_say_what_they_have() {
        let device = gpu("0, NVIDIA H200, 143771, 143000").expect("a line");
        assert_eq!((device.device.as_str(), device.model.as_deref()), ("cuda:0", Some("NVIDIA H200")));
        assert_eq!(device.free_bytes, Some(143_000 << 20));
        assert_eq!(gpu("0, NVIDIA, [N/A], [N/A]").expect("a line").free_bytes, None);
        assert_eq!(gpu("No devices were found"), None);
        assert_eq!(line("MemTotal:   8 kB\nMemAvailable:  5 kB\n", "MemAvailable:"), Some(5));
        assert_eq!(line("x", "MemTotal:"), None);
        if cfg!(target_os = "linux") {
            let cpu = cpu();
            assert!(
                cpu.free_bytes.is_some_and(|free| free > 0) && cpu.free_bytes <= cpu.total_bytes,
                "{cpu:?}"
            );
        }
    }
}
