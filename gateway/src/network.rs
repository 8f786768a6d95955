//! What the gateway knows of the network, kept at hand so that no request waits for it: the models and the epoch
//! (`catalogue`), the capacity (`capacity`), and by both which models are served (`served`). `refresher` reloads the catalogue at intervals and declares the
//! models' queues at the broker (`queues`).
//!
//! This room knows nothing of jobs and requests.

mod capacity;
mod catalogue;
mod queues;
mod refresher;
mod served;

pub(crate) use capacity::{Capacity, OWNERS_NEEDED};
pub(crate) use catalogue::CatalogueError;
pub(crate) use catalogue::{Catalogue, present_epoch};
pub(crate) use refresher::Refresher;
pub(crate) use served::not_served;
