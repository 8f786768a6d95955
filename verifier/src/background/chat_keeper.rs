//! Keeps tokenizers and templates in step with the catalogue: finds those of added models, and drops those that no job needs any
//! more. A model whose text side isn't found is named in the log once, and looked for again; its jobs wait, and other models go on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use infera_ledger::CatalogueEntry;
use infera_model::chat_source::ChatSource;
use infera_types::ids::{Digest, ModelName};
use infera_types::time::Timestamp;
use tokio::time::Instant;

use crate::config::Config;
use crate::nodes::LedgerView;
use crate::tenure::{Chats, SEARCH_RETRY, Vitals};

/// How long the text side of a removed model is kept. Its jobs were accepted before and end by their deadlines, which are an
/// hour away by default; what comes after that has no job left.
const KEPT_AFTER_REMOVAL: Duration = Duration::from_secs(48 * 60 * 60);

/// The searches at once: each reads files of some MiB, and one that waits for an archive must not keep the others waiting.
const AT_ONCE: usize = 4;

/// What the task needs.
pub(crate) struct ChatKeeper {
    /// The operator's settings.
    pub(crate) config: Arc<Config>,
    /// The text sides that are there.
    pub(crate) chats: Arc<Chats>,
    /// Where others are found.
    pub(crate) source: Option<Arc<dyn ChatSource>>,
    /// What the ledger says of the network.
    pub(crate) ledger_view: Arc<LedgerView>,
    /// Shows operators how many models have none.
    pub(crate) vitals: Arc<Vitals>,
}

/// A text side that was looked for and not found.
struct Search {
    failures: u32,
    due: Instant,
}

impl ChatKeeper {
    /// Keeps them until the tenure ends.
    pub(crate) async fn run(self) {
        let mut searches = HashMap::new();
        loop {
            self.look(&mut searches).await;
            tokio::time::sleep(Duration::from_millis(self.config.refresh_ms)).await;
        }
    }

    /// Compares what is there with the catalogue once, and searches for what is missing and due.
    async fn look(&self, searches: &mut HashMap<Digest, Search>) {
        let snapshot = self.ledger_view.snapshot();
        let now = Timestamp::now();
        let is_kept = |entry: &CatalogueEntry| {
            entry.removed_ms.is_none_or(|removed| now.since(removed) < KEPT_AFTER_REMOVAL)
        };
        let kept: Vec<_> = snapshot.catalogue.values().filter(|entry| is_kept(entry)).collect();
        self.chats.keep(&kept.iter().map(|entry| entry.tokenizer).collect());
        let missing: BTreeMap<&ModelName, _> = kept
            .into_iter()
            .filter(|entry| !self.chats.has(entry))
            .map(|entry| (&entry.name, entry))
            .collect();
        let digests: HashSet<Digest> = missing.values().map(|entry| entry.tokenizer).collect();
        searches.retain(|digest, _| digests.contains(digest));
        let mut begun = HashSet::new();
        let due = missing.values().filter(|entry| {
            let is_due = searches.get(&entry.tokenizer).is_none_or(|search| search.due <= Instant::now());
            is_due && begun.insert(entry.tokenizer)
        });
        let due: Vec<_> = due.map(|entry| Arc::clone(entry)).collect();
        let mut found = stream::iter(due).map(|entry| self.search(entry)).buffer_unordered(AT_ONCE);
        while let Some((entry, problem)) = found.next().await {
            let Some(problem) = problem else {
                searches.remove(&entry.tokenizer);
                continue;
            };
            let search =
                searches.entry(entry.tokenizer).or_insert(Search { failures: 0, due: Instant::now() });
            search.failures = search.failures.saturating_add(1);
            search.due = Instant::now() + SEARCH_RETRY.wait(search.failures);
            if search.failures == 1 && !entry.is_removed() {
                tracing::warn!(
                    model = %entry.name, tokenizer = %entry.tokenizer, problem,
                    "in the catalogue, but this verifier has no tokenizer for it: its jobs wait; it is looked for again"
                );
            }
        }
        let unread = missing.values().filter(|entry| !entry.is_removed() && !self.chats.has(entry)).count();
        self.vitals.unread.store(unread, Ordering::Relaxed);
    }

    /// Searches for one text side and takes it up; returns why it isn't there, if it isn't.
    async fn search(&self, entry: Arc<CatalogueEntry>) -> (Arc<CatalogueEntry>, Option<String>) {
        let found = match &self.source {
            Some(source) => source.find(&entry.name, entry.tokenizer).await,
            None => Ok(None),
        };
        let problem = match found {
            Ok(Some(chat)) => {
                tracing::info!(model = %entry.name, "its tokenizer is found; its jobs are taken from now on");
                self.chats.take_up(chat);
                None
            }
            Ok(None) => Some("no folder of models has it, and no archive".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        (entry, problem)
    }
}
