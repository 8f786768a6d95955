//! Makes a schema for each test, on the server that the environment names.

use std::sync::Arc;

use infera_ledger_postgres::{PostgresConfig, PostgresLedger};
use infera_types::ids::JobId;

const REMEDY: &str = "TEST_POSTGRES_URL is not set: start the services (`make services`) and set it to the database's \
                      URL, such as postgres://user:password@127.0.0.1:5432/postgres";

pub(crate) fn server() -> String {
    std::env::var("TEST_POSTGRES_URL").expect(REMEDY)
}

/// A schema of one test, which is dropped with this value.
pub(crate) struct Schema {
    pub(crate) name: String,
}

impl Schema {
    pub(crate) async fn make() -> Self {
        let name = format!("test_{}", JobId::new());
        execute(&format!("CREATE SCHEMA {name}")).await;
        Self { name }
    }

    /// Returns the server's URL with this schema as the search path.
    pub(crate) fn within(&self, url: &str) -> String {
        let join = if url.contains('?') { '&' } else { '?' };
        format!("{url}{join}options=-c%20search_path%3D{}", self.name)
    }

    pub(crate) async fn ledger(&self) -> Arc<PostgresLedger> {
        let config = PostgresConfig { connections: 4, ..PostgresConfig::new(self.within(&server())) };
        PostgresLedger::connect(&config).await.expect("a ledger")
    }

    /// Returns the number that a statement in this schema yields.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let client = connect(&self.within(&server())).await;
        client.query_one(sql, &[]).await.expect(sql).get(0)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let drop = format!("DROP SCHEMA {} CASCADE", self.name);
        // A test's runtime cannot wait for a future from within itself.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(execute(&drop));
        });
        assert!(thread.join().is_ok() || std::thread::panicking(), "the schema could not be dropped");
    }
}

pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("the server answers");
    tokio::spawn(connection);
    client
}

pub(crate) async fn execute(sql: &str) {
    connect(&server()).await.batch_execute(sql).await.expect(sql);
}
