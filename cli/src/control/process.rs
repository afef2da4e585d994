//! What the process of every role does alike: admin pages, readiness, and an end that nobody notices.

use std::{error::Error, io, time::Duration};

use prometheus_client::registry::Registry;
use stillwake_cluster::{
    Metrics,
    events::{self, Events},
};
use stillwake_runtime::{
    accept::{BindError, bind},
    admin::Admin,
    readiness::Readiness,
    shutdown::Shutdown,
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::args::ProcessArgs;

/// How long what is in progress may take once nothing new is taken, unless a role asks for more.
const FINISH_LIMIT: Duration = Duration::from_secs(10);

/// Reasons why a role could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// A port could not be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A flag's value is of no use.
    #[error("{flag}: {}", chain(source.as_ref()))]
    Flag {
        /// Which.
        flag: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is no way to the API server.
    #[error("cannot use the Kubernetes API: {}", chain(source.as_ref()))]
    Client {
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Signals cannot be taken.
    #[error("cannot take signals: {0}")]
    Signals(#[from] io::Error),
    /// A server broke off.
    #[error("{what} broke off: {}", chain(source.as_ref()))]
    Broken {
        /// Which.
        what: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl RoleError {
    /// Says which flag is of no use, and why.
    pub(super) fn flag(flag: &'static str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Flag {
            flag,
            source: source.into(),
        }
    }

    /// Whether the command line is to blame, and trying again would not help.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Flag { .. })
    }
}

/// Returns an error with what caused it, for a person who sees only this line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Returns a client of the API server for a role.
pub(super) async fn connect(role: &str) -> Result<kube::Client, RoleError> {
    let client = stillwake_cluster::client::connect(role).await;
    client.map_err(|error| RoleError::Client {
        source: error.into(),
    })
}

/// Returns where a role hands in what people should be told, and has it published until `background` stops.
pub(super) fn publish_events(
    role: &str,
    process: &ProcessArgs,
    client: kube::Client,
    metrics: &Metrics,
    background: &Background,
) -> Events {
    let (events, publisher) = events::events(metrics);
    let (component, pod) = (format!("stillwake-{role}"), process.name.clone());
    background.spawn(async move { match publisher.run(client, component, pod).await {} });
    events
}

/// What runs beside the admin pages. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Background {
    /// Cancelled when nothing new is to be taken.
    pub(super) stop: CancellationToken,
    /// What is waited for after that.
    pub(super) tasks: TaskTracker,
}

impl Background {
    /// Runs `work` until it ends or everything does.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
    }
}

/// A role's process from its start to its end.
#[derive(Debug)]
pub(super) struct Process {
    /// What has to come up before others are sent here.
    pub(super) readiness: Readiness,
    /// What runs beside the admin pages.
    pub(super) background: Background,
    /// How long what is in progress may take once nothing new is taken.
    pub(super) finish_limit: Duration,
    /// What signals have asked for: to stop being sent work, before [`Background::stop`], and to break off.
    pub(super) shutdown: Shutdown,
    drain_delay: Duration,
    admin: TcpListener,
}

impl Process {
    /// Takes signals and the admin port.
    pub(super) fn begin(args: &ProcessArgs) -> Result<Self, RoleError> {
        stillwake_runtime::limits::raise_open_files();
        Ok(Self {
            readiness: Readiness::default(),
            background: Background::default(),
            finish_limit: FINISH_LIMIT,
            shutdown: Shutdown::on_signals()?,
            drain_delay: args.drain_delay,
            admin: bind("the admin pages", args.admin)?,
        })
    }

    /// Serves the admin pages, and waits for the end: told to stop, it becomes unready and goes on for a while, until
    /// nobody is sent here any more; then it takes nothing new and finishes what it has.
    pub(super) async fn run(
        self,
        registry: Registry,
        state: impl Fn() -> serde_json::Value + Send + Sync + 'static,
    ) -> Result<(), RoleError> {
        let admin = Admin::new(self.readiness.clone(), registry, state);
        // Until the very end: whoever watches the end wants to see it.
        let end = CancellationToken::new();
        let pages = tokio::spawn(admin.serve(self.admin, end.clone()));
        self.shutdown.drain.cancelled().await;
        self.readiness.stop();
        tokio::select! {
            () = tokio::time::sleep(self.drain_delay) => {}
            () = self.shutdown.abort.cancelled() => {}
        }
        let Background { stop, tasks } = self.background;
        stop.cancel();
        tasks.close();
        if timeout(self.finish_limit, tasks.wait()).await.is_err() {
            tracing::warn!(limit = ?self.finish_limit, "Stopping although not everything has finished");
        }
        end.cancel();
        pages.await.map_err(|error| RoleError::Broken {
            what: "the server of the admin pages",
            source: error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn an_error_is_told_with_its_causes_once_each() {
        let cause = io::Error::other("the cause");
        assert_eq!(chain(&Outer(cause)), "outer: the cause");
        let repeated = RoleError::flag("--file", Outer(io::Error::other("the cause")));
        assert_eq!(repeated.to_string(), "--file: outer: the cause");
    }
}
