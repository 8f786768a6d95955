//! A whole network in this process. Each part is started after those that it needs, and ended before them, so that
//! accepted jobs are still answered while the gateway drains.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use infera_gateway::{Gateway, GatewayHandle, Listener, Mail};
use infera_mail_smtp::{SmtpError, SmtpMailer};
use infera_model::chat_source::ChatSource;
use infera_program::descriptors;
use infera_program::listen::ListenAddress;
use infera_types::ids::{ModelName, NodeId};
use infera_types::shutdown::Shutdown;
use infera_verifier::catalogue::orders::{self, Added, CatalogueOrderError};
use infera_verifier::{Verifier, VerifierError};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::added_models::AddedModelsError;
use crate::config::Config;
use crate::data_folder::{DataFolder, DataFolderError, operators_in};
use crate::node::{self, ModelError, Node};
use crate::operators::{OperatorServer, Ordered};
use crate::records::Records;
use crate::residents::{self, ResidentsError};
use crate::seams::{Seams, SeamsError};
use crate::served::ServedModels;
use crate::started_models::{self, StartedModel};

/// Why the network does not run. Each error says what to do, if anything can be done.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The data folder cannot be used.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// The ledger or the archive cannot be opened.
    #[error(transparent)]
    Seams(#[from] SeamsError),
    /// The model or its engine cannot be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Accounts, nodes or keys cannot be registered.
    #[error(transparent)]
    Residents(#[from] ResidentsError),
    /// The model cannot be listed in the catalogue.
    #[error(transparent)]
    Catalogue(#[from] CatalogueOrderError),
    /// The file of added models cannot be used.
    #[error(transparent)]
    AddedModels(#[from] AddedModelsError),
    /// The settings of mail cannot be used.
    #[error(transparent)]
    Mail(#[from] SmtpError),
    /// The address cannot be listened on.
    #[error(
        "{address}: {source}; stop what listens there, or choose another address: INFERA_LISTEN=127.0.0.1:8711 make run, or --set listen=127.0.0.1:8711"
    )]
    Listen {
        /// The address.
        address: ListenAddress,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A role ended without being asked to.
    #[error("{role} ended: {cause}")]
    Role {
        /// The role.
        role: &'static str,
        /// Its error.
        cause: String,
    },
    /// Nodes, verifier and gateway run, but no replica group for the model has come up.
    #[error("no replica group for {model} within {seconds} s: the log says which node has not come up")]
    NotReady {
        /// The model.
        model: ModelName,
        /// How long the network waited, in seconds.
        seconds: u64,
    },
    /// The verifier's settings are wrong.
    #[error(transparent)]
    Verifier(#[from] VerifierError),
}

/// How long the first replica group may take to come up. A session loads in well under a second; a model of gigabytes
/// from a slow disk takes minutes.
const READY_MAX: Duration = Duration::from_secs(300);

/// The orders about models that wait at once: one person gives them.
const ORDERS_MAX: usize = 8;

/// The pause between checks whether the first group has come up; too short for a person to notice.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A running network.
pub struct Network {
    /// The address on which the gateway listens.
    pub address: SocketAddr,
    /// The key for local use.
    pub key: infera_gateway::access::ApiKey,
    /// The models that its nodes serve, in the order in which the settings name them.
    pub models: Vec<ModelName>,
    /// The seams that it uses.
    pub seams: Seams,
    view: GatewayHandle,
    gateway: JoinSet<Result<(), NetworkError>>,
    verifier: JoinSet<Result<(), NetworkError>>,
    nodes: JoinSet<Result<(), NetworkError>>,
    stages: [Shutdown; 3],
    // Held until the end and dropped last.
    data: Arc<DataFolder>,
}

impl Network {
    /// Starts everything and returns when a replica group can be drawn.
    ///
    /// # Errors
    /// [`NetworkError`]; nothing is left running.
    pub async fn start(config: Config) -> Result<Self, NetworkError> {
        let data = Arc::new(DataFolder::open(&config.data)?);
        let mailer = SmtpMailer::open(&config.mail)?;
        let listener = listen(&config.listen).await?;
        let seams = Seams::open(&data).await?;
        let models = started_models::read(&config).await?;
        for model in &models {
            list(&seams, model).await?;
        }
        let key = residents::local_key(&seams, &data).await?;
        let address = listener
            .local_addr()
            .map_err(|source| NetworkError::Listen { address: config.listen.clone(), source })?;
        data.note(&format!("http://{address}"), key.expose())?;
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let served = ServedModels::new(
            &config,
            &seams,
            Arc::clone(&data),
            models.iter().map(|model| (model.entry.clone(), model.folder().to_owned())).collect(),
        )?;
        let (socket, records) = (operators_in(&config.data), Records::of(&seams));
        let operators = OperatorServer::bind(&socket, &key, records, orders, seams.ledger.clone());

        // Registered before the verifier reads the nodes, so that it knows them at its first read.
        let mut residents = Vec::new();
        for index in 1..=config.nodes.count {
            residents.push(residents::node(&seams, &data, &format!("resident-{index}")).await?);
        }
        let mut gateway =
            Gateway::of_one_process(config.gateway.clone(), seams.of_gateway(), seams.ledger.clone());
        if let Some(mailer) = mailer {
            gateway = gateway.sending_mail(Mail::new(&seams.ledger, mailer, config.mail.clone()));
        }
        let stages = [Shutdown::new(), Shutdown::new(), Shutdown::new()];
        let mut network = Self {
            address,
            key,
            models: models.iter().map(|model| model.name.clone()).collect(),
            seams,
            view: gateway.handle(),
            gateway: JoinSet::new(),
            verifier: JoinSet::new(),
            nodes: JoinSet::new(),
            stages,
            data,
        };
        network.start_gateway(gateway, listener);
        match operators {
            Ok(server) => network.start_operators(server),
            Err(error) => {
                tracing::warn!(%error, "commands beside this infera can't be answered; all else works")
            }
        }
        network.start_verifier(&config, &models, served.chats())?;
        network.start_added(served, ordered);
        for resident in residents {
            network.start_resident(&config, resident.id, &models).await?;
        }
        // Three owners make a group; a network that is configured smaller is ready when it is as large as it will
        // get.
        network.wait_for_owners(config.nodes.count.min(3)).await?;
        Ok(network)
    }

    /// Waits until the gateway knows of live nodes of this many owners that serve each model, so that a synchronous
    /// request is not turned away.
    ///
    /// # Errors
    /// [`NetworkError::NotReady`] after five minutes.
    pub async fn wait_for_owners(&self, owners: u32) -> Result<(), NetworkError> {
        let until = tokio::time::Instant::now() + READY_MAX;
        for model in &self.models {
            let known = async {
                while self.view.owners(model) < owners {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            };
            let not_ready = || NetworkError::NotReady { model: model.clone(), seconds: READY_MAX.as_secs() };
            tokio::time::timeout_at(until, known).await.map_err(|_| not_ready())?;
        }
        Ok(())
    }

    fn start_gateway(&mut self, gateway: Gateway, listener: TcpListener) {
        let shutdown = self.stages[0].clone();
        let listener = Listener::from(listener).within(descriptors::raise());
        self.gateway.spawn(async move {
            gateway.run(listener, shutdown).await;
            Ok(())
        });
    }

    /// Ends with the gateway.
    fn start_operators(&mut self, server: OperatorServer) {
        let shutdown = self.stages[0].clone();
        self.gateway.spawn(async move {
            server.serve(shutdown).await;
            Ok(())
        });
    }

    fn start_verifier(
        &mut self,
        config: &Config,
        models: &[StartedModel],
        others: Arc<dyn ChatSource>,
    ) -> Result<(), NetworkError> {
        let (seams, chats) = (self.seams.of_verifier(), started_models::chats(models));
        let verifier = Verifier::new(config.verifier.clone(), seams, chats)?.beside_nodes().finding(others);
        let shutdown = self.stages[1].clone();
        self.verifier.spawn(async move {
            verifier.run(shutdown).await;
            Ok(())
        });
        Ok(())
    }

    /// Ends with the nodes.
    fn start_added(&mut self, served: ServedModels, ordered: mpsc::Receiver<Ordered>) {
        let shutdown = self.stages[2].clone();
        self.nodes.spawn(async move {
            served.run(ordered, shutdown).await;
            Ok(())
        });
    }

    async fn start_resident(
        &mut self,
        config: &Config,
        id: NodeId,
        models: &[StartedModel],
    ) -> Result<(), NetworkError> {
        let broker = Arc::clone(&self.seams.broker);
        let node = Node { id, broker, models: started_models::load(models).await? };
        self.add_node(config.worker.clone(), node).await
    }

    /// Runs one more node, which was registered before, in this process until the network ends.
    ///
    /// # Errors
    /// [`NetworkError::Residents`] if its queue cannot be declared.
    pub async fn add_node(&mut self, worker: infera_worker::Config, node: Node) -> Result<(), NetworkError> {
        let queue = node::declare_queue(self.seams.broker.as_ref(), &node.id).await?;
        let shutdown = self.stages[2].clone();
        self.nodes.spawn(async move {
            let ended = node.run(worker, queue, shutdown).await;
            ended.map_err(|error| NetworkError::Role { role: "node", cause: error.to_string() })
        });
        Ok(())
    }

    /// Registers a node under an owner of its own, for [`Network::add_node`].
    ///
    /// # Errors
    /// [`NetworkError::Residents`].
    pub async fn register(&self, name: &str) -> Result<infera_ledger::NodeRecord, NetworkError> {
        Ok(residents::node(&self.seams, &self.data, name).await?)
    }

    /// Runs until shutdown or until a role ends by itself; then ends the others, the gateway first.
    ///
    /// # Errors
    /// [`NetworkError::Role`] if a role ended by itself or with an error.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), NetworkError> {
        let mut outcome = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            result = first(&mut self.gateway) => result.and_then(|()| gone("gateway")),
            result = first(&mut self.verifier) => result.and_then(|()| gone("verifier")),
            result = first(&mut self.nodes) => result.and_then(|()| gone("node")),
        };
        let [gateway, verifier, nodes] = &self.stages;
        for (stage, roles) in
            [(gateway, &mut self.gateway), (verifier, &mut self.verifier), (nodes, &mut self.nodes)]
        {
            stage.cancel();
            while let Some(result) = roles.join_next().await {
                outcome = outcome.and(joined(result));
            }
        }
        outcome
    }
}

/// Waits for the next role of a set to end; for ever while the set is empty.
async fn first(roles: &mut JoinSet<Result<(), NetworkError>>) -> Result<(), NetworkError> {
    match roles.join_next().await {
        Some(result) => joined(result),
        None => std::future::pending().await,
    }
}

fn joined(result: Result<Result<(), NetworkError>, tokio::task::JoinError>) -> Result<(), NetworkError> {
    result.unwrap_or_else(|panic| Err(NetworkError::Role { role: "a role", cause: panic.to_string() }))
}

fn gone(role: &'static str) -> Result<(), NetworkError> {
    Err(NetworkError::Role { role, cause: "it was not asked to".to_owned() })
}

async fn listen(address: &ListenAddress) -> Result<TcpListener, NetworkError> {
    let bound = address.bind().await;
    bound.map_err(|source| NetworkError::Listen { address: address.clone(), source })
}

/// Lists a model that the nodes serve. It is what this process is started for, so it comes back if it was removed, and replaces
/// what the name stood for.
async fn list(seams: &Seams, model: &StartedModel) -> Result<(), NetworkError> {
    let added = orders::add(seams.ledger.as_ref(), model.entry.clone(), true).await?;
    if matches!(added, Added::Back | Added::Replaced) {
        tracing::warn!(model = %model.name, "{}: `infera up` serves it", added.sentence(&model.name));
    }
    Ok(())
}
