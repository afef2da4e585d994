//! Finds the way of a connection by the pod that it was for, and the port.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use stillwake_proto::report::Workload;
use tokio::time::Instant;

use self::pods::Pods;
use crate::{
    event::{EndpointEvent, ListedEndpoint},
    holder::Holder,
    route::{Route, TargetPort},
};

mod pods;

/// The pods of all workloads, and the routes that are listened for.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pods: Mutex<Pods<Arc<Holder>>>,
    /// With the number of their listeners.
    routes: Mutex<BTreeMap<Arc<Route>, usize>>,
}

impl Directory {
    /// Learns of an endpoint of the holder's workload.
    pub(crate) fn apply(&self, event: &EndpointEvent, holder: &Arc<Holder>) {
        let now = Instant::now();
        let mut pods = self.pods.lock();
        match event {
            EndpointEvent::Ready { uid, ports, .. } => {
                let ports = ports.iter().map(|pair| pair.app).collect();
                pods.reported(uid, holder, ports, now);
            }
            EndpointEvent::Gone { uid, .. } => pods.gone(uid, holder, now),
        }
    }

    /// Learns all endpoints that are listed for a route of the holder's workload.
    pub(crate) fn set_listed(
        &self,
        route: &Route,
        endpoints: &[ListedEndpoint],
        holder: &Arc<Holder>,
    ) {
        let uids = endpoints.iter().map(|endpoint| endpoint.uid.as_str());
        self.pods.lock().listed(route, uids, holder, Instant::now());
    }

    /// Notes that the route is listened for, until what is returned is dropped.
    pub(crate) fn listening(self: &Arc<Self>, route: &Arc<Route>) -> Listening {
        *self.routes.lock().entry(Arc::clone(route)).or_default() += 1;
        Listening {
            directory: Arc::clone(self),
            route: Arc::clone(route),
        }
    }

    /// Returns where a connection leads that was for the pod with this UID and the app's port of this number: on the way
    /// of the Service port that leads there, or on one of its own if none is listened for here.
    pub(crate) fn find(&self, uid: &str, app: u16) -> Option<(Arc<Holder>, Arc<Route>)> {
        let (holder, is_told) = {
            let pods = self.pods.lock();
            let (holder, ports) = pods.find(uid, Instant::now())?;
            (Arc::clone(holder), ports.contains(&app))
        };
        let workload = holder.workload();
        let route = self.listened_for(workload, app).or_else(|| {
            // Only for ports that there are: whoever connects could make up others without end.
            is_told.then(|| {
                Arc::new(Route {
                    workload: workload.clone(),
                    name: format!("port {app}"),
                    target: TargetPort::App(app),
                })
            })
        })?;
        Some((holder, route))
    }

    /// Returns a route to the app's port of this number, or to the only one there is.
    fn listened_for(&self, workload: &Workload, app: u16) -> Option<Arc<Route>> {
        let routes = self.routes.lock();
        // The first that a workload could have.
        let first = Route::only(workload.clone());
        let routes = routes.range(first..).map(|(route, _)| route);
        let routes = routes.take_while(|route| route.workload == *workload);
        let to = |target| routes.clone().find(|route| route.target == target);
        to(TargetPort::App(app))
            .or_else(|| to(TargetPort::First))
            .cloned()
    }
}

/// A route that is listened for.
#[derive(Debug)]
pub(crate) struct Listening {
    directory: Arc<Directory>,
    route: Arc<Route>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut routes = self.directory.routes.lock();
        if let Some(listeners) = routes.get_mut(&self.route) {
            *listeners -= 1;
            if *listeners == 0 {
                routes.remove(&self.route);
            }
        }
    }
}
