//! Shutdown is one token that means: stop accepting, drain with a deadline, then force. This module only makes the
//! token from the operating system's signals; each part decides what draining means.

use std::io;
use std::process::exit;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The token that every long-lived part is given. Once it is cancelled, the part stops accepting and drains.
pub type Shutdown = CancellationToken;

/// Returns the status that a shell reports for an interrupted program: 128 plus the signal's number, as if the signal
/// had not been caught.
const fn exit_status(kind: SignalKind) -> i32 {
    128 + kind.as_raw_value()
}

/// Returns a token that the first SIGTERM, SIGINT or SIGHUP (a closed terminal) cancels. A second SIGTERM or SIGINT
/// ends the process at once, whatever is draining. A second SIGHUP does not, because an ending shell sends one and
/// its terminal another. If the process was started with SIGHUP ignored (`nohup`), SIGHUP stays ignored. Call this
/// once, early, within the runtime: afterwards these signals no longer end the process by themselves.
///
/// # Errors
/// The operating system refuses to report signals.
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
    /// The stream of hangups; none if they are ignored.
    hangup: Option<Signal>,
}

impl Signals {
    /// Waits for the next signal of any kind.
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

    /// Waits for the next signal that is a demand to end, and returns its kind.
    async fn demand(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

/// Returns whether this process was started with SIGHUP ignored. Only Linux tells this without unsafe code; elsewhere
/// a hangup drains.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    // The lowest bit is signal 1.
    mask >> (SignalKind::hangup().as_raw_value() - 1) & 1 == 1
}
