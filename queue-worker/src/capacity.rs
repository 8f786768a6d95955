//! Holds which models are served and how many slots each has free: what heartbeats tell verifiers, and what metrics tell the
//! node's runner. It decides nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use infera_model::chat::RENDERING;
use infera_telemetry::metrics::{WORKER_SLOTS, WORKER_SLOTS_FREE};
use infera_types::features::Features;
use infera_types::ids::{Digest, ModelName};
use infera_types::messages::ServedModel;
use infera_types::numbers::NumericClass;
use metrics::gauge;
use tokio::sync::watch;

/// The slots of one served model.
#[derive(Debug)]
pub(crate) struct ModelSlots {
    pub(crate) name: ModelName,
    pub(crate) numeric_class: Arc<NumericClass>,
    pub(crate) features: Features,
    /// How many of its jobs may run at once.
    slots: u32,
    free: AtomicU32,
}

impl ModelSlots {
    /// Returns the slots of a model of which no job runs.
    pub(crate) fn new(
        name: ModelName,
        numeric_class: NumericClass,
        features: Features,
        slots: u32,
    ) -> Arc<Self> {
        let (numeric_class, free) = (Arc::new(numeric_class), AtomicU32::new(slots));
        Arc::new(Self { name, numeric_class, features, slots, free })
    }

    /// Returns how many jobs may run at once.
    pub(crate) const fn slots(&self) -> u32 {
        self.slots
    }

    fn digest(&self) -> Digest {
        self.numeric_class.model_digest
    }

    fn free(&self) -> u32 {
        self.free.load(Ordering::Relaxed)
    }
}

/// The slots of all served models.
#[derive(Debug, Default)]
pub(crate) struct Capacity {
    models: Mutex<Vec<Arc<ModelSlots>>>,
    /// The free slots of all of them together. It is sent at every change, also where the sum stays the same.
    free: watch::Sender<u32>,
}

impl Capacity {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<ModelSlots>>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to announce a model.
    pub(crate) fn open(&self, model: Arc<ModelSlots>) {
        let mut models = self.lock();
        models.push(model);
        self.announce(&models);
    }

    /// Announces a model no more.
    pub(crate) fn close(&self, digest: Digest) {
        let mut models = self.lock();
        for model in models.iter().filter(|model| model.digest() == digest) {
            show(model, 0, 0);
        }
        models.retain(|model| model.digest() != digest);
        self.announce(&models);
    }

    /// Notes how many slots a model has free.
    pub(crate) fn set_free(&self, model: &ModelSlots, free: u32) {
        let models = self.lock();
        model.free.store(free, Ordering::Relaxed);
        self.announce(&models);
    }

    fn announce(&self, models: &[Arc<ModelSlots>]) {
        let sum = models.iter().fold(0_u32, |sum, model| sum.saturating_add(model.free()));
        self.free.send_replace(sum);
    }

    /// Returns a receiver of the free slots of all models together, which changes whenever one model's do.
    pub(crate) fn free_slots(&self) -> watch::Receiver<u32> {
        self.free.subscribe()
    }

    /// Returns the names of the models that are announced.
    pub(crate) fn names(&self) -> Vec<ModelName> {
        self.lock().iter().map(|model| model.name.clone()).collect()
    }

    /// Returns what a heartbeat says of the models.
    pub(crate) fn served(&self) -> Vec<ServedModel> {
        let served = |model: &Arc<ModelSlots>| ServedModel {
            numeric_class: NumericClass::clone(&model.numeric_class),
            rendering: RENDERING,
            slots: model.slots,
            free_slots: model.free(),
            features: model.features.clone(),
        };
        self.lock().iter().map(served).collect()
    }

    /// Updates the gauges.
    pub(crate) fn observe(&self) {
        for model in self.lock().iter() {
            show(model, model.slots, model.free());
        }
    }
}

fn show(model: &ModelSlots, slots: u32, free: u32) {
    gauge!(WORKER_SLOTS, "model" => model.name.to_string()).set(slots);
    gauge!(WORKER_SLOTS_FREE, "model" => model.name.to_string()).set(free);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn model(name: &str, slots: u32) -> Arc<ModelSlots> {
        let numeric_class = NumericClass {
            model_digest: Digest::of(name.as_bytes()),
            provider: "stub".to_owned(),
            hardware: "any".to_owned(),
            runtime: "none".to_owned(),
            compute: "f32".to_owned(),
        };
        ModelSlots::new(ModelName::new(name), numeric_class, Features::default(), slots)
    }

    #[test]
    fn only_open_models_are_announced_and_counted() {
        let capacity = Capacity::default();
        let (one, two) = (model("one", 4), model("two", 2));
        let mut free = capacity.free_slots();
        for model in [&one, &two] {
            capacity.open(Arc::clone(model));
        }
        assert_eq!(*free.borrow_and_update(), 6);
        capacity.set_free(&two, 0);
        assert_eq!(*free.borrow_and_update(), 4);
        let slots: Vec<(u32, u32)> =
            capacity.served().iter().map(|served| (served.slots, served.free_slots)).collect();
        assert_eq!(slots, [(4, 4), (2, 0)]);
        capacity.close(one.digest());
        // A job of a model that left still ends, and its slot counts no more.
        capacity.set_free(&one, 4);
        assert_eq!((*free.borrow(), capacity.names()), (0, vec![ModelName::new("two")]));
    }
}
