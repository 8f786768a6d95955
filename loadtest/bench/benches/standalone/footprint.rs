//! Section (e): `infera up` from outside, as a newcomer runs it: the release build, the bundled model, three nodes.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::machine::field;
use crate::settings::Settings;
use infera_bench::report::{Row, Section};
use infera_bench::{Fault, root};

/// What `infera up` prints when it is ready.
const READY: &str = "Infera is ready";
/// How long the program may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a drain may take; with nothing to drain it takes seconds.
const END_WITHIN: Duration = Duration::from_secs(60);

pub(crate) fn measure(settings: &Settings, _: &Runtime) -> Result<Section, Fault> {
    let pace = settings.pace();
    let (mut fresh, mut again, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pace.rounds {
        let folder = settings.scratch()?;
        let first = Running::start(settings.infera(), folder.path())?;
        fresh.push(first.ready.as_secs_f64());
        thread::sleep(pace.idle);
        memory.extend(first.resident_mib());
        first.end()?;
        let second = Running::start(settings.infera(), folder.path())?;
        again.push(second.ready.as_secs_f64());
        second.end()?;
    }
    let mut rows = vec![
        Row::new("exec to ready, new data folder", "s", fresh),
        Row::new("exec to ready, data folder of an earlier start", "s", again),
    ];
    if !memory.is_empty() {
        let name = format!("resident memory, idle, {:.1} s after ready", pace.idle.as_secs_f64());
        rows.push(Row::new(name, "MiB", memory));
    }
    Ok(Section {
        title: "(e) footprint: infera up, release build, infera-tiny, three nodes".to_owned(),
        rows,
        notes: vec![
            "Three engines: each resident node loads the model and has ONNX Runtime's buffers of its own."
                .to_owned(),
        ],
    })
}

/// A process that is ready. It is killed if it is dropped before it has ended.
struct Running {
    child: Child,
    ready: Duration,
}

impl Running {
    fn start(infera: &Path, data: &Path) -> Result<Self, Fault> {
        let begun = Instant::now();
        let mut child = Command::new(infera)
            .args(["up", "--set", "listen=127.0.0.1:0", "--set", "log.filter=warn", "--data"])
            .arg(data)
            .current_dir(root())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", infera.display()))?;
        let output = child.stdout.take().ok_or("no output of the process")?;
        let mut running = Self { child, ready: Duration::MAX };
        let (said, waits) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.starts_with(READY) {
                    // The send fails if the line came too late.
                    let _ = said.send(Instant::now());
                }
            }
        });
        let ready = waits.recv_timeout(READY_WITHIN).map_err(|_| "infera up did not become ready")?;
        running.ready = ready - begun;
        Ok(running)
    }

    fn resident_mib(&self) -> Option<f64> {
        let value = field(&format!("/proc/{}/status", self.child.id()), "VmRSS")?;
        Some(value.split(' ').next()?.parse::<f64>().ok()? / 1024.0)
    }

    /// Asks the process to end, as a service manager would, and waits.
    fn end(mut self) -> Result<(), Fault> {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let begun = Instant::now();
        while asked.success() && begun.elapsed() < END_WITHIN {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("infera up ended with {status}").into()),
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
        Err("infera up did not end when it was asked to".into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
