//! What one replica of the activator should do, by what the cluster says: for which Service ports to listen, where each
//! leads, who serves it, and what to tell people. Synchronous: fed with changes and the time, returns steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use stillwake_activator::{Availability, ListedEndpoint, Route, TargetPort};
use stillwake_cluster::services::{Backends, Change, Family, ScaledObject, Service};
use stillwake_proto::report::Workload;
use stillwake_slices::{board::ServicePort, share::serves};
use tokio::time::Instant;

mod notice;
mod reported;

pub(super) use self::notice::{Notice, Subject};
use self::{notice::Notices, reported::Reported};

/// How long an endpoint that an aggregator told of may be missing in the `EndpointSlice`s: longer than any kubelet takes
/// to find a pod ready, and short against the time after which the address of a pod that is gone is given to another.
const UNCONFIRMED: Duration = Duration::from_mins(1);

/// What there is to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// A workload can be woken, or not.
    Workload(Workload, Availability),
    /// Nobody scales the workload any longer.
    WorkloadGone(Workload),
    /// Listen for the port, if that is not done already, and publish it so.
    Listen(ServicePort, Listener),
    /// Do not listen for the port any longer.
    Close(ServicePort),
    /// These families of the port have a backend, others have none.
    Serving(ServicePort, BTreeSet<Family>),
    /// All endpoints of a route.
    Listed(Route, Vec<ListedEndpoint>),
    /// An endpoint that an aggregator told of is gone.
    Gone(Workload, String),
}

/// How to listen for a port.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listener {
    /// Where its connections lead.
    pub(super) route: Route,
    /// The port's `appProtocol`.
    pub(super) app_protocol: Option<String>,
    /// The Service's families.
    pub(super) families: Vec<Family>,
}

/// Which replica this is, and how the Services are shared.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// UID of this replica's pod.
    pub(super) replica: String,
    /// How many replicas take the connections of one Service.
    pub(super) copies: usize,
    /// There is a replica on every node.
    pub(super) every_node: bool,
}

/// Names an object of a namespace.
type Name = (String, String);

/// All that is known.
#[derive(Debug)]
pub(super) struct Plan {
    settings: Settings,
    /// Nothing is listened for before it is known who shares the Services.
    replicas: Option<Vec<String>>,
    scaled_objects: BTreeMap<Name, ScaledObject>,
    services: BTreeMap<Name, Service>,
    backends: BTreeMap<ServicePort, Backends>,
    /// What was asked to be listened for.
    listeners: BTreeMap<ServicePort, Listener>,
    reported: Reported,
    notices: Notices,
    steps: Vec<Step>,
}

impl Plan {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            replicas: None,
            scaled_objects: BTreeMap::new(),
            services: BTreeMap::new(),
            backends: BTreeMap::new(),
            listeners: BTreeMap::new(),
            reported: Reported::new(UNCONFIRMED),
            notices: Notices::default(),
            steps: Vec::new(),
        }
    }

    /// Takes in what has changed in the cluster.
    pub(super) fn apply(&mut self, change: Change, now: Instant) {
        match change {
            Change::ScaledObject(object) => {
                let name = (object.namespace.clone(), object.name.clone());
                self.notices.scaled_object(&object, now);
                let workload = object.workload.clone();
                let before = self.scaled_objects.insert(name, object);
                if let Some(before) = before.filter(|before| before.workload != workload) {
                    self.availability(before.workload);
                }
                self.availability(workload);
            }
            Change::ScaledObjectGone { namespace, name } => {
                let name = (namespace, name);
                self.notices.gone(Subject::ScaledObject, &name);
                if let Some(gone) = self.scaled_objects.remove(&name) {
                    self.availability(gone.workload);
                }
            }
            Change::Service(service) => {
                let name = (service.namespace.clone(), service.name.clone());
                self.notices
                    .service(&service, self.settings.every_node, now);
                self.services.insert(name.clone(), service);
                self.listen(&name);
            }
            Change::ServiceGone { namespace, name } => {
                let name = (namespace, name);
                self.notices.gone(Subject::Service, &name);
                self.services.remove(&name);
                self.listen(&name);
                self.backends.retain(|port, _| !is_of(port, &name));
                self.confirm();
            }
            Change::Backends(backends) => {
                let port = ServicePort {
                    namespace: backends.namespace.clone(),
                    service: backends.service.clone(),
                    port: backends.port.clone(),
                };
                self.backends.insert(port.clone(), backends);
                self.tell_backends(&port);
                self.confirm();
            }
            Change::Synced => {}
        }
    }

    /// Takes in which replicas live, this one among them or not.
    pub(super) fn replicas(&mut self, replicas: Vec<String>) {
        if self.replicas.as_ref() == Some(&replicas) {
            return;
        }
        self.replicas = Some(replicas);
        let services: Vec<_> = self.services.keys().cloned().collect();
        for service in services {
            self.listen(&service);
        }
    }

    /// An aggregator says that an endpoint takes requests.
    pub(super) fn reported(&mut self, workload: &Workload, uid: &str, now: Instant) {
        self.reported.ready(workload, uid, now);
        self.confirm();
    }

    /// An aggregator says that an endpoint takes none.
    pub(super) fn withdrawn(&mut self, uid: &str) {
        self.reported.gone(uid);
    }

    /// Returns what is to be done, in order, and forgets it.
    pub(super) fn steps(&mut self, now: Instant) -> Vec<Step> {
        let gone = self.reported.expired(now);
        let gone = gone
            .into_iter()
            .map(|(workload, uid)| Step::Gone(workload, uid));
        self.steps.extend(gone);
        std::mem::take(&mut self.steps)
    }

    /// Returns what to tell people by now. Of the replicas only one tells them.
    pub(super) fn notices(&mut self, now: Instant) -> Vec<Notice> {
        let mut notices = self.notices.due(now);
        notices.retain(|notice| self.is_among(1, &notice.namespace, &notice.name));
        notices
    }

    /// Returns when there is something without any change.
    pub(super) fn next_due(&self) -> Option<Instant> {
        [self.reported.next_due(), self.notices.next_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns what is known, for a person to read.
    pub(super) fn debug_state(&self) -> serde_json::Value {
        let objects = self
            .scaled_objects
            .iter()
            .map(|((namespace, name), object)| {
                serde_json::json!({
                    "scaled_object": format!("{namespace}/{name}"),
                    "workload": object.workload.to_string(),
                    "services": object.services,
                    "trouble": object.trouble.as_ref().map(ToString::to_string),
                })
            });
        let services = self.services.iter().map(|((namespace, name), service)| {
            let ports = service.ports.iter().map(|port| {
                let port = ServicePort {
                    namespace: namespace.clone(),
                    service: name.clone(),
                    port: port.name.clone(),
                };
                serde_json::json!({
                    "port": port.port,
                    "ours": self.listeners.contains_key(&port),
                    "backends": self.backends.get(&port).map(|backends| backends.backends.len()),
                })
            });
            serde_json::json!({
                "service": format!("{namespace}/{name}"),
                "workload": service.workload.to_string(),
                "refused": service.refused.as_ref().map(ToString::to_string),
                "ports": ports.collect::<Vec<_>>(),
            })
        });
        serde_json::json!({
            "scaled_objects": objects.collect::<Vec<_>>(),
            "services": services.collect::<Vec<_>>(),
            "replicas": self.replicas,
        })
    }

    /// Works out whether a workload can be woken.
    fn availability(&mut self, workload: Workload) {
        let of_it = |object: &&ScaledObject| object.workload == workload;
        let objects: Vec<_> = self.scaled_objects.values().filter(of_it).collect();
        let hindered: Option<Vec<_>> = objects.iter().map(|object| hindrance(object)).collect();
        self.steps.push(match (objects.is_empty(), hindered) {
            (true, _) => Step::WorkloadGone(workload),
            // One that can wake it is enough.
            (false, None) => Step::Workload(workload, Availability::Available),
            (false, Some(reasons)) => {
                let reason = reasons.join("; ");
                Step::Workload(workload, Availability::Unavailable { reason })
            }
        });
    }

    /// Works out which ports of a Service to listen for.
    fn listen(&mut self, name: &Name) {
        let service = self.services.get(name);
        let served = service.filter(|service| service.refused.is_none());
        let ports: BTreeMap<_, _> = served
            .into_iter()
            .flat_map(|service| service.ports.iter().map(move |port| (service, port)))
            .map(|(service, port)| {
                let listener = Listener {
                    route: Route {
                        workload: service.workload.clone(),
                        name: format!("{}/{}", service.name, port.name),
                        target: port
                            .app_port
                            .map_or(TargetPort::Unresolved, TargetPort::App),
                    },
                    app_protocol: port.app_protocol.clone(),
                    families: service.families.clone(),
                };
                let port = ServicePort {
                    namespace: service.namespace.clone(),
                    service: service.name.clone(),
                    port: port.name.clone(),
                };
                (port, listener)
            })
            .collect();
        let ports = if self.is_ours(name) {
            ports
        } else {
            BTreeMap::new()
        };
        let closed: Vec<_> = self
            .listeners
            .iter()
            .filter(|(port, listener)| {
                let now = ports.get(port);
                is_of(port, name) && now.is_none_or(|now| now.route != listener.route)
            })
            .map(|(port, listener)| (port.clone(), listener.route.clone()))
            .collect();
        for (port, route) in closed {
            self.listeners.remove(&port);
            // Its connections may go on for a while, with what is known now; nothing keeps it right from here on, and
            // what an aggregator tells goes on.
            self.steps.push(Step::Listed(route, Vec::new()));
            self.steps.push(Step::Close(port));
        }
        for (port, listener) in ports {
            if self.listeners.get(&port) == Some(&listener) {
                continue;
            }
            self.listeners.insert(port.clone(), listener.clone());
            self.steps.push(Step::Listen(port.clone(), listener));
            self.tell_backends(&port);
        }
    }

    /// Says who serves a port, if that is known and the port is listened for.
    fn tell_backends(&mut self, port: &ServicePort) {
        let (Some(backends), Some(listener)) = (self.backends.get(port), self.listeners.get(port))
        else {
            return;
        };
        let listed = backends.backends.iter().map(|backend| ListedEndpoint {
            uid: backend.uid.clone(),
            addresses: backend.addresses.clone(),
        });
        let families = [Family::IPv4, Family::IPv6].into_iter();
        let serving = families.filter(|family| backends.serve(*family)).collect();
        self.steps
            .push(Step::Listed(listener.route.clone(), listed.collect()));
        self.steps.push(Step::Serving(port.clone(), serving));
    }

    /// Compares what aggregators have told with what the `EndpointSlice`s list.
    fn confirm(&mut self) {
        if self.reported.is_empty() {
            return;
        }
        let backends = self
            .backends
            .values()
            .flat_map(|backends| &backends.backends);
        let listed = backends.map(|backend| backend.uid.as_str()).collect();
        let gone = self.reported.listed(&listed).into_iter();
        let gone = gone.map(|(workload, uid)| Step::Gone(workload, uid));
        self.steps.extend(gone);
    }

    fn is_ours(&self, (namespace, name): &Name) -> bool {
        self.settings.every_node || self.is_among(self.settings.copies, namespace, name)
    }

    /// Whether this is one of the first `copies` replicas where the object is concerned.
    fn is_among(&self, copies: usize, namespace: &str, name: &str) -> bool {
        self.replicas.as_ref().is_some_and(|replicas| {
            let replicas = replicas.iter().map(String::as_str);
            serves(&self.settings.replica, namespace, name, replicas, copies)
        })
    }
}

fn is_of(port: &ServicePort, (namespace, name): &Name) -> bool {
    port.namespace == *namespace && port.service == *name
}

/// Returns what keeps a `ScaledObject` from waking its target, in words that end "… cannot be started: ".
fn hindrance(object: &ScaledObject) -> Option<String> {
    use stillwake_cluster::services::Trouble;
    let ScaledObject { name, paused, .. } = object;
    if paused.entirely {
        return Some(format!("its ScaledObject {name} is paused"));
    }
    if paused.scale_out {
        return Some(format!("its ScaledObject {name} is paused for scaling out"));
    }
    match &object.trouble {
        Some(Trouble::NoTarget { kind, name }) => Some(format!("there is no {kind} {name}")),
        Some(Trouble::NoReplicas { kind, .. }) => {
            Some(format!("a {kind} has no number of replicas"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
