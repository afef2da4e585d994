//! Finds the aggregators' addresses and keeps one connection to each.

use std::{collections::BTreeMap, fmt, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use stillwake_proto::report::Endpoint;
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    ReportingConfig, Source, Status,
    connection::Connection,
    names::{self, LookupError},
};

/// How soon names are resolved again after one of them failed.
const RESOLVE_AGAIN: Duration = Duration::from_secs(1);

/// Finds the addresses of `host:port`.
type Lookup = Box<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, LookupError>> + Send>>
        + Send
        + Sync,
>;

/// Reports one source to every aggregator.
pub struct Reporter {
    config: Arc<ReportingConfig>,
    source: Arc<dyn Source>,
    status: Status,
    lookup: Lookup,
}

impl fmt::Debug for Reporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Reporter")
            .field("config", &self.config)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Reporter {
    /// Creates a reporter; nothing is sent before [`run`](Self::run).
    pub fn new(config: ReportingConfig, source: Arc<dyn Source>) -> Self {
        Self {
            config: Arc::new(config),
            source,
            status: Status::default(),
            lookup: Box::new(|name| Box::pin(async move { names::lookup(&name).await })),
        }
    }

    /// Returns a handle that tells how the reporting goes.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// Reports until `stop` is cancelled; then sends one last report on each connection, closes it and returns.
    ///
    /// Endpoints that aggregators name go to `endpoints`, in order for each aggregator; while it is full, that
    /// aggregator waits. Drop the receiver if they are of no interest. Never fails: what goes wrong is logged, shown
    /// in the [`Status`] and tried again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes every connection without a last report.
    pub async fn run(self, endpoints: mpsc::Sender<Endpoint>, stop: CancellationToken) {
        let mut resolved = BTreeMap::new();
        let mut connections = Connections::default();
        loop {
            let mut lookups: FuturesUnordered<_> = self
                .config
                .aggregators
                .iter()
                .map(|name| self.resolve(name))
                .collect();
            let mut complete = true;
            loop {
                let answer = tokio::select! {
                    answer = lookups.next() => answer,
                    () = stop.cancelled() => return connections.end().await,
                };
                let Some((name, addresses)) = answer else {
                    break;
                };
                // A name that cannot be resolved keeps the addresses it had: an aggregator does not move because a
                // name server is away.
                match addresses {
                    Some(addresses) => drop(resolved.insert(name, addresses)),
                    None => complete = false,
                }
                connections.become_those_of(&self.places(&resolved), |address, host| {
                    let stop = stop.child_token();
                    let connection = Connection {
                        address,
                        host: host.to_owned(),
                        config: Arc::clone(&self.config),
                        source: Arc::clone(&self.source),
                        endpoints: endpoints.clone(),
                        entry: self.status.entry(address),
                        stop: stop.clone(),
                    };
                    (connection.keep(), stop)
                });
            }
            let interval = self.config.resolve_interval;
            let pause = if complete {
                interval
            } else {
                interval.min(RESOLVE_AGAIN)
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => return connections.end().await,
            }
        }
    }

    /// Returns each address with the host whose name has it, the first one of those that do.
    fn places(&self, resolved: &BTreeMap<&str, Vec<SocketAddr>>) -> BTreeMap<SocketAddr, &str> {
        let mut places = BTreeMap::new();
        for name in &self.config.aggregators {
            let addresses = resolved.get(name.as_str()).into_iter().flatten();
            // What has addresses has been taken apart before.
            let host = names::host_and_port(name).map_or(name.as_str(), |(host, _)| host);
            for address in addresses {
                places.entry(*address).or_insert(host);
            }
        }
        places
    }

    /// Returns the addresses of a name, `None` if it cannot be resolved now.
    async fn resolve<'a>(&self, name: &'a str) -> (&'a str, Option<Vec<SocketAddr>>) {
        // Whatever becomes of names, an address is one.
        if let Ok(address) = name.parse() {
            return (name, Some(vec![address]));
        }
        match (self.lookup)(name.to_owned()).await {
            Ok(addresses) => {
                self.status.resolved(name);
                (name, Some(addresses))
            }
            Err(error) => {
                // As for connections: that it goes on is no news.
                if self.status.unresolvable(name, error.to_string()) {
                    tracing::warn!(%name, %error, "Cannot resolve an aggregator's name, trying again");
                } else {
                    tracing::debug!(%name, %error, "Cannot resolve an aggregator's name");
                }
                (name, None)
            }
        }
    }
}

/// The connections that are kept, one to each address.
#[derive(Default)]
struct Connections {
    stops: BTreeMap<SocketAddr, CancellationToken>,
    tasks: JoinSet<()>,
}

impl Connections {
    /// Tells connections to other addresses to stop, and begins those that are missing.
    fn become_those_of<T: Future<Output = ()> + Send + 'static>(
        &mut self,
        places: &BTreeMap<SocketAddr, &str>,
        begin: impl Fn(SocketAddr, &str) -> (T, CancellationToken),
    ) {
        self.stops.retain(|address, stop| {
            let keep = places.contains_key(address);
            if !keep {
                tracing::info!(%address, "Aggregator address is gone");
                stop.cancel();
            }
            keep
        });
        for (address, host) in places {
            self.stops.entry(*address).or_insert_with(|| {
                let (task, stop) = begin(*address, host);
                self.tasks.spawn(task);
                stop
            });
        }
        // Ended ones were told to; there is nothing to learn from them.
        while self.tasks.try_join_next().is_some() {}
    }

    /// Waits for the end of all, each of which has been told to stop.
    async fn end(self) {
        self.tasks.join_all().await;
    }
}

#[cfg(test)]
mod tests;
