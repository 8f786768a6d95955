//! Lets models come and go: loads a station for each, notices engines that are gone, and carries out the runner's orders while
//! the worker runs. A model that goes is drained by itself; the others' assignments notice nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use infera_engine::EngineDescription;
use infera_types::features::{Feature, Features};
use infera_types::ids::ModelName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::assignment::{Refused, Station, StationParts, Stations};
use crate::capacity::ModelSlots;
use crate::config::Config;
use crate::error::ModelError;
use crate::executor::{BatchLimits, Executor, ExecutorLimits, Health};
use crate::model::{Model, Order};
use crate::tokenizer::{TextBounds, Tokenizer};
use crate::vitals::Vitals;

/// Starts models' engines and makes their stations.
pub(crate) struct Loader {
    stations: Arc<Stations>,
    config: Config,
    bounds: TextBounds,
}

impl Loader {
    pub(crate) fn new(stations: Arc<Stations>, config: Config) -> Self {
        let bounds = TextBounds::new(config.tokenizer_threads, config.work_bytes_max);
        Self { stations, config, bounds }
    }

    /// Checks a model, starts its engine's thread and serves it.
    pub(crate) fn load(&self, model: Model) -> Result<Arc<Station>, ModelError> {
        let Model { name, chat, engine } = model;
        let description = engine.description().clone();
        self.stations.check(&name, description.numeric_class.model_digest)?;
        let (engine_max, model_max) = (description.context_max, chat.context_max());
        if engine_max < model_max {
            return Err(ModelError::Context { name, engine: engine_max, model: model_max });
        }
        let sequences_max = u32::try_from(description.sequences_max).unwrap_or(u32::MAX);
        let slots = self.config.slots.min(sequences_max);
        let limits = ExecutorLimits {
            batch: BatchLimits {
                slots: usize::try_from(slots).unwrap_or(usize::MAX),
                prefill_tokens_max: self.config.prefill_tokens_max,
            },
            failures_max: self.config.engine_failures_max,
        };
        let started = Executor::start(&name, engine, chat.end_tokens().to_vec(), limits);
        let executor = started.map_err(|error| ModelError::Thread(name.clone(), error))?;
        let features = features(&description);
        Ok(self.stations.open(StationParts {
            slots: ModelSlots::new(name, description.numeric_class, features, slots),
            tokenizer: Tokenizer::new(Arc::clone(&chat), self.bounds.clone()),
            chat,
            executor,
            spare: self.config.prefetch_spare,
        }))
    }
}

/// Returns what a node announces of an engine. The worker does the sampling, outside the engine, so every engine can sample at
/// any temperature and with a seed, and by a request's knobs if it gives every token's logit.
fn features(engine: &EngineDescription) -> Features {
    let sampling = engine.gives_whole_rows.then_some(Feature::Sampling2);
    let cache = engine.caches_prefixes.then_some(Feature::PrefixCache);
    sampling.into_iter().chain(cache).fold(Features::default(), Features::with)
}

/// Carries out orders and watches engines while the worker runs.
pub(crate) struct Models {
    loader: Loader,
    vitals: Arc<Vitals>,
    orders: mpsc::Receiver<Order>,
    /// Told the reason, once the last engine is gone.
    engines_gone: watch::Sender<Option<String>>,
    /// One task for each engine, which ends with it. Dropping the set aborts them.
    engines: JoinSet<(ModelName, String)>,
    /// One task for each model that goes.
    going: JoinSet<()>,
    /// The models whose engines are gone and that did not come again.
    broken: HashSet<ModelName>,
}

impl Models {
    /// Watches the stations that `loader` has made, and those to come.
    pub(crate) fn new(loader: Loader, vitals: Arc<Vitals>, orders: mpsc::Receiver<Order>) -> Self {
        let mut models = Self {
            loader,
            vitals,
            orders,
            engines_gone: watch::Sender::default(),
            engines: JoinSet::new(),
            going: JoinSet::new(),
            broken: HashSet::new(),
        };
        for station in models.loader.stations.all() {
            models.watch(&station);
        }
        models
    }

    /// Returns a receiver of the reason why no model is served any more.
    pub(crate) fn engines_gone(&self) -> watch::Receiver<Option<String>> {
        self.engines_gone.subscribe()
    }

    fn watch(&mut self, station: &Station) {
        let (name, mut health) = (station.name().clone(), station.executor.health());
        self.engines.spawn(async move {
            let gone = health.wait_for(|health| *health != Health::Ready).await;
            let why = match gone.as_deref() {
                Ok(Health::Gone(why)) => why.clone(),
                _ => "its thread ended".to_owned(),
            };
            (name, why)
        });
    }

    /// Carries out orders until `ending` is cancelled, and returns once the models that were going are gone.
    pub(crate) async fn serve(mut self, ending: &CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = ending.cancelled() => break,
                Some(Ok((name, why))) = self.engines.join_next() => self.lose(&name, why),
                Some(_) = self.going.join_next() => {}
                Some(order) = self.orders.recv() => self.carry_out(order),
            }
        }
        // Orders that come now are answered by the closed channel.
        self.orders.close();
        while self.going.join_next().await.is_some() {}
    }

    fn carry_out(&mut self, order: Order) {
        // The sender of an order may have stopped waiting for its outcome.
        match order {
            Order::Add(model, outcome) => {
                let name = model.name.clone();
                let loaded = self.loader.load(model).map(|station| {
                    self.watch(&station);
                    self.broken.remove(&name);
                    self.note_engines();
                });
                let _ = outcome.send(loaded);
            }
            Order::Remove(name, outcome) => {
                let broken = self.broken.remove(&name);
                self.note_engines();
                let Some(station) = self.loader.stations.close(&name, Refused::unloaded()) else {
                    let _ = outcome.send(if broken { Ok(()) } else { Err(ModelError::Unknown(name)) });
                    return;
                };
                let (drain, stop) = (self.loader.config.drain(), self.loader.config.stop());
                self.going.spawn(async move {
                    let _ = outcome.send(unload(&station, drain, stop).await);
                });
            }
        }
    }

    /// Serves a model no more whose engine is gone, and has the worker end if no other is served.
    fn lose(&mut self, name: &ModelName, why: String) {
        if self.loader.stations.close(name, Refused::engine_gone()).is_none() {
            // It was told to go.
            return;
        }
        tracing::error!(model = %name, why, "the engine is gone; the model is served no more");
        self.broken.insert(name.clone());
        self.note_engines();
        if self.loader.stations.all().is_empty() {
            self.engines_gone.send_replace(Some(why));
        }
    }

    fn note_engines(&self) {
        self.vitals.engine.store(self.broken.is_empty(), Ordering::Relaxed);
    }
}

/// Lets a model's running work finish in its time, gives the rest back, and ends its engine.
async fn unload(station: &Station, drain: Duration, stop: Duration) -> Result<(), ModelError> {
    station.draining.cancel();
    station.in_hand.close();
    if tokio::time::timeout(drain, station.in_hand.wait()).await.is_err() {
        let assignments = station.in_hand.len();
        tracing::info!(model = %station.name(), assignments, "drain time is over; giving back what runs");
        station.giving_back.cancel();
        let _ = tokio::time::timeout(stop, station.in_hand.wait()).await;
    }
    station.giving_back.cancel();
    station.runs.close();
    let _ = tokio::time::timeout(stop, station.runs.wait()).await;
    if station.executor.stop(stop).await { Ok(()) } else { Err(ModelError::Hangs(station.name().clone())) }
}

/// Ends the engines of all models that are served, all at the same time. Returns false if one hangs in a step.
pub(crate) async fn stop_engines(stations: &Stations, patience: Duration) -> bool {
    let mut stopping = JoinSet::new();
    for station in stations.all() {
        let executor = station.executor.clone();
        stopping.spawn(async move { executor.stop(patience).await });
    }
    let mut all_stopped = true;
    while let Some(stopped) = stopping.join_next().await {
        all_stopped &= stopped.unwrap_or(false);
    }
    all_stopped
}
