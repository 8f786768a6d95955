//! The values that go into and come out of the ledger, in the order of a job's life. They have no behaviour.

mod feeding;
mod jobs;
mod network;
mod records;
mod standing;

pub use feeding::*;
pub use jobs::*;
pub use network::*;
pub use records::*;
pub use standing::*;
