//! Tokenizers and templates by the digest of their files, so that models which share them share the memory. Readers take what is
//! there at that moment; one task takes up what the catalogue brings and drops what it no longer needs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use infera_ledger::CatalogueEntry;
use infera_model::chat::ChatModel;
use infera_types::ids::{Digest, ModelName};
use tokio::sync::watch;

/// The text sides that this verifier has.
#[derive(Debug)]
pub(crate) struct Chats {
    held: ArcSwap<HashMap<Digest, Held>>,
    changed: watch::Sender<()>,
}

/// One text side, shared by the readers of every snapshot.
#[derive(Clone)]
struct Held(Arc<ChatModel>);

impl std::fmt::Debug for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("..")
    }
}

impl Chats {
    /// Makes the set of those that a verifier starts with.
    pub(crate) fn new(given: HashMap<ModelName, Arc<ChatModel>>) -> Self {
        let held = given.into_values().map(|chat| (chat.tokenizer_digest(), Held(chat))).collect();
        Self { held: ArcSwap::from_pointee(held), changed: watch::Sender::default() }
    }

    /// Returns the text side of a model; none while it isn't found.
    pub(crate) fn of(&self, entry: &CatalogueEntry) -> Option<Arc<ChatModel>> {
        self.held.load().get(&entry.tokenizer).map(|held| Arc::clone(&held.0))
    }

    /// Returns whether a model's text side is there.
    pub(crate) fn has(&self, entry: &CatalogueEntry) -> bool {
        self.held.load().contains_key(&entry.tokenizer)
    }

    /// Returns a receiver that changes with the set.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Adds a text side. Only one task changes the set.
    pub(crate) fn take_up(&self, chat: Arc<ChatModel>) {
        let mut held = HashMap::clone(&self.held.load());
        held.insert(chat.tokenizer_digest(), Held(chat));
        self.held.store(Arc::new(held));
        self.changed.send_replace(());
    }

    /// Drops all but these. Jobs that render by one have it until they end.
    pub(crate) fn keep(&self, needed: &HashSet<Digest>) {
        let held = self.held.load();
        if held.keys().all(|digest| needed.contains(digest)) {
            return;
        }
        let left = held.iter().filter(|(digest, _)| needed.contains(digest));
        let left = left.map(|(digest, held)| (*digest, held.clone())).collect();
        self.held.store(Arc::new(left));
        self.changed.send_replace(());
    }
}
