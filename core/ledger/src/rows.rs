//! The values that go into and come out of the ledger, in the order of a job's life. They have no behaviour.

mod erasures;
mod feeding;
mod jobs;
mod keys;
mod mail;
mod metadata;
mod money;
mod network;
mod nodes;
mod pools;
mod records;
mod standing;
mod volume;

pub use erasures::*;
pub use feeding::*;
pub use jobs::*;
pub use keys::*;
pub use mail::*;
pub use metadata::Metadata;
pub use money::*;
pub use network::*;
pub use nodes::*;
pub use pools::*;
pub use records::*;
pub use standing::*;
pub use volume::*;
