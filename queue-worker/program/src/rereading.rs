//! Reads the settings again when the runner asks for it by the signal USR1, so that models come and go without a restart. HUP
//! doesn't mean that here: it tells of a closed terminal, and drains every program of this network.

use std::{fmt, io};

use infera_engine_onnx::config::EngineConfig;
use infera_program::config::ConfigErrors;
use infera_types::shutdown::Shutdown;
use infera_worker::WorkerHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::serving::{Admission, Served};

/// Reads the engine's settings from where they came from at the start.
type Source = Box<dyn Fn() -> Result<EngineConfig, ConfigErrors> + Send>;

/// The runner's requests to read the settings again.
pub struct Rereading {
    source: Source,
    requests: Signal,
}

impl fmt::Debug for Rereading {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rereading").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl Rereading {
    /// Listens for the signal from now on, and reads the settings from `source` at each. Within the runtime only.
    ///
    /// # Errors
    /// The operating system refuses to report signals.
    pub fn on_signal(
        source: impl Fn() -> Result<EngineConfig, ConfigErrors> + Send + 'static,
    ) -> io::Result<Self> {
        Ok(Self { source: Box::new(source), requests: signal(SignalKind::user_defined1())? })
    }

    /// Returns the settings after the next request for which they can be used. Others are logged, and change nothing.
    async fn next(&mut self) -> EngineConfig {
        loop {
            // The stream never ends. Requests that come together are one.
            self.requests.recv().await;
            match (self.source)() {
                Ok(config) => return config,
                Err(error) => tracing::error!(%error, "the settings can't be used; nothing has changed"),
            }
        }
    }
}

/// Has `worker` serve the models of the settings whenever they are read again, until `shutdown`. Without `rereading` it returns
/// at once.
pub async fn follow(
    rereading: Option<&mut Rereading>,
    admission: Admission,
    served: &mut Served,
    worker: &WorkerHandle,
    shutdown: &Shutdown,
) {
    let Some(rereading) = rereading else { return };
    let following = async {
        loop {
            let config = rereading.next().await;
            match admission.admit(&config) {
                Ok(wanted) => served.change(&wanted, worker).await,
                Err(error) => tracing::error!(%error, "the models can't be served; nothing has changed"),
            }
        }
    };
    tokio::select! {
        () = following => {}
        () = shutdown.cancelled() => {}
    }
}
