//! Holds what assignments go through: what all models share, and each model's own station. Models come and go; an assignment
//! that found its model's station keeps it to its end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use infera_model::chat::ChatModel;
use infera_types::ids::{Digest, ModelName};
use infera_types::messages::RefusalReason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Refused;
use super::cache::SharedCache;
use super::desk::Desk;
use super::publisher::Publisher;
use super::redelivery::TriedAlone;
use crate::capacity::{Capacity, ModelSlots};
use crate::config::MODELS_MAX;
use crate::counts::Counts;
use crate::error::ModelError;
use crate::executor::Executor;
use crate::framing::Framer;
use crate::tokenizer::Tokenizer;

/// What assignments of one model go through.
pub(crate) struct Station {
    pub(crate) desk: Arc<Desk>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) executor: Executor,
    /// The model's context, in tokens: prompt and answer together.
    pub(crate) context_max: usize,
    /// The assignments in hand.
    pub(crate) in_hand: TaskTracker,
    /// The runs in progress.
    pub(crate) runs: TaskTracker,
    /// Once this is cancelled, nothing new of this model begins.
    pub(crate) draining: CancellationToken,
    /// Once this is cancelled, what still runs of this model is given back.
    pub(crate) giving_back: CancellationToken,
    /// The deliveries of the present consumer that the model may hold.
    places: Mutex<Arc<Semaphore>>,
    places_max: u32,
}

/// The parts of which a station is made.
pub(crate) struct StationParts {
    pub(crate) slots: Arc<ModelSlots>,
    pub(crate) chat: Arc<ChatModel>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) executor: Executor,
    /// The number of deliveries that may be in hand beyond the slots.
    pub(crate) spare: u16,
}

impl Station {
    /// Returns the model's name.
    pub(crate) fn name(&self) -> &ModelName {
        &self.desk.model().name
    }

    /// Returns the model's digest, by which assignments name it.
    pub(crate) fn digest(&self) -> Digest {
        self.desk.model().numeric_class.model_digest
    }

    /// Returns a place for one more delivery, until it is dropped; none if the model holds as many as it may, so that the
    /// others' share of the prefetch stays theirs.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        let places = Arc::clone(&self.places.lock().unwrap_or_else(PoisonError::into_inner));
        places.try_acquire_owned().ok()
    }

    /// Makes all places free: deliveries of an earlier consumer aren't counted by the broker any more.
    fn clear_places(&self) {
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = semaphore(self.places_max);
    }
}

fn semaphore(places: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(places).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)))
}

/// The stations of the models that are served, and what they share.
pub(crate) struct Stations {
    pub(crate) tried_alone: TriedAlone,
    pub(crate) publisher: Publisher,
    pub(crate) framer: Arc<Framer>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) capacity: Arc<Capacity>,
    pub(crate) cache: SharedCache,
    /// Once this is cancelled, nothing new begins.
    pub(crate) draining: CancellationToken,
    /// Once this is cancelled, what still runs is given back.
    pub(crate) giving_back: CancellationToken,
    served: Mutex<Served>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Served {
    stations: Vec<Arc<Station>>,
    /// The models that left last and why their assignments are given back, the oldest first: at most [`MODELS_MAX`].
    left: VecDeque<(Digest, Refused)>,
}

/// What all stations share, before there is one.
pub(crate) struct SharedParts {
    pub(crate) tried_alone: TriedAlone,
    pub(crate) publisher: Publisher,
    pub(crate) framer: Arc<Framer>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) capacity: Arc<Capacity>,
    pub(crate) cache: SharedCache,
}

impl Stations {
    /// Makes what stations share, without a station.
    pub(crate) fn new(parts: SharedParts) -> Self {
        let SharedParts { tried_alone, publisher, framer, counts, capacity, cache } = parts;
        Self {
            tried_alone,
            publisher,
            framer,
            counts,
            capacity,
            cache,
            draining: CancellationToken::new(),
            giving_back: CancellationToken::new(),
            served: Mutex::default(),
            changed: watch::Sender::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that a model may be served beside those that are.
    ///
    /// # Errors
    /// [`ModelError`]: its name or its digest is another's, or there are too many.
    pub(crate) fn check(&self, name: &ModelName, digest: Digest) -> Result<(), ModelError> {
        let served = self.lock();
        for station in &served.stations {
            if station.name() == name {
                return Err(ModelError::SameName(name.clone()));
            }
            if station.digest() == digest {
                return Err(ModelError::SameModel(station.name().clone(), name.clone()));
            }
        }
        if served.stations.len() >= MODELS_MAX {
            return Err(ModelError::TooMany(name.clone()));
        }
        Ok(())
    }

    /// Serves one more model, which was checked.
    pub(crate) fn open(&self, parts: StationParts) -> Arc<Station> {
        let StationParts { slots, chat, tokenizer, executor, spare } = parts;
        let places_max = slots.slots().saturating_add(u32::from(spare));
        let desk = Desk::new(Arc::clone(&slots), Arc::clone(&self.capacity), self.cache.clone());
        let station = Arc::new(Station {
            desk,
            tokenizer,
            executor,
            context_max: chat.context_max(),
            in_hand: TaskTracker::new(),
            runs: TaskTracker::new(),
            draining: self.draining.child_token(),
            giving_back: self.giving_back.child_token(),
            places: Mutex::new(semaphore(places_max)),
            places_max,
        });
        let mut served = self.lock();
        served.left.retain(|(digest, _)| *digest != station.digest());
        served.stations.push(Arc::clone(&station));
        drop(served);
        self.capacity.open(slots);
        self.changed.send_replace(());
        station
    }

    /// Takes a model out: no assignment finds its station any more, and those that come nevertheless are given back for the
    /// reason `refused`. Returns none if the model isn't served.
    pub(crate) fn close(&self, name: &ModelName, refused: Refused) -> Option<Arc<Station>> {
        let mut served = self.lock();
        let place = served.stations.iter().position(|station| station.name() == name)?;
        let station = served.stations.remove(place);
        served.left.push_back((station.digest(), refused));
        if served.left.len() > MODELS_MAX {
            served.left.pop_front();
        }
        drop(served);
        self.capacity.close(station.digest());
        self.changed.send_replace(());
        Some(station)
    }

    /// Returns the station of the model with this digest.
    ///
    /// # Errors
    /// The reason why its assignments are given back.
    pub(crate) fn find(&self, digest: Digest) -> Result<Arc<Station>, Refused> {
        let served = self.lock();
        if let Some(station) = served.stations.iter().find(|station| station.digest() == digest) {
            return Ok(Arc::clone(station));
        }
        if self.draining.is_cancelled() {
            return Err(Refused::draining());
        }
        let left = served.left.iter().rev().find(|(left, _)| *left == digest);
        let refused = left.map(|(_, refused)| refused.clone());
        Err(refused.unwrap_or_else(|| {
            Refused::new(
                RefusalReason::Broken,
                "the assignment names another model digest than this node serves",
            )
        }))
    }

    /// Returns all stations.
    pub(crate) fn all(&self) -> Vec<Arc<Station>> {
        self.lock().stations.clone()
    }

    /// Returns a receiver that changes when a model comes or goes.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Returns how many deliveries may be in hand: each model's slots and what is taken beyond them, and at least one, because
    /// what comes without a model must be given back.
    pub(crate) fn prefetch(&self) -> u16 {
        let sum = self.lock().stations.iter().fold(0_u32, |sum, one| sum.saturating_add(one.places_max));
        u16::try_from(sum).unwrap_or(u16::MAX).max(1)
    }

    /// Forgets the deliveries of the last consumer, which the broker gives out again.
    pub(crate) fn begin_consuming(&self) {
        for station in self.all() {
            station.clear_places();
        }
    }
}
