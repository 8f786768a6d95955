//! A program's operations server in three calls: it is opened before anything else, given the role once that is made,
//! and ended last. `operations` itself decides what is shown and served.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::{Config, Metrics, Operations, OperationsError};
use infera_telemetry::readiness::{Condition, Readiness, Watched};
use infera_types::shutdown::Shutdown;

/// The role to show; until it is set, the program is alive and not ready.
#[derive(Default)]
struct Role(OnceLock<Arc<dyn Watched>>);

#[async_trait]
impl Watched for Role {
    fn observe(&self) {
        if let Some(role) = self.0.get() {
            role.observe();
        }
    }

    async fn readiness(&self) -> Readiness {
        match self.0.get() {
            Some(role) => role.readiness().await,
            None => Readiness::new([("started", Condition::Failing)]),
        }
    }
}

/// The operations server of one program; see the module.
pub struct Panel {
    role: Arc<Role>,
    end: Shutdown,
    /// The address on which it listens; none if the configuration names none, and then nothing is collected either.
    pub address: Option<SocketAddr>,
    serving: Option<JoinHandle<()>>,
}

impl Panel {
    /// Collects metrics and serves from now on, if the configuration names an address. Call it before any part is
    /// made.
    ///
    /// # Errors
    /// [`OperationsError`].
    pub async fn open(config: &Config) -> Result<Self, OperationsError> {
        let mut panel = Self { role: Arc::default(), end: Shutdown::new(), address: None, serving: None };
        if config.listen.is_none() {
            return Ok(panel);
        }
        let metrics = Metrics::install()?;
        if let Some(operations) = Operations::bind(config, &metrics).await? {
            panel.address = operations.address().ok();
            let role = Arc::clone(&panel.role) as Arc<dyn Watched>;
            panel.serving = Some(tokio::spawn(operations.serve(role, panel.end.clone())));
        }
        Ok(panel)
    }

    /// Shows this role from now on. A second call has no effect.
    pub fn show(&self, role: Arc<dyn Watched>) {
        let _ = self.role.0.set(role);
    }

    /// Stops serving. Call it after the role's drain, which operators want to watch.
    pub async fn end(self) {
        self.end.cancel();
        if let Some(serving) = self.serving
            && let Err(panic) = serving.await
        {
            tracing::error!(%panic, "the operations server panicked");
        }
    }
}
