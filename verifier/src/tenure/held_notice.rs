//! Holds a job's notice from its delivery to its ack.

use infera_broker::Delivery;
use infera_types::messages::Version;

/// A notice that isn't acked yet.
#[derive(Debug)]
pub(crate) struct HeldNotice {
    /// The notice as it came.
    pub(crate) delivery: Delivery,
    /// The newest version that the gateway reads which waits for the job's end, as the notice says.
    pub(crate) speaks: Version,
}
