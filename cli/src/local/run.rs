//! Local mode as a whole: starts its parts, wires them together, and takes them down in the right order.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use stillwake_activator as activator;
use stillwake_runtime::{accept::bind, limits, shutdown::Shutdown};
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint as Address;

use crate::local::{
    check::{CheckError, check_start},
    fleet::Fleet,
    guardian::Guardian,
    options::Options,
    output::{Output, Writer, output},
    process::find_program,
    scaler::{self, Scaler},
    supervisor::{self, Supervisor},
};

mod common;
mod error;
mod parts;
mod routes;
mod state;

use common::Common;
pub use error::RunError;
use parts::{WAITING_ENDPOINTS, scaler_settings, sidecar};

/// Namespace of what local mode scales.
const NAMESPACE: &str = "local";

/// How long our own parts may take to find each other on loopback, and to end when nothing uses them any more.
const OWN_PARTS: Duration = Duration::from_secs(5);

/// Time between two looks at something that tells no change.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A running local mode.
#[derive(Debug)]
pub struct Local {
    listen: SocketAddr,
    admin: SocketAddr,
    command: String,
    common: Common,
    scaler: watch::Receiver<scaler::View>,
    fleet: watch::Receiver<supervisor::View>,
    parts: Parts,
    writer: Writer,
    // Last: it goes when everything that it watches has gone.
    guardian: Guardian,
}

/// What ends by itself once its stage is over, and is waited for one after the other.
#[derive(Debug)]
struct Parts {
    service: JoinHandle<()>,
    activator: JoinHandle<()>,
    scaler: JoinHandle<()>,
    supervisor: JoinHandle<()>,
}

struct Addresses {
    service: SocketAddr,
    admin: SocketAddr,
    scaler: SocketAddr,
    activator: SocketAddr,
    ingest: SocketAddr,
}

struct Listeners {
    service: TcpListener,
    admin: TcpListener,
    scaler: TcpListener,
    activator: TcpListener,
    ingest: TcpListener,
}

impl Local {
    /// Starts local mode and returns once it takes requests. If that fails, nothing is left behind.
    ///
    /// # Errors
    ///
    /// Says what is wrong and how to mend it.
    pub async fn start(options: Options, shutdown: &Shutdown) -> Result<Self, RunError> {
        let program = options.command.first().map_or("", String::as_str);
        let path = std::env::var_os("PATH");
        if let Err(reason) = find_program(program, path.as_deref()) {
            return Err(RunError::Command {
                program: program.to_owned(),
                reason,
            });
        }
        let sidecar = sidecar(&options)?;
        limits::raise_open_files();
        let listeners = Listeners::bind(&options)?;
        let guardian = std::env::current_exe()
            .and_then(|program| Guardian::start(&program))
            .map_err(part("the guardian"))?;
        let (output, writer) = output(options.show_output);
        if options.check && options.keda.min == 0 {
            let limits = (options.startup_timeout, options.grace);
            let checked = check_start(&options.command, limits, &output, &guardian, shutdown).await;
            if let Err(error) = checked {
                drop(output);
                writer.finish().await;
                return Err(match error {
                    CheckError::Interrupted => RunError::Interrupted,
                    error => RunError::Check(error),
                });
            }
        }
        let local = Self::wire(
            &options,
            sidecar,
            listeners,
            (guardian, output, writer),
            shutdown,
        )?;
        local.wait_until_up(options.keda.min, shutdown).await
    }

    fn wire(
        options: &Options,
        sidecar: PathBuf,
        listeners: Listeners,
        (guardian, output, writer): (Guardian, Output, Writer),
        shutdown: &Shutdown,
    ) -> Result<Self, RunError> {
        let addresses = listeners.addresses()?;
        let common = Common::new(options, addresses.activator, shutdown);
        let (view, fleet) = watch::channel(supervisor::View::default());
        let (scaler_view, scaler_shown) = watch::channel(scaler::View::default());
        let (desired, wanted) = watch::channel(options.keda.min);
        let (news, told) = mpsc::channel(WAITING_ENDPOINTS);
        let Common {
            stages, background, ..
        } = &common;

        let pages = common.pages(addresses.scaler, scaler_shown.clone(), fleet.clone());
        let serving = pages.serve(listeners.admin, stages.serving.clone());
        background.spawn(serving);
        common.spawn_aggregator(listeners.ingest, listeners.scaler);
        common.spawn_reporter(addresses.ingest, news);
        let supervisor = Supervisor::new(
            common.template(options, sidecar, addresses.ingest),
            Fleet::new(options.startup_timeout),
            view,
            (output, guardian.clone(), common.metrics.clone()),
            common.routes(),
        );
        let channel = Address::from_shared(format!("http://{}", addresses.scaler))
            .map_err(|error| part("the scaler")(io::Error::other(error)))?
            .connect_lazy();
        let scaler = Scaler::new(
            scaler_settings(options, &common.workload, addresses.scaler),
            channel,
            fleet.clone(),
            desired,
            scaler_view,
            common.metrics.clone(),
        );
        let replicas = Shutdown {
            drain: CancellationToken::new(),
            abort: stages.abort.clone(),
        };
        let (scaling, drain) = (stages.scaling.clone(), replicas.drain.clone());
        let parts = Parts {
            service: common.spawn_service(listeners.service),
            activator: common.spawn_activator(listeners.activator, options.grace),
            scaler: tokio::spawn(scaler.run(stages.scaling.clone())),
            supervisor: tokio::spawn(async move {
                tokio::join!(supervisor.run(wanted, told, replicas), async {
                    scaling.cancelled().await;
                    drain.cancel();
                });
            }),
        };
        Ok(Self {
            listen: addresses.service,
            admin: addresses.admin,
            command: one_line(&options.command),
            common,
            scaler: scaler_shown,
            fleet,
            parts,
            writer,
            guardian,
        })
    }

    /// Waits until our parts have found each other and, if there are to be replicas at once, until one is ready.
    async fn wait_until_up(mut self, min: u32, shutdown: &Shutdown) -> Result<Self, RunError> {
        let readiness = self.common.readiness.clone();
        let connected = async {
            while !readiness.is_ready() {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let mut problem = None;
        if tokio::time::timeout(OWN_PARTS, connected).await.is_err() {
            let source = io::Error::other("the activator cannot reach the aggregator on loopback");
            problem = Some(part("the aggregator")(source));
        } else if min > 0 {
            let decided = |view: &supervisor::View| view.ready() > 0 || view.failures > 0;
            problem = tokio::select! {
                view = self.fleet.wait_for(decided) => match view {
                    Ok(view) if view.ready() == 0 => {
                        Some(RunError::FirstReplica(view.last_failure.clone().unwrap_or_default()))
                    }
                    _ => None,
                },
                () = shutdown.drain.cancelled() => Some(RunError::Interrupted),
            };
        }
        match problem {
            None => Ok(self),
            Some(problem) => {
                shutdown.drain.cancel();
                self.take_down().await;
                Err(problem)
            }
        }
    }

    /// Returns the line that says where everything is.
    pub fn ready_line(&self) -> String {
        let ready = self.fleet.borrow().ready();
        let replicas = if ready == 1 { "replica" } else { "replicas" };
        format!(
            "Ready: http://{} → {ready} {replicas} of {}; state at http://{}/debug/state",
            self.listen, self.command, self.admin
        )
    }

    /// Returns where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Returns what the scaler does.
    pub fn scaler(&self) -> watch::Receiver<scaler::View> {
        self.scaler.clone()
    }

    /// Returns which replicas there are.
    pub fn fleet(&self) -> watch::Receiver<supervisor::View> {
        self.fleet.clone()
    }

    /// Returns the cold starts from now on.
    pub fn cold_starts(&self) -> broadcast::Receiver<activator::ColdStart> {
        self.common.activator.cold_starts()
    }

    /// Serves until the shutdown drains, then finishes everything and stops every process.
    ///
    /// # Errors
    ///
    /// Fails if the shutdown was aborted before everything was finished; no process is left then either.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), RunError> {
        shutdown.drain.cancelled().await;
        self.take_down().await;
        if shutdown.abort.is_cancelled() {
            Err(RunError::Forced)
        } else {
            Ok(())
        }
    }

    /// Takes everything down, clients' side first. Drain was asked for already.
    async fn take_down(self) {
        let Self {
            common,
            parts,
            writer,
            guardian,
            ..
        } = self;
        let Common {
            readiness,
            stages,
            background,
            ..
        } = common;
        readiness.stop();
        // Waiting requests are still released, so the scaler and the replicas go on until none is left.
        ended("activator", parts.activator).await;
        stages.scaling.cancel();
        ended("scaler", parts.scaler).await;
        ended("supervisor", parts.supervisor).await;
        // Its connections have nobody at their other end any more.
        ended("service", parts.service).await;
        stages.serving.cancel();
        background.close();
        if tokio::time::timeout(OWN_PARTS, background.wait())
            .await
            .is_err()
        {
            tracing::warn!(within = ?OWN_PARTS, "Own parts did not end in time");
        }
        writer.finish().await;
        drop(guardian);
    }
}

impl Listeners {
    fn bind(options: &Options) -> Result<Self, RunError> {
        let flagged = |flag| move |source| RunError::BindFlag { flag, source };
        let internal = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Self {
            service: bind("clients", options.listen).map_err(flagged("listen"))?,
            admin: bind("the admin pages", options.admin).map_err(flagged("admin"))?,
            scaler: bind("KEDA's gRPC", options.scaler).map_err(flagged("scaler"))?,
            activator: bind("the activator", internal)?,
            ingest: bind("reports", internal)?,
        })
    }

    fn addresses(&self) -> Result<Addresses, RunError> {
        let address = |listener: &TcpListener| listener.local_addr().map_err(part("a listener"));
        Ok(Addresses {
            service: address(&self.service)?,
            admin: address(&self.admin)?,
            scaler: address(&self.scaler)?,
            activator: address(&self.activator)?,
            ingest: address(&self.ingest)?,
        })
    }
}

/// A script among the words may have several lines.
fn one_line(command: &[String]) -> String {
    let words: Vec<_> = command
        .iter()
        .flat_map(|word| word.split_whitespace())
        .collect();
    words.join(" ")
}

fn part(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Part { what, source }
}

async fn ended(part: &'static str, task: JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(part, %error, "A part of local mode ended early");
    }
}
