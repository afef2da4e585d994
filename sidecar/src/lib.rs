//! The sidecar: stands in front of one app, counts the requests in flight and tells the aggregators.
//!
//! Puts together the relay, the readiness watch and the reporter. Knows nothing of Kubernetes' API: what it has to know
//! is in its environment.

use std::{io, net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use stillwake_proto::report::{Hello, Port, Role};
use stillwake_proxy::{
    drain::Drain,
    ignore::IgnoreRules,
    in_flight::InFlight,
    listener,
    relay::{Relay, RelaySettings, Upstream},
};
use stillwake_redirect::PortRedirect;
use stillwake_reporting::{Reporter, ReportingConfig, random_epoch};
use stillwake_runtime::{
    accept::{self, BindError},
    admin::Admin,
    limits,
    logging::{self, LoggingError},
    metrics::registry,
    readiness::Readiness,
    shutdown::Shutdown,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use control::ControlError;
pub use stillwake_redirect::RedirectError;

use crate::{
    departure::{Departure, Step},
    env::{Config, PortPair},
    metrics::Pages,
    source::{SidecarSource, State},
};

pub mod command;
mod control;
mod departure;
pub mod env;
mod metrics;
mod readiness;
mod source;
mod successor;

/// How long the last reports may take once nothing is served any more.
const LAST_REPORT_LIMIT: Duration = Duration::from_secs(2);

/// Reasons why the sidecar could not run to its regular end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Logging could not be set up.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// A port could not be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The control socket could not be listened on, or nobody was there to be told to drain.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The runtime or its signal handlers could not be set up.
    #[error("cannot set up the runtime: {0}")]
    Runtime(#[source] io::Error),
    /// Something that serves ended by a panic.
    #[error("the relay broke off: {0}")]
    Broken(#[from] JoinError),
}

/// Runs the sidecar until a signal has ended it.
///
/// A drain begins with SIGTERM or SIGINT, or before that by the control socket: the aggregators hear of it, responses say
/// `Connection: close`, and connections are still accepted. With an activator, those that the app does not take any more go
/// there, and connections are accepted for the linger at least. It returns once there was a signal and every connection
/// has ended or the grace is over, at a second signal at once.
///
/// # Errors
///
/// Fails if a port cannot be listened on or the process cannot be set up.
pub fn run(config: Config) -> Result<(), RunError> {
    logging::init(&config.log_filter, config.log_format)?;
    limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    runtime.block_on(async {
        let shutdown = Shutdown::on_signals().map_err(RunError::Runtime)?;
        serve(config, shutdown).await
    })
}

/// Tells the sidecar that listens on the control socket `name` to drain, and returns once it says that it does.
///
/// # Errors
///
/// Says why it does not. Takes 5 s at most.
pub fn drain(name: &str) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    Ok(runtime.block_on(control::ask_to_drain(name))?)
}

/// Makes connections from outside the pod for each app port arrive at its listen port, in the network namespace of this
/// process.
///
/// # Errors
///
/// Says what is missing, such as the capability `NET_ADMIN`.
pub fn redirect(ports: &[PortPair]) -> Result<(), RedirectError> {
    let redirects = ports
        .iter()
        .map(|&PortPair { listen, app }| PortRedirect { listen, app });
    stillwake_redirect::apply(&redirects.collect::<Vec<_>>())
}

/// Serves until `shutdown` has ended it.
async fn serve(config: Config, shutdown: Shutdown) -> Result<(), RunError> {
    let listeners = bind(&config).await?;
    let admin = match config.admin {
        Some(address) => Some(accept::bind("the admin pages", address)?),
        None => None,
    };
    let control = config.control.as_deref().map(control::bind).transpose()?;
    // Stops what runs in the background, however this function is left.
    let stop = CancellationToken::new();
    let _stopped: DropGuard = stop.clone().drop_guard();

    let (ready, app_ready) = watch::channel(false);
    let state = State {
        in_flight: InFlight::new(),
        app_ready,
        drain: Drain::default(),
    };
    if let Some(listener) = control {
        tokio::spawn(until(
            stop.clone(),
            control::serve(listener, state.drain.clone()),
        ));
    }
    let app_address = config.app_address();
    tokio::spawn(until(
        stop.clone(),
        readiness::watch_app(config.readiness.clone(), app_address, ready),
    ));
    let source = SidecarSource::new(state.clone());
    tokio::spawn(until(stop.clone(), Arc::clone(&source).follow()));

    let sockets: Vec<_> = listeners
        .iter()
        .map(|bound| (bound.address, bound.app))
        .collect();
    let mut relay = Relay::new(relay_settings(&config), state.in_flight.clone());
    let mut linger = Duration::ZERO;
    if let Some(name) = config.activator.clone() {
        let (uid, drain) = (config.pod.uid.clone(), state.drain.clone());
        let (successor, finding) = successor::activator(name, uid, drain);
        tokio::spawn(until(stop.clone(), finding));
        relay = relay.with_successor(successor);
        linger = config.linger;
    }
    let relay = Arc::new(relay);
    let reporter = Reporter::new(reporting(&config, &sockets), source);
    if let Some(listener) = admin {
        let pages = Pages {
            state: state.clone(),
            reporting: reporter.status(),
            relay: Arc::clone(&relay),
            ports: sockets,
        };
        serve_admin(listener, pages, stop.clone());
    }
    // A sidecar has no use for endpoints, and is not told of any.
    let (endpoints, _) = mpsc::channel(1);
    let silence = CancellationToken::new();
    let reporting = tokio::spawn(reporter.run(endpoints, silence.clone()));

    let mut served = JoinSet::new();
    for Bound {
        listener,
        address,
        app,
    } in listeners
    {
        tracing::info!(%address, app, "Listening");
        served.spawn(listener::serve(
            listener,
            Upstream::SameAddress { port: app },
            Arc::clone(&relay),
            state.drain.clone(),
            shutdown.abort.clone(),
        ));
    }
    let departure = Departure::new(linger, config.drain_grace);
    let drained = end(served, &state, &shutdown, departure).await;

    silence.cancel();
    if timeout(LAST_REPORT_LIMIT, reporting).await.is_err() {
        tracing::debug!("An aggregator did not take the last report in time");
    }
    drained
}

/// Waits for the end of all that is served: of itself once told to leave, or cut after the grace.
async fn end(
    mut served: JoinSet<()>,
    state: &State,
    shutdown: &Shutdown,
    mut departure: Departure,
) -> Result<(), RunError> {
    loop {
        let due = departure.next_due();
        tokio::select! {
            () = shutdown.drain.cancelled(), if !departure.is_told() => {
                departure.stop(Instant::now());
                state.drain.begin();
            }
            () = state.drain.draining(), if !departure.is_draining() => {
                departure.drain(Instant::now());
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                match departure.next_step(Instant::now()) {
                    Some(Step::Leave) => state.drain.leave(),
                    Some(Step::Cut) => {
                        let in_flight = state.in_flight.snapshot().in_flight;
                        let grace = departure.grace();
                        tracing::warn!(in_flight, ?grace, "The grace is over, cutting what is left");
                        shutdown.abort.cancel();
                    }
                    None => {}
                }
            }
            ended = served.join_next() => match ended {
                Some(ended) => ended?,
                None => return Ok(()),
            },
        }
    }
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    stop.run_until_cancelled(work).await;
}

fn serve_admin(listener: TcpListener, pages: Pages, stop: CancellationToken) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "Serving admin pages");
    }
    let mut registry = registry("sidecar");
    registry.register_collector(Box::new(pages.clone()));
    // Every socket is bound by now: the sidecar takes connections, whatever the app does.
    let admin = Admin::new(Readiness::default(), registry, move || pages.debug_state());
    tokio::spawn(admin.serve(listener, stop));
}

/// A socket that is listened on, and the app's port behind it.
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    app: u16,
}

async fn bind(config: &Config) -> Result<Vec<Bound>, RunError> {
    let address = match config.address {
        Some(address) => address,
        None => all_addresses().await,
    };
    let mut listeners = Vec::with_capacity(config.ports.len());
    for PortPair { listen, app } in &config.ports {
        let what = format!("app port {app}");
        let listener = accept::bind(&what, (address, *listen).into())?;
        let address = listener.local_addr().map_err(RunError::Runtime)?;
        listeners.push(Bound {
            listener,
            address,
            app: *app,
        });
    }
    Ok(listeners)
}

/// Returns the address that stands for all: of IPv6, which takes IPv4 as well, unless this machine has none.
async fn all_addresses() -> IpAddr {
    match TcpListener::bind((IpAddr::from([0; 16]), 0)).await {
        Ok(_) => IpAddr::from([0; 16]),
        Err(_) => IpAddr::from([0; 4]),
    }
}

fn reporting(config: &Config, sockets: &[(SocketAddr, u16)]) -> ReportingConfig {
    let ports = sockets.iter().map(|(listen, app)| Port {
        listen: listen.port().into(),
        app: (*app).into(),
    });
    let address = config.pod.address;
    let hello = Hello {
        epoch: random_epoch(),
        role: Role::Sidecar.into(),
        namespace: config.pod.namespace.clone(),
        pod: config.pod.name.clone(),
        uid: config.pod.uid.clone(),
        address: address
            .map(|address| address.to_string())
            .unwrap_or_default(),
        ports: ports.collect(),
        ..Hello::default()
    };
    ReportingConfig {
        trust: config.trust.clone(),
        token_file: config.token_file.clone(),
        ..ReportingConfig::new(config.aggregators.clone(), hello)
    }
}

fn relay_settings(config: &Config) -> RelaySettings {
    let mut ignore = IgnoreRules::default();
    ignore
        .path_prefixes
        .extend(config.ignore_paths.iter().cloned());
    ignore
        .user_agent_prefixes
        .extend(config.ignore_user_agents.iter().cloned());
    RelaySettings {
        opaque_idle_window: config.idle_window,
        stop_delay: config.stop_delay,
        ignore,
        ..RelaySettings::default()
    }
}

#[cfg(test)]
mod tests;
