//! The ledger in a PostgreSQL database that many processes share: it implements every half for a cluster.
//!
//! Accepting, confirming, taking, settling and posting go through lanes (`lane`): what waits shares one transaction,
//! which is sent with its COMMIT in two round trips in the usual case. Everything else is one statement on a
//! connection of its own (`pool`), so that it is atomic without a transaction. A statement that names its rows by
//! their ids writes `state + 0` and `is_closed + 0` for those columns. The bare condition would invite the planner to
//! scan a partial index instead, which keeps an entry for every row that was ever in it until the server vacuums.
//! Read `opening` for a connection's settings, `failure` for what is tried again and what is reported as unknown,
//! `transport` for when TLS is used, then a module per half. Not here: what verdicts weigh (`infera_ledger::fold`).

mod accepting;
mod accounts;
mod batches;
mod charging;
mod confirming;
mod erasing;
mod failure;
mod feeding;
mod index;
mod intake;
mod keys;
mod lane;
mod lists;
mod mail;
mod money;
mod network;
mod node_groups;
mod nodes;
mod opening;
mod owner;
mod packing;
mod planning;
mod pool;
mod posting;
mod projecting;
mod pruning;
mod reader;
mod roster;
mod scheduling;
mod segments;
mod settling;
mod standing;
mod sweeping;
mod taking;
mod transport;
mod values;
pub mod waiting;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use self::accepting::Accepting;
use self::confirming::Confirming;
use self::lane::Lane;
use self::packing::Packing;
use self::pool::Pool;
use self::posting::PostingLines;
use self::settling::Settling;
use self::taking::Takings;
use self::transport::Transport;
use infera_ledger::LedgerError;
use infera_ledger::last_commit::LastCommit;
use infera_types::secret::Secret;

/// How to reach the database, and how many connections one process takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database?sslmode=verify-full`; options in it (a search path, say) are
    /// kept. Without `sslmode` a database on this machine is used in plain text; a database elsewhere is used over
    /// TLS if there is a `ca_file`, and refused otherwise. It is hidden because of the password.
    pub url: Secret,
    /// A PEM file of CAs that may vouch for the database, beside the system's; none: the system's alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The most connections for reading and for single statements; each lane has one more, three in any role. Eight
    /// by default: such statements take about a millisecond, and a server by default allows a hundred connections for
    /// all processes together.
    pub connections: usize,
}

impl Default for PostgresConfig {
    /// Returns a database on this machine under our name.
    fn default() -> Self {
        Self { url: Secret::new("postgres://infera@127.0.0.1:5432/infera"), ca_file: None, connections: 8 }
    }
}

impl PostgresConfig {
    /// Makes the settings of the database at `url`, with everything else at its default.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: Secret::new(url), ..Self::default() }
    }
}

/// A ledger in a database. It implements all halves; give each role only its own. Dropping the last handle commits
/// what waits, while the runtime lives.
pub struct PostgresLedger {
    pool: Pool,
    accepting: Lane<Accepting>,
    confirming: Lane<Confirming>,
    taking: Lane<Takings>,
    settling: Lane<Settling>,
    posting: Lane<PostingLines>,
    /// The share of the totals' rows that this process adds to.
    share: i16,
    /// The form in which rows are written.
    packing: Packing,
    /// Held by the one projector of this process that asks the database, so that the others hold no connections
    /// meanwhile.
    projecting: Mutex<()>,
    /// The task that measures young tables; it ends with the ledger.
    _planning: JoinSet<()>,
}

impl fmt::Debug for PostgresLedger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PostgresLedger").finish_non_exhaustive()
    }
}

impl PostgresLedger {
    /// Connects, and migrates the schema if it is older. If several processes do so at once, one migrates and the
    /// others wait.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`]: no server answers, or it is starting. [`LedgerError::Refused`]: the URL is
    /// wrong, access is denied, or a newer program made the schema. [`LedgerError::Damaged`]: the tables are not a
    /// ledger's.
    pub async fn connect(config: &PostgresConfig) -> Result<Arc<Self>, LedgerError> {
        let connections = opening::connections(config.url.expose())?;
        let transport = Transport::new(connections, config.ca_file.as_deref())?;
        let last = Arc::<LastCommit>::default();
        let pool = Pool::open(transport.clone(), config.connections, Arc::clone(&last))?;
        opening::migrate(&pool).await?;
        opening::check_durability(&pool).await?;
        let lane_pool = || Pool::open(transport.clone(), 1, Arc::clone(&last));
        let share = opening::share()?;
        let packing = Packing::default();
        let mut planning = JoinSet::new();
        planning.spawn(planning::learn(pool.clone()));
        Ok(Arc::new(Self {
            accepting: Lane::start(Accepting { share }, lane_pool()?),
            confirming: Lane::start(Confirming, lane_pool()?),
            taking: Lane::start(Takings, lane_pool()?),
            settling: Lane::start(Settling { share, packing: packing.clone() }, lane_pool()?),
            posting: Lane::start(PostingLines { packing: packing.clone() }, lane_pool()?),
            share,
            packing,
            projecting: Mutex::new(()),
            _planning: planning,
            pool,
        }))
    }
}
