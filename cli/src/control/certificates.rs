//! A role's certificate, wherever it comes from: kept or followed in the shared authorities, or supplied by somebody else.
//!
//! Only loops and tells; what a turn does is in `stillwake-certs`.

use std::{error::Error, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Client;
use parking_lot::RwLock;
use stillwake_certs::{
    authorities::Phase,
    follower::Follower,
    keeper::{Keeper, Publisher as _, Surroundings, TurnError},
    kubernetes::{AuthoritiesSecret, LeaseObject, SuppliedSecret, WebhookConfigurations},
    leaf::{LeafRequest, Purpose, service_names},
    lease::Contender,
    replica::Replica,
    resolver::Resolver,
    rotation::Settings,
    supplied::Supplied,
    trust::{self, Trusted},
};
use stillwake_runtime::readiness::Latch;
use stillwake_webhook::authorities;
use tokio::time::{error::Elapsed, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    args::{CertificateArgs, ProcessArgs},
    held::Held,
    process::{Background, RoleError, chain},
};

/// How often the shared state is read.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long an attempt may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a leader leads without a turn of its own: several of them may fail.
const LEASE: Duration = Duration::from_secs(20);

/// What of its certificates a role hands on.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    /// Presents the newest leaf.
    pub(super) resolver: Arc<Resolver>,
    bundle: Bundle,
}

#[derive(Clone, Debug)]
enum Bundle {
    Shared(Arc<RwLock<Replica>>),
    Supplied(Arc<ArcSwapOption<trust::Bundle>>),
}

impl Certificates {
    /// Returns the authorities to hand to sidecars; `None` while that is not known well enough.
    pub(super) fn bundle(&self) -> Option<authorities::Bundle> {
        let handed = |bundle: &trust::Bundle| authorities::Bundle {
            pem: bundle.pem().into(),
            name: bundle.trusted().to_string().into(),
        };
        match &self.bundle {
            Bundle::Shared(replica) => replica.read().bundle(Timestamp::now()).map(handed),
            Bundle::Supplied(bundle) => bundle.load().as_deref().map(handed),
        }
    }

    /// Returns what is served, for people.
    pub(super) fn debug_state(&self) -> serde_json::Value {
        let Bundle::Shared(replica) = &self.bundle else {
            return serde_json::json!({"source": "supplied"});
        };
        let replica = replica.read();
        let authorities = replica.authorities(Timestamp::now());
        let phase = authorities.map(|authorities| match authorities.phase() {
            Phase::Settled => "settled",
            Phase::Announced(_) => "announced",
            Phase::Overlapping(_) => "overlapping",
        });
        let leaf = replica.leaf();
        serde_json::json!({
            "source": "shared authorities",
            "phase": phase,
            "trusted": authorities.map(|authorities| authorities.trusted().to_string()),
            "leaf_issuer": leaf.map(|leaf| leaf.issuer().to_string()),
            "leaf_expires": leaf.map(|leaf| leaf.validity().not_after.to_string()),
        })
    }
}

/// Where a role's certificate comes from, as its flags say.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// The authorities that all replicas share.
    Shared {
        /// Where they are.
        authorities: AuthoritiesSecret,
        /// How long they and their leaves live.
        settings: Settings,
        /// What the leaf has to say.
        request: LeafRequest,
    },
    /// Somebody else.
    Supplied(SuppliedSecret),
}

impl Origin {
    /// Reads the flags of a role that is reached through `services`.
    pub(super) fn new(
        args: &CertificateArgs,
        process: &ProcessArgs,
        services: &[&str],
        client: &Client,
    ) -> Result<Self, RoleError> {
        let namespace = &process.namespace;
        let Some(secret) = &args.authorities_secret else {
            // One of both is there, the flags see to that.
            let secret = args.certificate_secret.as_deref().unwrap_or_default();
            let supplied = SuppliedSecret::new(client.clone(), namespace, secret);
            return Ok(Self::Supplied(supplied));
        };
        let settings = args.settings();
        settings.validate().map_err(|error| {
            RoleError::flag(
                "--authority-lifetime, --leaf-lifetime, --settle or --clock-skew",
                error,
            )
        })?;
        let names = services
            .iter()
            .flat_map(|service| service_names(service, namespace, &process.cluster_domain));
        let request = LeafRequest::new(names, Purpose::Server, settings.leaf_lifetime);
        Ok(Self::Shared {
            authorities: AuthoritiesSecret::new(client.clone(), namespace, secret),
            settings,
            request: request.map_err(|error| {
                RoleError::flag("a Service's name, --namespace or --cluster-domain", error)
            })?,
        })
    }
}

/// Where the authorities are published for the API server.
pub(super) type Configuration = WebhookConfigurations<MutatingWebhookConfiguration>;

/// What it takes to keep the shared authorities, besides to follow them.
#[derive(Clone, Debug)]
pub(super) struct Keeping {
    /// By which a replica is chosen.
    pub(super) lease: LeaseObject,
    /// This replica.
    pub(super) name: String,
    /// Who must be able to verify what is served.
    pub(super) configuration: Configuration,
}

/// Begins the certificates of a role that keeps the shared authorities, and publishes them, or what is supplied instead if
/// it is to. `latch` is dropped once they are published.
pub(super) async fn keep(
    origin: Origin,
    keeping: Keeping,
    publishes_supplied: bool,
    held: Held,
    latch: Latch,
    background: &Background,
) -> Certificates {
    let (authorities, settings, request) = match origin {
        Origin::Shared {
            authorities,
            settings,
            request,
        } => (authorities, settings, request),
        Origin::Supplied(secret) => {
            let publisher = publishes_supplied.then_some(keeping.configuration);
            return of_supplied(secret, publisher, latch, background).await;
        }
    };
    let keeper = until_begun(|| {
        let surroundings = Surroundings {
            authorities: authorities.clone(),
            lease: Contender::new(keeping.lease.clone(), keeping.name.clone(), LEASE),
            publisher: keeping.configuration.clone(),
            clock: Timestamp::now as fn() -> Timestamp,
        };
        Keeper::begin(settings.clone(), request.clone(), surroundings)
    })
    .await;
    let certificates = Certificates {
        resolver: Arc::clone(keeper.resolver()),
        bundle: Bundle::Shared(Arc::clone(keeper.replica())),
    };
    let turns = take_turns(keeper, authorities, held, latch, background.stop.clone());
    background.tasks.spawn(turns);
    certificates
}

/// Begins the certificates of a role that only serves them. `latch` is dropped at once.
pub(super) async fn follow(origin: Origin, latch: Latch, background: &Background) -> Certificates {
    let (authorities, settings, request) = match origin {
        Origin::Shared {
            authorities,
            settings,
            request,
        } => (authorities, settings, request),
        Origin::Supplied(secret) => return of_supplied(secret, None, latch, background).await,
    };
    let mut follower = until_begun(|| {
        let (settings, request) = (settings.clone(), request.clone());
        Follower::begin(settings, request, authorities.clone(), Timestamp::now)
    })
    .await;
    drop(latch);
    let certificates = Certificates {
        resolver: Arc::clone(follower.resolver()),
        bundle: Bundle::Shared(Arc::clone(follower.replica())),
    };
    background.spawn(async move {
        let mut trouble = Trouble::default();
        loop {
            sleep(INTERVAL).await;
            trouble.note(timeout(PATIENCE, follower.turn()).await);
        }
    });
    certificates
}

async fn of_supplied(
    secret: SuppliedSecret,
    publisher: Option<Configuration>,
    latch: Latch,
    background: &Background,
) -> Certificates {
    let supplied = until_begun(|| Supplied::begin(secret.clone())).await;
    let certificates = Certificates {
        resolver: Arc::clone(supplied.resolver()),
        bundle: Bundle::Supplied(Arc::clone(supplied.bundle())),
    };
    background.spawn(refresh(supplied, publisher, latch));
    certificates
}

/// Tries until it works: what is missing at an installation's start comes.
async fn until_begun<T, E: Error, F: Future<Output = Result<T, E>>>(begin: impl Fn() -> F) -> T {
    let mut trouble = Trouble::default();
    loop {
        match timeout(PATIENCE, begin()).await {
            Ok(Ok(begun)) => return begun,
            failed => trouble.note(failed),
        }
        sleep(INTERVAL / 5).await;
    }
}

/// Takes the keeper's turns until `stop`, and then gives up the lease.
async fn take_turns(
    mut keeper: Keeper<AuthoritiesSecret, LeaseObject, Configuration, fn() -> Timestamp>,
    authorities: AuthoritiesSecret,
    mut held: Held,
    latch: Latch,
    stop: CancellationToken,
) {
    let mut trouble = Trouble::default();
    let mut latch = Some(latch);
    let mut leads = false;
    loop {
        let turn = async {
            let retire = authorities.retire().await?;
            let overlaps = leads && overlaps(keeper.replica());
            let held: Option<Vec<Trusted>> = if overlaps { held.known().await } else { None };
            keeper.turn(held, retire).await
        };
        let Some(turn) = stop.run_until_cancelled(timeout(PATIENCE, turn)).await else {
            break;
        };
        let pause = match &turn {
            Ok(Ok(turn)) => {
                leads = turn.leads;
                if turn.published {
                    latch = None;
                }
                // What was changed is to be published, and others wait for it.
                if turn.changed.is_some() || latch.is_some() {
                    INTERVAL / 10
                } else {
                    INTERVAL
                }
            }
            _ => INTERVAL,
        };
        trouble.note(turn);
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            break;
        }
    }
    // Otherwise the lease ends by itself.
    let _ = timeout(PATIENCE, keeper.step_down()).await;
}

/// Whether a predecessor is still trusted, and so who holds which bundle is of interest.
fn overlaps(replica: &RwLock<Replica>) -> bool {
    let replica = replica.read();
    let authorities = replica.authorities(Timestamp::now());
    authorities.is_some_and(|authorities| matches!(authorities.phase(), Phase::Overlapping(_)))
}

/// Serves what is supplied, and publishes its authorities if nobody else does.
async fn refresh(
    mut supplied: Supplied<SuppliedSecret>,
    publisher: Option<Configuration>,
    latch: Latch,
) {
    let mut trouble = Trouble::default();
    let mut unpublished = Some(latch);
    loop {
        trouble.note(timeout(PATIENCE, supplied.refresh()).await);
        let published = match (&publisher, supplied.bundle().load_full()) {
            (Some(publisher), Some(bundle)) => {
                let publish = async {
                    let published = publisher.published().await?;
                    if published.as_ref() != Some(&bundle.trusted()) {
                        publisher.publish(&bundle).await?;
                    }
                    Ok::<_, TurnError>(())
                };
                let published = timeout(PATIENCE, publish).await;
                let done = matches!(published, Ok(Ok(())));
                trouble.note(published);
                done
            }
            (Some(_), None) => {
                trouble.tell("the supplied Secret has no ca.crt, so there is nothing to publish");
                false
            }
            (None, _) => true,
        };
        if published {
            drop(unpublished.take());
        }
        sleep(INTERVAL).await;
    }
}

/// Tells the first failure of an outage loudly, and the others to those who look.
#[derive(Debug, Default)]
struct Trouble {
    fails: bool,
}

impl Trouble {
    fn note<T, E: Error>(&mut self, turn: Result<Result<T, E>, Elapsed>) {
        match turn {
            Ok(Ok(_)) => {
                if std::mem::take(&mut self.fails) {
                    tracing::info!("Certificates are kept up to date again");
                }
            }
            Ok(Err(error)) => self.tell(&chain(&error)),
            Err(_) => self.tell(&format!("the API server has not answered for {PATIENCE:?}")),
        }
    }

    fn tell(&mut self, error: &str) {
        if std::mem::replace(&mut self.fails, true) {
            tracing::debug!(error, "Cannot keep certificates up to date");
        } else {
            tracing::warn!(error, "Cannot keep certificates up to date, trying again");
        }
    }
}
