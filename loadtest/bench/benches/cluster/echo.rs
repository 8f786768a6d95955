//! A bare echo of a job's messages through RabbitMQ, with the ledger's commits in between and nothing else: notice,
//! three assignments, three replicas, completion, each as long as a real one and confirmed; accept, mark, take,
//! settle, post. Nothing is parsed, drawn, decoded, compared or scored, no HTTP is spoken, and nothing is swept,
//! folded or archived. The programs are measured against this limit. So the echo has as many parts as there are
//! programs, and each part is a process, so that what passes between two programs passes between two processes here
//! too.
//!
//! The parts are this benchmark's own program, started again with its part in [`PART`].

mod gateway;
mod node;
pub(crate) mod queues;
mod verifier;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use infera_types::ids::AccountId;
use lapin::message::Delivery;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use self::queues::Queues;
use crate::publisher::connect;
use infera_bench::Fault;
use infera_bench::measure::as_f64;

/// The variable that makes this program a part. Other users cannot read an environment as they can a command line,
/// and it holds passwords.
const PART: &str = "INFERA_BENCH_ECHO_PART";

/// The replicas that make an answer, and their whole number.
const QUORUM: usize = 2;
const REPLICAS: usize = 3;

/// What a part prints first, once it is at work.
const READY: &str = "ready";

/// What an echo consists of.
pub(crate) struct Echo {
    pub(crate) broker: String,
    pub(crate) database: String,
    pub(crate) gateways: usize,
    pub(crate) verifiers: usize,
    pub(crate) nodes: usize,
}

/// The kind of a part, with its number among parts of that kind.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Role {
    /// A gateway with this many clients, each of which asks one job after the other.
    Gateway {
        index: usize,
        clients: usize,
        warm_up: Duration,
        span: Duration,
    },
    Verifier {
        index: usize,
    },
    Node {
        index: usize,
    },
}

/// The description of one part, as its process is given it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    role: Role,
    broker: String,
    database: String,
    account: AccountId,
    nodes: usize,
}

impl Part {
    /// Returns the part that this process is; none if it is the benchmark itself.
    pub(crate) fn told() -> Result<Option<Self>, Fault> {
        Ok(std::env::var(PART).ok().map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// Makes a runtime like that of the program that the part stands for.
    pub(crate) fn runtime(&self) -> std::io::Result<Runtime> {
        let mut builder = match self.role {
            Role::Node { .. } => Builder::new_current_thread(),
            Role::Gateway { .. } | Role::Verifier { .. } => Builder::new_multi_thread(),
        };
        builder.enable_all().build()
    }

    /// Works until the process is ended, by the benchmark or together with it.
    pub(crate) async fn act(self) -> Result<(), Fault> {
        std::thread::spawn(|| {
            // The benchmark writes nothing; reading ends when the benchmark closes the pipe.
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(1);
        });
        match self.role {
            Role::Gateway { .. } => gateway::run(&self).await,
            Role::Verifier { index } => verifier::run(&self, index).await,
            Role::Node { index } => node::run(&self, index).await,
        }
    }
}

/// Tells the benchmark that this part is at work.
fn say(line: &str) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// A running part. It is killed when it is dropped, because what it holds belongs to the echo alone.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(part: &Part) -> Result<Self, Fault> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(PART, serde_json::to_string(part)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("a part has no output")?);
        Ok(Self { child, lines })
    }

    /// Returns the part's next line; errors are on its standard error.
    fn line(&mut self) -> Result<String, Fault> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        if line.is_empty() {
            return Err(format!("a part of the echo ended with {}", self.child.wait()?).into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn wait_until_ready(&mut self) -> Result<(), Fault> {
        let said = self.line()?;
        if said == READY { Ok(()) } else { Err(format!("a part of the echo said {said:?}").into()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that the part has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Echo {
    /// Returns how many jobs end per second, with `in_flight` jobs on the way at once. `at_work` is called when all
    /// parts are ready, and again when the clients have ended and all parts still run, to see what they have used.
    pub(crate) async fn run(
        &self,
        in_flight: usize,
        (warm_up, span): (Duration, Duration),
        mut at_work: impl FnMut(),
    ) -> Result<f64, Fault> {
        let connection = connect(&self.broker).await?;
        Queues::over(connection).declare_shared(self.nodes).await?;
        let account = AccountId::fresh();
        let part = |role| Part {
            role,
            broker: self.broker.clone(),
            database: self.database.clone(),
            account: account.clone(),
            nodes: self.nodes,
        };
        let verifiers = (0..self.verifiers).map(|index| part(Role::Verifier { index }));
        let nodes = (0..self.nodes).map(|index| part(Role::Node { index }));
        let clients = in_flight / self.gateways;
        let gateways: Vec<Part> =
            (0..self.gateways).map(|index| part(Role::Gateway { index, clients, warm_up, span })).collect();
        let others: Vec<Part> = verifiers.chain(nodes).collect();
        let begin = tokio::task::spawn_blocking(move || {
            let mut others = others.iter().map(Running::start).collect::<Result<Vec<_>, _>>()?;
            for other in &mut others {
                other.wait_until_ready()?;
            }
            let mut gateways = gateways.iter().map(Running::start).collect::<Result<Vec<_>, _>>()?;
            for gateway in &mut gateways {
                gateway.wait_until_ready()?;
            }
            Ok::<_, Fault>((others, gateways))
        });
        let (others, mut gateways) = begin.await??;
        at_work();
        let count = tokio::task::spawn_blocking(move || {
            let mut count: usize = 0;
            for gateway in &mut gateways {
                count += gateway.line()?.parse::<usize>()?;
            }
            // The parts still run, so that what they have used can be read.
            Ok::<_, Fault>((count, gateways))
        });
        let (count, gateways) = count.await??;
        at_work();
        drop((others, gateways));
        Ok(as_f64(count) / span.as_secs_f64())
    }
}

fn message_id(delivery: &Delivery) -> Result<&str, Fault> {
    let id = delivery.properties.message_id().as_ref();
    Ok(id.ok_or("a message without an id")?.as_str())
}
