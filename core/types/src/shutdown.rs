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

/// A token that the first SIGTERM or SIGINT cancels. The second ends the process at once, whatever is draining.
/// Call it once, early, within the runtime: from then on these signals no longer end the process by themselves.
///
/// # Errors
/// The operating system refuses to say when a signal comes.
pub fn on_signals() -> io::Result<Shutdown> {
    let shutdown = Shutdown::new();
    let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(listen(shutdown.clone(), terminate, interrupt));
    Ok(shutdown)
}

async fn listen(shutdown: Shutdown, mut terminate: Signal, mut interrupt: Signal) {
    next(&mut terminate, &mut interrupt).await;
    tracing::info!("stopping; a second signal stops at once");
    shutdown.cancel();
    let kind = next(&mut terminate, &mut interrupt).await;
    tracing::warn!("stopped by a second signal");
    exit(exit_status(kind));
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> SignalKind {
    tokio::select! {
        _ = terminate.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
    }
}
