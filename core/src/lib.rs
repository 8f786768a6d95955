//! The crates of this folder under the paths that they had as one crate. Nothing is defined here but two functions that end
//! a program; a role that names the crates themselves doesn't need it.

pub use infera_sampling as sampling;
pub use infera_types::{byte_budget, ids, private_files, shutdown, time};

#[cfg(feature = "chat")]
pub use infera_model::chat;
#[cfg(any(feature = "chat", feature = "onnx"))]
pub use infera_model::folder as model_folder;
#[cfg(feature = "operations")]
pub use infera_operations as operations;
#[cfg(feature = "program")]
pub use infera_program::listen;
pub use infera_telemetry as telemetry;
#[cfg(feature = "tls")]
pub use infera_tls as tls;

#[cfg(feature = "conformance")]
pub use infera_conformance::{
    archive_conformance, broker_conformance, engine_conformance, ledger_conformance,
};

/// What a client may ask and what a settled job is.
pub mod job {
    pub use infera_types::job::*;
    pub use infera_types::numbers::TokenId;
}

/// What crosses the broker.
pub mod messages {
    pub use infera_types::messages::*;
    pub use infera_types::numbers::{NumericClass, TokenNumbers};
}

/// The seam to the archive, and its implementations.
pub mod archive {
    pub use infera_archive::*;
    #[cfg(feature = "s3")]
    pub use infera_archive_s3 as s3;
    #[cfg(feature = "conformance")]
    pub use infera_conformance::archive as conformance;
}

/// The seam to the broker, and its implementations.
pub mod broker {
    pub use infera_broker::*;
    #[cfg(feature = "rabbitmq")]
    pub use infera_broker_rabbitmq as rabbitmq;
    #[cfg(feature = "conformance")]
    pub use infera_conformance::broker as conformance;

    /// Lists the broker's connections, and closes them.
    pub mod connections {
        pub use infera_broker::connections::*;
        #[cfg(feature = "management")]
        pub use infera_broker_rabbitmq::management;
    }
}

/// The seam to engines, and its implementations.
pub mod engine {
    #[cfg(feature = "conformance")]
    pub use infera_conformance::engine as conformance;
    pub use infera_engine::*;
    #[cfg(feature = "onnx")]
    pub use infera_engine_onnx::{self as onnx, config};
}

/// The seam to the ledger, and its implementations.
pub mod ledger {
    #[cfg(feature = "conformance")]
    pub use infera_conformance::ledger as conformance;
    pub use infera_ledger::*;
    #[cfg(feature = "postgres")]
    pub use infera_ledger_postgres as postgres;
    #[cfg(feature = "sqlite")]
    pub use infera_ledger_sqlite as sqlite;
}

/// Where settings come from.
pub mod config {
    #[cfg(feature = "program")]
    pub use infera_program::config::*;
    pub use infera_types::secret::Secret;
}

/// What our programs do alike.
#[cfg(feature = "program")]
pub mod program {
    use std::error::Error;
    use std::fmt;

    #[cfg(all(feature = "operations", feature = "otlp"))]
    pub use infera_operations::instruments;
    pub use infera_program::*;
    pub use infera_types::retry::Try;
    use infera_types::shutdown::Shutdown;

    /// Tries until `what` is there; none if the shutdown came first.
    ///
    /// # Errors
    /// [`REFUSED`] with what the last try said.
    pub async fn wait_for<T, E: Into<Box<dyn Error + Send + Sync>> + fmt::Display>(
        what: &str,
        shutdown: &Shutdown,
        attempt: impl AsyncFnMut() -> Try<T, E>,
    ) -> Result<Option<T>, Failure> {
        infera_types::retry::wait_for(what, shutdown, attempt).await.map_err(Failure::refused)
    }

    /// The ledger in a database, waited for while it is away; none if the shutdown came first.
    ///
    /// # Errors
    /// [`REFUSED`]: a URL that can't be one, no access, tables that aren't ours.
    #[cfg(feature = "postgres")]
    pub async fn ledger(
        config: &infera_ledger_postgres::PostgresConfig,
        shutdown: &Shutdown,
    ) -> Result<Option<std::sync::Arc<infera_ledger_postgres::PostgresLedger>>, Failure> {
        infera_ledger_postgres::waiting::ledger(config, shutdown).await.map_err(Failure::refused)
    }
}
