//! Every promise of the broker's seam, tried on the embedded one.

use std::sync::Arc;

use infera_broker::Broker;
use infera_broker::memory::MemoryBroker;

infera_conformance::broker_conformance!(async { MemoryBroker::new() as Arc<dyn Broker> });
