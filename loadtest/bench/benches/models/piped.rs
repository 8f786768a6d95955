//! An engine that is asked in lines on its standard input, and whose lines of output each are the number of a request that
//! got a token. A thread of its own reads them, so that a token's time is when it came.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use infera_bench::{Fault, root};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::jobs::{Event, Job};
use crate::observed::Profile;

/// How long an engine may load.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A running child. It is killed when it is dropped.
pub(crate) struct Piped {
    child: Child,
    input: Mutex<Input>,
    routes: Routes,
    /// Lines that are no token's.
    said: tokio::sync::Mutex<tokio::sync::mpsc::UnboundedReceiver<String>>,
}

/// The children's input, and the number of the last request.
struct Input {
    pipe: ChildStdin,
    last: u64,
}

/// Where the tokens of each request go.
type Routes = Arc<Mutex<HashMap<u64, Route>>>;

struct Route {
    job: usize,
    left: usize,
    events: UnboundedSender<Event>,
    done: oneshot::Sender<()>,
}

impl Piped {
    /// Starts a child and waits until it says that it is ready.
    pub(crate) fn start(mut command: Command, name: &str, logs: &Path) -> Result<Self, Fault> {
        std::fs::create_dir_all(logs)?;
        let log = logs.join(format!("{}.log", log_name(name)));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .current_dir(root())
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let (input, output) = child.stdin.take().zip(child.stdout.take()).ok_or("a child without pipes")?;
        let (said, others) = unbounded_channel();
        let (ready, is_ready) = mpsc::channel();
        let routes = Routes::default();
        let reading = Reading { routes: routes.clone(), ready, said };
        std::thread::Builder::new().name("tokens".to_owned()).spawn(move || reading.read(output))?;
        let input = Mutex::new(Input { pipe: input, last: 0 });
        let piped = Self { child, input, routes, said: tokio::sync::Mutex::new(others) };
        let failed = || format!("{name} did not become ready: {} says why", log.display());
        is_ready.recv_timeout(READY_WITHIN).map_err(|_| failed())?;
        Ok(piped)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) async fn ask(
        &self,
        job_number: usize,
        job: &Job,
        events: &UnboundedSender<Event>,
    ) -> Result<(), Fault> {
        let (done, is_done) = oneshot::channel();
        {
            // Requests are written in the order of their numbers.
            let mut input = locked(&self.input);
            input.last += 1;
            let id = input.last;
            let route = Route { job: job_number, left: job.tokens, events: events.clone(), done };
            locked(&self.routes).insert(id, route);
            let line = json!({ "id": id, "prompt": job.prompt, "tokens": job.tokens });
            writeln!(input.pipe, "{line}")?;
        }
        is_done.await.map_err(|_| "its process failed: see its log".into())
    }

    /// Returns what was counted since the last call.
    pub(crate) async fn profile(&self) -> Result<Profile, Fault> {
        Ok(serde_json::from_str(&self.exchange(&json!({ "profile": true })).await?)?)
    }

    /// Returns tokens per second of bare steps.
    pub(crate) async fn steps(&self, batch: usize, span: Duration) -> Result<f64, Fault> {
        let ms = u64::try_from(span.as_millis())?;
        Ok(self.exchange(&json!({ "steps": batch, "ms": ms })).await?.trim().parse()?)
    }

    async fn exchange(&self, asked: &serde_json::Value) -> Result<String, Fault> {
        let mut said = self.said.lock().await;
        writeln!(locked(&self.input).pipe, "{asked}")?;
        said.recv().await.ok_or_else(|| "a child of ours ended: see its log".into())
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // An error means that the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the reading thread needs.
struct Reading {
    routes: Routes,
    ready: mpsc::Sender<()>,
    said: UnboundedSender<String>,
}

impl Reading {
    /// Reads until the child ends or says something else than it may. Then whatever waits fails.
    fn read(self, output: ChildStdout) {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let at = Instant::now();
            let goes_on = match line.parse::<u64>() {
                // Steps answer with a rate, which may be whole; their children have no requests.
                Ok(id) if self.token(id, at) => true,
                _ if line == "ready" => self.ready.send(()).is_ok(),
                _ if line.starts_with("failed") || line.parse::<u64>().is_ok() => {
                    // An error means that nobody reads the benchmark's output.
                    let _ = infera_program::print(&format!("bench-models: an engine said: {line}"));
                    false
                }
                _ => self.said.send(line).is_ok(),
            };
            if !goes_on {
                break;
            }
        }
        locked(&self.routes).clear();
    }

    /// Notes a token; false if no such request waits for one.
    fn token(&self, id: u64, at: Instant) -> bool {
        let mut routes = locked(&self.routes);
        let Some(route) = routes.get_mut(&id) else { return false };
        // The receiver is gone only if the whole run is ending, or for an answer that nobody counts.
        let _ = route.events.send(Event { job: route.job, at });
        route.left -= 1;
        if route.left == 0
            && let Some(route) = routes.remove(&id)
        {
            let _ = route.done.send(());
        }
        true
    }
}

/// Returns a name as a file's.
pub(crate) fn log_name(name: &str) -> String {
    name.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '-' }).collect()
}
