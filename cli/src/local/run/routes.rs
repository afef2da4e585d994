//! Tells everybody who routes to replicas, in the order that loses no request.

use stillwake_activator::{Activator, EndpointEvent, PortPair};
use stillwake_aggregator::{Aggregator, MembershipEvent, Pod};
use stillwake_proto::report::Workload;

use crate::local::{replica::Identity, service::Service, supervisor::Observer};

/// Stands for what the API server tells in a cluster.
#[derive(Debug)]
pub(super) struct Routes {
    pub(super) workload: Workload,
    pub(super) service: Service,
    pub(super) activator: Activator,
    pub(super) aggregator: Aggregator,
}

impl Routes {
    fn pod(&self, replica: &Identity, ready: bool, terminating: bool) {
        self.aggregator.apply(MembershipEvent::Pod(Pod {
            uid: replica.uid.clone(),
            name: replica.name.to_string(),
            workload: self.workload.clone(),
            ready,
            terminating,
            reports: true,
        }));
    }
}

impl Observer for Routes {
    fn started(&self, replica: &Identity) {
        self.pod(replica, false, false);
    }

    fn ready(&self, replica: &Identity) {
        let address = replica.address();
        self.activator.apply(EndpointEvent::Ready {
            workload: self.workload.clone(),
            uid: replica.uid.clone(),
            address: address.ip(),
            ports: vec![PortPair {
                listen: address.port(),
                app: replica.port,
            }],
        });
        self.service.add(&replica.uid, replica.address());
        self.pod(replica, true, false);
    }

    fn unready(&self, replica: &Identity) {
        self.service.remove(&replica.uid);
        self.activator.apply(EndpointEvent::Gone {
            workload: self.workload.clone(),
            uid: replica.uid.clone(),
        });
        self.pod(replica, false, true);
    }

    fn gone(&self, replica: &Identity) {
        let uid = replica.uid.clone();
        self.aggregator.apply(MembershipEvent::PodGone { uid });
    }
}
