//! What an operator sees of a role that runs: its logs, traces, metrics and readiness, started before it and ended after
//! it. What there is to see is the role's.

use std::sync::Arc;

use crate::{Config, Panel};
use infera_program::Failure;
use infera_telemetry::readiness::Watched;
use infera_telemetry::{self as telemetry, traces};

/// Logs that are written, metrics that are collected, and the addresses that show them.
pub struct Instruments {
    panel: Panel,
    traces: Option<traces::Traces>,
}

impl Instruments {
    /// Starts logs, and what else is configured, for the program called `service`. Before any part of it is made, and
    /// once in a process. Until [`Instruments::watch`] the program is shown as alive and not ready.
    ///
    /// # Errors
    /// Settings that can't be used, or an address that can't be had.
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

    /// Runs a role to its end while `watched` is shown, and sends what is left of its traces.
    pub async fn watch(self, watched: Arc<dyn Watched>, role: impl Future<Output = ()>) {
        self.panel.show(watched);
        role.await;
        self.panel.end().await;
        if let Some(traces) = self.traces {
            traces.end().await;
        }
    }
}
