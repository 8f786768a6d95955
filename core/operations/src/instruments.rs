//! Lets an operator see a running role: its logs, traces, metrics and readiness are started before it and ended after
//! it. The role itself provides the content.

use std::sync::Arc;

use crate::{Config, Panel};
use infera_program::Failure;
use infera_telemetry::readiness::Watched;
use infera_telemetry::{self as telemetry, traces};

/// A process's logs, its collected metrics, and the addresses that show them.
pub struct Instruments {
    panel: Panel,
    traces: Option<traces::Traces>,
}

impl Instruments {
    /// Starts logs, and whatever else is configured, for the program called `service`. Call it once in a process,
    /// before any part of the program is made. Until [`Instruments::watch`] is called, the program shows itself as
    /// alive and not ready.
    ///
    /// # Errors
    /// A setting that cannot be used, or an address that cannot be listened on.
    pub async fn start(
        service: &'static str,
        log: &telemetry::Config,
        traces: &traces::Config,
        operations: &Config,
    ) -> Result<Self, Failure> {
        let traces = telemetry::start_traced(log, traces, service).map_err(Failure::settings)?;
        let panel = Panel::open(operations).await.map_err(Failure::refused)?;
        Ok(Self { panel, traces })
    }

    /// Runs a role to its end while `watched` is shown, then sends the remaining traces.
    pub async fn watch(self, watched: Arc<dyn Watched>, role: impl Future<Output = ()>) {
        self.panel.show(watched);
        role.await;
        self.panel.end().await;
        if let Some(traces) = self.traces {
            traces.end().await;
        }
    }
}
