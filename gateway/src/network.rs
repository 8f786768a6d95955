//! What is known of the network, so that no request asks anybody: models on offer and the epoch (`catalogue`), and what
//! there is room for (`capacity`). `refresher` reads the former again and again, and declares the models' queues at the
//! broker (`queues`).
//!
//! The room knows nothing of jobs and requests.

mod capacity;
mod catalogue;
mod queues;
mod refresher;

pub(crate) use capacity::{Capacity, OWNERS_NEEDED};
pub(crate) use catalogue::CatalogueError;
pub(crate) use catalogue::{Catalogue, present_epoch};
pub(crate) use refresher::Refresher;
