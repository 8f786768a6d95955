//! Tests every promise of the broker's seam on the embedded broker.

use std::sync::Arc;

use infera_broker::Broker;
use infera_broker::memory::MemoryBroker;

infera_conformance::broker_conformance!(async { MemoryBroker::new() as Arc<dyn Broker> });
