//! The sockets on which Services' connections arrive: one for each of their ports. Which they should be is the plan's
//! business.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use stillwake_activator::{Activator, Route};
use stillwake_runtime::accept::{BindError, bind};
use stillwake_slices::board::ServicePort;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::control::args::Ports;

/// How long a port that is not published any more is listened on: until every node has heard of it, and whoever keeps its
/// addresses for longer, such as gateways, has looked again.
const LINGER: Duration = Duration::from_mins(1);

/// All sockets.
#[derive(Debug)]
pub(super) struct Listeners {
    activator: Activator,
    address: IpAddr,
    ports: Ports,
    open: BTreeMap<ServicePort, Open>,
    /// What is served, until its last connection has ended.
    pub(super) served: TaskTracker,
    /// Cancelled when nothing new is to be taken on any of them.
    pub(super) drain: CancellationToken,
    /// Cancelled when what is held is to be answered at once.
    pub(super) abort: CancellationToken,
}

#[derive(Debug)]
struct Open {
    number: u16,
    route: Route,
    drain: CancellationToken,
}

impl Listeners {
    /// Listens on `address`, in the range `ports`.
    pub(super) fn new(activator: Activator, address: IpAddr, ports: Ports) -> Self {
        Self {
            activator,
            address,
            ports,
            open: BTreeMap::new(),
            served: TaskTracker::new(),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
        }
    }

    /// Listens for a Service's port, if that is not done already. Returns the number of our own port.
    pub(super) fn listen(&mut self, port: &ServicePort, route: &Route) -> Result<u16, BindError> {
        if let Some(open) = self.open.get(port).filter(|open| open.route == *route) {
            return Ok(open.number);
        }
        let (listener, number) = self.bind(port)?;
        let open = Open {
            number,
            route: route.clone(),
            drain: self.drain.child_token(),
        };
        let (activator, route) = (self.activator.clone(), route.clone());
        let (drain, abort) = (open.drain.clone(), self.abort.clone());
        self.served
            .spawn(async move { activator.serve(listener, route, drain, abort).await });
        if let Some(before) = self.open.insert(port.clone(), open) {
            self.close_later(before);
        }
        Ok(number)
    }

    /// Closes the socket once nobody connects to it any more.
    pub(super) fn close(&mut self, port: &ServicePort) {
        if let Some(open) = self.open.remove(port) {
            self.close_later(open);
        }
    }

    fn close_later(&self, open: Open) {
        let drain = self.drain.clone();
        self.served.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(LINGER) => open.drain.cancel(),
                () = drain.cancelled() => {}
            }
        });
    }

    /// Binds the first free port from a place on that depends on the Service's port alone: a container that is started
    /// again finds the ports again that its slices still name.
    fn bind(&self, port: &ServicePort) -> Result<(TcpListener, u16), BindError> {
        let what = format!(
            "port '{}' of Service {}/{}",
            port.port, port.namespace, port.service
        );
        let Ports(range) = &self.ports;
        let count = u64::from(range.end() - range.start()) + 1;
        let mut hash = DefaultHasher::new();
        (&port.namespace, &port.service, &port.port).hash(&mut hash);
        let place = u16::try_from(hash.finish() % count).unwrap_or_default();
        let mut numbers = range
            .clone()
            .skip(place.into())
            .chain(range.clone().take(place.into()));
        let at = |number| {
            let address = SocketAddr::new(self.address, number);
            bind(&what, address).map(|listener| (listener, number))
        };
        match numbers.find_map(|number| at(number).ok()) {
            Some(bound) => Ok(bound),
            // Says why.
            None => at(*range.start()),
        }
    }
}
