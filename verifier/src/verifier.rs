//! Assembles a verifier from settings and seams, and runs it one tenure after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use infera_model::chat::ChatModel;
use infera_model::chat_source::ChatSource;
use infera_types::ids::ModelName;
use infera_types::shutdown::Shutdown;
use tokio::time::Instant;

use crate::config::Config;
use crate::decisions::thresholds::Thresholds;
use crate::error::VerifierError;
use crate::nodes::NodeTable;
use crate::run::{self, TenureEnd};
use crate::seams::{Gate, Seams};
use crate::tenure::{Chats, Counters, Lasting, Tenure, VerifierHandle};

/// How long after a tenure that lost its lease or a task the next begins: most often the ledger was away for many seconds, and
/// a second more costs little.
const NEXT_TENURE: Duration = Duration::from_secs(1);

/// A verifier, ready to run.
pub struct Verifier {
    lasting: Lasting,
    /// Nodes' connections to the broker, where this verifier looks after them.
    gate: Option<Gate>,
}

impl Verifier {
    /// Makes a verifier for the models of the catalogue whose tokenizers are among `chats`, by catalogue name, or can be
    /// [found](Verifier::finding). Nothing happens before [`Verifier::run`].
    ///
    /// # Errors
    /// [`VerifierError`] says which settings are wrong.
    pub fn new(
        config: Config,
        seams: Seams,
        chats: HashMap<ModelName, Arc<ChatModel>>,
    ) -> Result<Self, VerifierError> {
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(VerifierError::Config(mistakes));
        }
        let lasting = Lasting {
            thresholds: Arc::new(Thresholds::committed()?),
            nodes: Arc::new(NodeTable::new(config.silence_max(), config.nodes_max)),
            began: Instant::now(),
            config: Arc::new(config),
            seams,
            chats: Arc::new(Chats::new(chats)),
            chat_source: None,
            counters: Arc::default(),
            vitals: Arc::default(),
            has_nodes_inside: false,
        };
        Ok(Self { lasting, gate: None })
    }

    /// Makes this verifier find the tokenizers of models that come into the catalogue while it runs.
    #[must_use]
    pub fn finding(self, source: Arc<dyn ChatSource>) -> Self {
        Self { lasting: Lasting { chat_source: Some(source), ..self.lasting }, ..self }
    }

    /// Makes this verifier look after nodes' connections to the broker as well.
    #[must_use]
    pub fn guarding(self, gate: Gate) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// Tells this verifier that nodes run in its process: what ends them ends it, so a job that may do so is tried alone up
    /// to its end, and not only until its nodes are asked.
    #[must_use]
    pub fn beside_nodes(self) -> Self {
        Self { lasting: Lasting { has_nodes_inside: true, ..self.lasting }, ..self }
    }

    /// Returns the counts of what happened, which stay readable while it runs.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.lasting.counters)
    }

    /// Returns what shows operators how it is doing; it stays good when [`Verifier::run`] has taken the verifier.
    #[must_use]
    pub fn handle(&self) -> VerifierHandle {
        let thresholds = self.lasting.thresholds.version().to_owned();
        VerifierHandle { vitals: Arc::clone(&self.lasting.vitals), counters: self.counters(), thresholds }
    }

    /// Owns jobs until `shutdown`, then drains. A lost lease, or a task that breaks, ends everything in hand; then it
    /// begins again under another id, for as long as it takes.
    pub async fn run(self, shutdown: Shutdown) {
        loop {
            let tenure = Arc::new(Tenure::new(&self.lasting));
            match run::run(&tenure, self.gate.as_ref(), &shutdown).await {
                TenureEnd::Shutdown => return,
                TenureEnd::LeaseLost | TenureEnd::TaskLost => tokio::time::sleep(NEXT_TENURE).await,
            }
        }
    }
}
