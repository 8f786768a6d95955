//! A program as a process: it is started, waited for until it reports that it is ready, and asked to end. Its output
//! goes to a log of its own. Our programs are started with settings.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Fault, root};

/// How long a program may take until it is ready. LiteLLM imports for half a minute on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a drain may take.
const END_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A running program. It is killed if it is dropped before it has ended.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    began: Instant,
}

impl Process {
    /// Starts one of our programs under `name` with `settings` by their keys.
    ///
    /// # Errors
    /// The program cannot be run, or its log not be written.
    pub fn start(
        program: &Path,
        name: &str,
        settings: &[(&str, String)],
        logs: &Path,
    ) -> Result<Self, Fault> {
        Self::spawn(with_settings(Command::new(program), settings), name, logs)
    }

    /// Starts a program under `name`, in the repository's root.
    ///
    /// # Errors
    /// The program cannot be run, or its log not be written.
    pub fn spawn(mut command: Command, name: &str, logs: &Path) -> Result<Self, Fault> {
        std::fs::create_dir_all(logs)?;
        let log = File::options().create(true).append(true).open(logs.join(format!("{name}.log")))?;
        let began = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir(root())
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        Ok(Self { name: name.to_owned(), child, began })
    }

    /// Returns the process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `/readyz` at `address` reports ready, and returns the time since the start.
    ///
    /// # Errors
    /// The program ended, or took too long.
    pub async fn ready(&mut self, address: SocketAddr) -> Result<Duration, Fault> {
        self.wait_until(async || Ok(says_ready(address).await)).await?;
        Ok(self.began.elapsed())
    }

    /// Waits until an effect of the program can be seen.
    ///
    /// # Errors
    /// The program ended, or took too long, or looking failed.
    pub async fn wait_until(&mut self, is_seen: impl AsyncFn() -> Result<bool, Fault>) -> Result<(), Fault> {
        while !is_seen().await? {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{} ended with {status}: see its log", self.name).into());
            }
            if self.began.elapsed() > READY_WITHIN {
                return Err(format!("{} did not become ready: see its log", self.name).into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Asks the program to end, as a service manager would, and waits.
    ///
    /// # Errors
    /// The program did not end, or not without an error.
    pub async fn end(mut self) -> Result<(), Fault> {
        let asked = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status()?;
        let begun = Instant::now();
        while asked.success() && begun.elapsed() < END_WITHIN {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("{} ended with {status}", self.name).into()),
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
        Err(format!("{} did not end when it was asked to", self.name).into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that the program has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Adds settings to the start of one of our programs, whose log is kept to warnings.
#[must_use]
pub fn with_settings(mut command: Command, settings: &[(&str, String)]) -> Command {
    command.envs(variables(settings)).env("INFERA_LOG", "warn");
    command
}

/// Returns a gateway's settings under which every limit of a key is set and checked, and none is reached.
#[must_use]
pub fn generous() -> Vec<(&'static str, String)> {
    let counts = [
        "gateway.requests_per_minute",
        "gateway.tokens_per_minute",
        "gateway.looks_per_minute",
        "gateway.in_flight_max",
        "gateway.waiting_max",
    ];
    let bytes = ["gateway.account_stored_max_bytes", "gateway.stored_max_bytes"];
    let counts = counts.map(|limit| (limit, u32::MAX.to_string()));
    counts.into_iter().chain(bytes.map(|limit| (limit, i64::MAX.to_string()))).collect()
}

/// Returns settings as variables: they hold passwords, and other users cannot read an environment as they can a
/// command line.
fn variables(settings: &[(&str, String)]) -> impl Iterator<Item = (String, String)> {
    settings
        .iter()
        .map(|(key, value)| (format!("INFERA_{}", key.to_uppercase().replace('.', "__")), value.clone()))
}

/// Runs one of an operator's commands to its end.
///
/// # Errors
/// The command cannot be run, or ended with an error.
pub fn run(program: &Path, arguments: &[&str], settings: &[(&str, String)]) -> Result<(), Fault> {
    let done =
        Command::new(program).args(arguments).envs(variables(settings)).current_dir(root()).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("{} {arguments:?} ended with {}: {said}", program.display(), done.status).into())
}

async fn says_ready(address: SocketAddr) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.ok()?;
        Some(reply.starts_with(b"HTTP/1.1 200 "))
    };
    matches!(tokio::time::timeout(Duration::from_secs(5), asked).await, Ok(Some(true)))
}

/// Returns an address whose port is free now.
///
/// # Errors
/// No port is free.
pub fn free_address() -> Result<SocketAddr, Fault> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
