//! The engines that take part, each a process of its own, as the file of `infra/peers` says.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use infera_bench::process::{Process, free_address};
use infera_bench::{Fault, root};
use serde::Deserialize;
use tokio::sync::mpsc::UnboundedSender;

use crate::jobs::{Event, Job};
use crate::observed::Profile;
use crate::piped::{Piped, log_name};
use crate::settings::Settings;
use crate::streamed;

/// How long one answer may take; after that something is broken.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);
/// Our variants, and what is to be known of each.
const OURS: [(&str, &str); 2] = [
    (
        "q4",
        "4-bit weights quantised again from the GGUF's (MatMulNBits, zero points), 8-bit embedding, fp32 caches",
    ),
    ("int8", "8-bit weights made of the GGUF's, 8-bit embedding, fp32 caches"),
];

/// The file that `infra/peers` writes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    peers: Vec<Peer>,
    /// What is left out, and why.
    missing: Vec<String>,
    /// What else there is to know of our graphs, such as the shares of its operators.
    notes: Vec<String>,
}

/// Another engine, as it is started.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    name: String,
    /// Version, quantisation and what else differs.
    about: String,
    way: Way,
    /// Whether it takes part in (a) of the first round alone: it is slower than another one of its kind.
    once: bool,
    /// `{port}` stands for a port of loopback, `{threads}` for the number of threads.
    command: Vec<String>,
}

/// How an engine is asked.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    /// llama.cpp's server, at the port it was given.
    Http,
    /// Lines on standard input and output.
    Pipe,
}

/// A running engine.
pub(crate) struct Side {
    name: String,
    about: String,
    ends: Ends,
    once: bool,
    /// The same engine of ours without the worker around it.
    pub(crate) bare: Option<Piped>,
}

enum Ends {
    Http(std::net::SocketAddr, Process),
    Pipe(Piped),
}

/// All engines that take part.
pub(crate) struct Sides {
    /// Ours first.
    pub(crate) all: Vec<Side>,
    /// What is left out, and why.
    pub(crate) missing: Vec<String>,
    pub(crate) notes: Vec<String>,
}

impl Sides {
    /// Starts our variants and everything in the peers' file.
    pub(crate) async fn start(settings: &Settings) -> Result<Self, Fault> {
        let text = std::fs::read_to_string(settings.peers()).map_err(|error| {
            format!("{}: {error}: infra/bench_models.sh writes it", settings.peers().display())
        })?;
        let found: Found = serde_json::from_str(&text)?;
        let mut all = Vec::new();
        for (variant, about) in OURS {
            let name = format!("ours {variant}");
            let ends = Ends::Pipe(Piped::start(own(settings, variant, false)?, &name, settings.logs())?);
            let bare =
                Piped::start(own(settings, variant, true)?, &format!("{name}, bare"), settings.logs())?;
            all.push(Side { name, about: about.to_owned(), ends, once: false, bare: Some(bare) });
        }
        let mut missing = found.missing;
        for peer in found.peers {
            let name = peer.name.clone();
            // One peer that doesn't start must not cost the figures of the others, and is not left out in silence.
            match Side::start(settings, peer).await {
                Ok(side) => all.push(side),
                Err(error) => missing.push(format!("{name} is left out: {error}")),
            }
        }
        Ok(Self { all, missing, notes: found.notes })
    }
}

impl Side {
    async fn start(settings: &Settings, peer: Peer) -> Result<Self, Fault> {
        let address = free_address()?;
        let filled = |word: &String| {
            word.replace("{port}", &address.port().to_string())
                .replace("{threads}", &settings.threads().to_string())
        };
        let mut words = peer.command.iter().map(filled);
        let mut command = Command::new(words.next().ok_or("a peer without a command")?);
        command.args(words);
        let ends = match peer.way {
            Way::Pipe => Ends::Pipe(Piped::start(command, &peer.name, settings.logs())?),
            Way::Http => {
                let mut process = Process::spawn(command, &log_name(&peer.name), settings.logs())?;
                process.wait_until(async || Ok(streamed::is_ready(address).await)).await?;
                Ends::Http(address, process)
            }
        };
        let side = Self { name: peer.name, about: peer.about, ends, once: peer.once, bare: None };
        // The first answer of some compiles or loads what is needed for it.
        let (events, _seen) = tokio::sync::mpsc::unbounded_channel();
        side.ask(0, &Job::mixed(0, settings.pace()), &events).await?;
        Ok(side)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn about(&self) -> &str {
        &self.about
    }

    pub(crate) const fn takes_part(&self, round: usize) -> bool {
        round == 0 || !self.once
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.bare.is_some()
    }

    pub(crate) fn pid(&self) -> u32 {
        match &self.ends {
            Ends::Http(_, process) => process.pid(),
            Ends::Pipe(piped) => piped.pid(),
        }
    }

    /// Asks for an answer, tells of each of its tokens and waits for the last. It is an error if there are more or fewer
    /// tokens than were asked for.
    pub(crate) async fn ask(
        &self,
        number: usize,
        job: &Job,
        events: &UnboundedSender<Event>,
    ) -> Result<(), Fault> {
        let answered = async {
            match &self.ends {
                Ends::Http(address, _) => streamed::ask(*address, number, job, events).await,
                Ends::Pipe(piped) => piped.ask(number, job, events).await,
            }
        };
        let answered = tokio::time::timeout(ANSWER_WITHIN, answered).await;
        answered
            .unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_WITHIN.as_secs()).into()))
            .map_err(|error| format!("{}: {error}", self.name).into())
    }

    /// Returns what our side counted since the last call; none of the others.
    pub(crate) async fn profile(&self) -> Result<Option<Profile>, Fault> {
        match &self.ends {
            Ends::Pipe(piped) if self.is_ours() => Ok(Some(piped.profile().await?)),
            _ => Ok(None),
        }
    }
}

/// Returns the command that starts this program as one of our sides.
fn own(settings: &Settings, variant: &str, is_bare: bool) -> Result<Command, Fault> {
    let absolute = |path: &Path| if path.is_absolute() { path.to_owned() } else { root().join(path) };
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--serve", variant, "--threads", &settings.threads().to_string()]);
    command.arg("--model").arg(absolute(settings.model())).arg("--peers").arg(settings.peers());
    command.arg("--logs").arg(settings.logs()).arg("--json").arg(settings.json());
    command.args(settings.chunk_tokens().map(|tokens| format!("--chunk-tokens={tokens}")));
    command.args(is_bare.then_some("--bare"));
    Ok(command)
}
