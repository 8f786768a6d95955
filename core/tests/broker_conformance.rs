//! Every promise of the broker's seam, tried on the embedded one.
#![cfg(all(feature = "memory", feature = "conformance"))]

use std::sync::Arc;

use infera_core::broker::Broker;
use infera_core::broker::memory::MemoryBroker;

infera_core::broker_conformance!(async { MemoryBroker::new() as Arc<dyn Broker> });
