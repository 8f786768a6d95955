//! Shutdown is one token: stop accepting, drain with a deadline, then force. This only makes the token from the
//! operating system's signals; each part decides what draining means.

use std::io;
use std::process::exit;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The token that every long-lived part is given. Cancelled: stop accepting and drain.
pub type Shutdown = CancellationToken;

/// What a shell reports for a program that was interrupted: 128 and the signal's number, as if it had not been
/// caught.
const fn exit_status(kind: SignalKind) -> i32 {
    128 + kind.as_raw_value()
}

/// A token that the first SIGTERM, SIGINT or SIGHUP (a closed terminal) cancels. A second SIGTERM or SIGINT ends the
/// process at once, whatever is draining; a second SIGHUP doesn't, because a shell that ends sends one and the terminal
/// another. Where the process was started with SIGHUP ignored (`nohup`), it stays ignored.
/// Call it once, early, within the runtime: from then on these signals no longer end the process by themselves.
///
/// # Errors
/// The operating system refuses to say when a signal comes.
pub fn on_signals() -> io::Result<Shutdown> {
    let shutdown = Shutdown::new();
    let hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
    let signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup,
    };
    tokio::spawn(listen(shutdown.clone(), signals));
    Ok(shutdown)
}

async fn listen(shutdown: Shutdown, mut signals: Signals) {
    signals.first().await;
    tracing::info!("stopping; a second signal stops at once");
    shutdown.cancel();
    let kind = signals.demand().await;
    tracing::warn!("stopped by a second signal");
    exit(exit_status(kind));
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// None: hangups are ignored.
    hangup: Option<Signal>,
}

impl Signals {
    /// The next of all.
    async fn first(&mut self) {
        let Self { terminate, interrupt, hangup } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hung_up => {}
        }
    }

    /// The next that somebody meant.
    async fn demand(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

/// Whether this process was started to ignore SIGHUP. Only Linux says so without unsafe code; elsewhere a hangup drains.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    // The lowest bit is signal 1.
    mask >> (SignalKind::hangup().as_raw_value() - 1) & 1 == 1
}
